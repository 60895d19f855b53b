"""Modules that are not activations, losses or of a family of their own: dense layers and shapes."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = ["Flatten", "Linear", "Unflatten"]


class Linear(torch.nn.Linear):
    """The weighted sum input · weightᵀ + bias, (*, in) to (*, out)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight, self.bias)


class Flatten(torch.nn.Flatten):
    """Merges the axes from `start_dim` to `end_dim`, (N, C, H, W) to (N, C·H·W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.flatten(input, self.start_dim, self.end_dim)


class Unflatten(torch.nn.Unflatten):
    """Splits the axis `dim`, (N, C·H·W) to (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.unflatten(input, self.dim, self.unflattened_size)
