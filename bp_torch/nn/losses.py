"""Cost modules: torch.nn's own, with a forward that calls the hand-written function."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
    "SquaredError",
]


class SquaredError(torch.nn.Module):
    """The lecture's cost, which torch.nn lacks: see `bp_torch.functional.squared_error`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Squared differences of (N, C) and (N, C), summed over C and averaged over N."""
        return functional.squared_error(input, target)


class MSELoss(torch.nn.MSELoss):
    """See `bp_torch.functional.mse_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Squared differences of (*) and (*), reduced."""
        return functional.mse_loss(input, target, reduction=self.reduction)


class L1Loss(torch.nn.L1Loss):
    """See `bp_torch.functional.l1_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Absolute differences of (*) and (*), reduced."""
        return functional.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(torch.nn.SmoothL1Loss):
    """See `bp_torch.functional.smooth_l1_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Squares near, absolute differences far, of (*) and (*), reduced."""
        return functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    """See `bp_torch.functional.binary_cross_entropy_with_logits`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy of logits (*) against probabilities (*), reduced."""
        return functional.binary_cross_entropy_with_logits(
            input, target, self.weight, pos_weight=self.pos_weight, reduction=self.reduction
        )


class NLLLoss(torch.nn.NLLLoss):
    """See `bp_torch.functional.nll_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Minus the log-probabilities (N, C) of the classes (N,), reduced."""
        return functional.nll_loss(
            input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """See `bp_torch.functional.cross_entropy`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits (N, C) against classes (N,) or probabilities (N, C), reduced."""
        return functional.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
