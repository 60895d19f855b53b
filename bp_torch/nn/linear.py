"""The linear layer: torch.nn's own, with a forward that calls the hand-written function."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = ["Linear"]


class Linear(torch.nn.Linear):
    """See `bp_torch.functional.linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Input (*, in) times weightᵀ plus bias: (*, out)."""
        return functional.linear(input, self.weight, self.bias)
