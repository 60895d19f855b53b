"""Modules that change shapes: torch.nn's own, with a forward that calls the hand-written function."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = ["Flatten", "Unflatten"]


class Flatten(torch.nn.Flatten):
    """See `bp_torch.functional.flatten`."""

    def forward(self, input: Tensor) -> Tensor:
        """The axes from `start_dim` to `end_dim` made one, (N, C, H, W) to (N, C·H·W)."""
        return functional.flatten(input, self.start_dim, self.end_dim)


class Unflatten(torch.nn.Unflatten):
    """See `bp_torch.functional.unflatten`."""

    def forward(self, input: Tensor) -> Tensor:
        """The axis `dim` made several, (N, C·H·W) to (N, C, H, W)."""
        return functional.unflatten(input, self.dim, self.unflattened_size)
