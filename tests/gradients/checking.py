"""What tests of the checker share: planted bugs by name, a ReLU with any slope at 0, and the failures of a report."""

from collections.abc import Callable
from typing import Any

import torch
from planted import BUGS, CORRECT, Bug, CorrectFunction
from torch import Tensor

from bp_torch.gradients import GradientReport, check_gradients

PLANTED: dict[str, Bug | CorrectFunction] = {case.name: case for case in (*BUGS, *CORRECT)}
"""Planted bugs and correct functions by name."""


def check_planted(name: str, *, with_reference: bool = True, **options: Any) -> GradientReport:
    """The report on a planted bug or a correct function."""
    case = PLANTED[name]
    reference = case.reference if with_reference else None
    return check_gradients(case.function, case.samples, reference=reference, **options)


def relu_with(slope: float) -> Callable[[Tensor], Tensor]:
    """A ReLU whose gradient at 0 is `slope`."""

    class ReLU(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return grad_output * torch.where(x == 0, slope, (x > 0).to(x.dtype))

    return ReLU.apply


def failed(report: GradientReport) -> set[tuple[str, str]]:
    """The check and the variant of each failure."""
    return {(result.check, result.variant) for result in report.failures}
