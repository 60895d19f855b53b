"""Modules of dropout; in evaluation they return their input."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class Dropout(torch.nn.Dropout):
    """Elements replaced by 0 with probability p, the others divided by 1 − p, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(torch.nn.Dropout1d):
    """Dropout of whole channels, (N, C, L) or (C, L) to the same."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(torch.nn.Dropout2d):
    """Dropout of whole channels, (N, C, H, W) to the same."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(torch.nn.Dropout3d):
    """Dropout of whole channels, (N, C, D, H, W) or (C, D, H, W) to the same."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(torch.nn.AlphaDropout):
    """Dropout that keeps mean 0 and variance 1 after SELU, (*) to (*); as in torch, never in place."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(torch.nn.FeatureAlphaDropout):
    """AlphaDropout of whole channels, (N, C, *) to (N, C, *); as in torch, never in place."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.feature_alpha_dropout(input, self.p, self.training)
