"""The gradient inside PyTorch's wrappers: checkpointing, accumulation, autocast, `torch.compile`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bp_torch.gradients import GradientReport, check_gradients

COMPOSITION = ("accumulation", "checkpoint", "autocast", "torch.compile")


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def statuses(report: GradientReport) -> dict[str, set[str]]:
    return {check: {r.status for r in report.results if r.check == check} for check in COMPOSITION}


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad_output  # type: ignore[no-any-return]


class WrongIfRecomputed(Cube):
    """Saves other numbers if it is called during a backward, as by checkpointing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x if torch._C._current_graph_task_id() == -1 else 2 * x)
        return x**3


class WrongIfCompiled(Cube):
    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (4 if torch.compiler.is_compiling() else 3) * x * x * grad_output  # type: ignore[no-any-return]


class WrongUnderAutocast(Cube):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(2 * x if torch.is_autocast_enabled("cpu") else x)
        return x**3


class Accumulating(Cube):
    """Adds to a gradient that is there already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x
        return x**3

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        gradient = 3 * ctx.x.detach() ** 2 * grad_output
        return gradient if ctx.x.grad is None else gradient + ctx.x.grad  # type: ignore[no-any-return]


def test_a_right_function_passes_all() -> None:
    report = check_gradients(Cube, [(numbers(4),)], reference=lambda x: x**3, checks=COMPOSITION)
    assert statuses(report) == {check: {"passed"} for check in COMPOSITION}


@pytest.mark.parametrize(
    ("function", "check"),
    [
        (Accumulating, "accumulation"),
        (WrongIfRecomputed, "checkpoint"),
        (WrongUnderAutocast, "autocast"),
        (WrongIfCompiled, "torch.compile"),
    ],
)
def test_a_function_that_is_wrong_in_a_wrapper(function: Callable[..., Any], check: str) -> None:
    report = check_gradients(function, [(numbers(4),)], checks=("gradient", *COMPOSITION), seconds=20)
    assert {result.check for result in report.failures} == {check}, str(report)
    assert report.verdict.endswith(f"wrong: {check}")


@pytest.mark.parametrize(
    "function",
    [lambda x: (x.sin(), (x.cos(),)), lambda x: {"a": x.sin(), "b": [x.cos()]}, lambda x: (x.sin(), None, x.long())],
)
def test_nested_outputs(function: Callable[[Tensor], Any]) -> None:
    """Reentrant checkpointing drops the gradients of nested outputs."""
    report = check_gradients(function, [(numbers(4),)], checks=COMPOSITION)
    assert report.passed, str(report)


class Checkpointed(torch.nn.Module):
    """A layer whose backward calls its submodule again."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=self.reentrant).square()  # type: ignore[no-any-return]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_module_that_recomputes(reentrant: bool) -> None:
    report = check_gradients(Checkpointed(reentrant=reentrant), [(numbers(2, 3),)], seconds=6)
    assert report.passed, str(report)
    assert report.inputs == ("x", "self.inner.0.weight", "self.inner.0.bias")
    checked = [result for result in report.results if result.check == "gradient" and result.status == "passed"]
    assert {"x", "self.inner.0.weight", "self.inner.0.bias"} <= {result.input for result in checked}


def test_a_module_that_recomputes_something_else() -> None:
    class Shifted(Checkpointed):
        def forward(self, x: Tensor) -> Tensor:
            calls = []

            def inner(x: Tensor) -> Tensor:
                calls.append(1)
                return self.inner(len(calls) * x)  # type: ignore[no-any-return]

            return checkpoint(inner, x, use_reentrant=False)  # type: ignore[no-any-return]

    (failure,) = check_gradients(
        Shifted(reentrant=False), [(numbers(2, 3),)], checks="gradient", fail_fast=True
    ).failures
    assert failure.check == "gradient"
