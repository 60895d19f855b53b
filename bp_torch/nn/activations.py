"""Modules of the activations, (*) to (*)."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class Sigmoid(torch.nn.Sigmoid):
    """σ(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.sigmoid(input)


class Tanh(torch.nn.Tanh):
    """tanh(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.tanh(input)


class ReLU(torch.nn.ReLU):
    """max(input, 0), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(input, self.inplace)


class LeakyReLU(torch.nn.LeakyReLU):
    """Input where positive, otherwise negative_slope · input, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.leaky_relu(input, self.negative_slope, self.inplace)


class ELU(torch.nn.ELU):
    """Input where positive, otherwise α (eˣ − 1), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.elu(input, self.alpha, self.inplace)


class Softplus(torch.nn.Softplus):
    """log(1 + e^(β input)) / β, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softplus(input, self.beta, self.threshold)


class SiLU(torch.nn.SiLU):
    """Input times σ(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.silu(input, self.inplace)


class GELU(torch.nn.GELU):
    """Input times Φ(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.gelu(input, self.approximate)


class Softmax(torch.nn.Softmax):
    """Probabilities along `dim`, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmax(input, self.dim, _stacklevel=5)


class LogSoftmax(torch.nn.LogSoftmax):
    """Log-probabilities along `dim`, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.log_softmax(input, self.dim, _stacklevel=5)


class Softmin(torch.nn.Softmin):
    """Probabilities along `dim`, the largest for the smallest input, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmin(input, self.dim, _stacklevel=5)


class Softmax2d(torch.nn.Softmax2d):
    """Probabilities over the channels of each pixel, (N, C, H, W) or (C, H, W) to the same."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: expected (N, C, H, W) or (C, H, W), but input is {tuple(input.shape)}")
        return functional.softmax(input, -3, _stacklevel=5)


class Hardtanh(torch.nn.Hardtanh):
    """Input clipped to [min_val, max_val], (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardtanh(input, self.min_val, self.max_val, self.inplace)


class ReLU6(torch.nn.ReLU6):
    """Input clipped to [0, 6], (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu6(input, self.inplace)


class Hardsigmoid(torch.nn.Hardsigmoid):
    """(input + 3) / 6 clipped to [0, 1], (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardsigmoid(input, self.inplace)


class Hardswish(torch.nn.Hardswish):
    """Input times hardsigmoid(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardswish(input, self.inplace)


class Threshold(torch.nn.Threshold):
    """Input where greater than threshold, otherwise value, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.threshold(input, self.threshold, self.value, self.inplace)


class Hardshrink(torch.nn.Hardshrink):
    """Input where |input| > λ, otherwise 0, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.hardshrink(input, self.lambd)


class Softshrink(torch.nn.Softshrink):
    """Input moved towards 0 by λ, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softshrink(input, self.lambd)


class Mish(torch.nn.Mish):
    """Input times tanh(softplus(input)), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.mish(input, self.inplace)


class SELU(torch.nn.SELU):
    """λ times ELU with α ≈ 1.67, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.selu(input, self.inplace)


class CELU(torch.nn.CELU):
    """Input where positive, otherwise α (e^(input/α) − 1), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.celu(input, self.alpha, self.inplace)


class PReLU(torch.nn.PReLU):
    """Input where positive, otherwise weight · input, with learned weights, (N, C, *) to (N, C, *)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.prelu(input, self.weight)


class RReLU(torch.nn.RReLU):
    """Input where positive, otherwise input times a random slope, in evaluation the mean slope, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class Softsign(torch.nn.Softsign):
    """Input / (1 + |input|), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softsign(input)


class LogSigmoid(torch.nn.LogSigmoid):
    """log σ(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.logsigmoid(input)


class Tanhshrink(torch.nn.Tanhshrink):
    """Input − tanh(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.tanhshrink(input)


class GLU(torch.nn.GLU):
    """First half along `dim` times σ of the second, (*, 2n, *) to (*, n, *)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.glu(input, self.dim)
