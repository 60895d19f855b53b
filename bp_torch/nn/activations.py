"""Activation modules: torch.nn's own, with a forward that calls the hand-written function."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "LeakyReLU",
    "LogSoftmax",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


class Sigmoid(torch.nn.Sigmoid):
    """See `bp_torch.functional.sigmoid`."""

    def forward(self, input: Tensor) -> Tensor:
        """σ(input), (*) to (*)."""
        return functional.sigmoid(input)


class Tanh(torch.nn.Tanh):
    """See `bp_torch.functional.tanh`."""

    def forward(self, input: Tensor) -> Tensor:
        """tanh(input), (*) to (*)."""
        return functional.tanh(input)


class ReLU(torch.nn.ReLU):
    """See `bp_torch.functional.relu`."""

    def forward(self, input: Tensor) -> Tensor:
        """max(input, 0), (*) to (*)."""
        return functional.relu(input, self.inplace)


class LeakyReLU(torch.nn.LeakyReLU):
    """See `bp_torch.functional.leaky_relu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Input where positive, otherwise a little of it, (*) to (*)."""
        return functional.leaky_relu(input, self.negative_slope, self.inplace)


class ELU(torch.nn.ELU):
    """See `bp_torch.functional.elu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Input where positive, otherwise α (eˣ − 1), (*) to (*)."""
        return functional.elu(input, self.alpha, self.inplace)


class Softplus(torch.nn.Softplus):
    """See `bp_torch.functional.softplus`."""

    def forward(self, input: Tensor) -> Tensor:
        """log(1 + e^(β input)) / β, (*) to (*)."""
        return functional.softplus(input, self.beta, self.threshold)


class SiLU(torch.nn.SiLU):
    """See `bp_torch.functional.silu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Input times σ(input), (*) to (*)."""
        return functional.silu(input, self.inplace)


class GELU(torch.nn.GELU):
    """See `bp_torch.functional.gelu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Input times Φ(input), (*) to (*)."""
        return functional.gelu(input, self.approximate)


class Softmax(torch.nn.Softmax):
    """See `bp_torch.functional.softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Probabilities along `dim`, (*) to (*)."""
        return functional.softmax(input, self.dim, _stacklevel=5)


class LogSoftmax(torch.nn.LogSoftmax):
    """See `bp_torch.functional.log_softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Log-probabilities along `dim`, (*) to (*)."""
        return functional.log_softmax(input, self.dim, _stacklevel=5)


ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "softplus": Softplus,
    "silu": SiLU,
    "gelu": GELU,
    "identity": torch.nn.Identity,
}
"""What may follow a weighted sum, by name."""
