"""Modules of the activations, (*) to (*)."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = ["ELU", "GELU", "LeakyReLU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]


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
