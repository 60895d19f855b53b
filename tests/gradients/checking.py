"""What tests of the checker share: numbers, wrong gradients, planted bugs by name, and parts of a report."""

from collections.abc import Callable
from typing import Any

import torch
from planted import BUGS, CORRECT, Bug, CorrectFunction
from torch import Tensor

from bp_torch.gradients import GradientReport, check_gradients

PLANTED: dict[str, Bug | CorrectFunction] = {case.name: case for case in (*BUGS, *CORRECT)}
"""Planted bugs and correct functions, by name."""


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normally distributed numbers, the same in every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


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


def with_gradient(function: Callable[[Tensor], Tensor], factor: float) -> Callable[[Tensor], Tensor]:
    """The same value, and a multiple of the gradient."""

    def changed(x: Tensor) -> Tensor:
        y = function(x)
        return y.detach() + factor * (y - y.detach())

    return changed


def check_planted(name: str, *, with_reference: bool = True, **options: Any) -> GradientReport:
    """The report on a planted bug or a correct function."""
    case = PLANTED[name]
    reference = case.reference if with_reference else None
    return check_gradients(case.function, case.samples, reference=reference, **options)


def statuses(report: GradientReport) -> dict[str, set[str]]:
    """The statuses of the results, by check."""
    found: dict[str, set[str]] = {}
    for result in report.results:
        found.setdefault(result.check, set()).add(result.status)
    return found


def failed(report: GradientReport) -> dict[str, set[str]]:
    """The variants that failed, by check."""
    found: dict[str, set[str]] = {}
    for result in report.failures:
        found.setdefault(result.check, set()).add(result.variant)
    return found
