"""The gradient inside PyTorch's wrappers: checkpointing, accumulation, autocast, `torch.compile`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients.checking import check_planted, failed, numbers, statuses
from planted.custom import Cube
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bp_torch.gradients import check_gradients

COMPOSITION = ("accumulation", "checkpoint", "autocast", "torch.compile")


def test_a_right_function_passes_all() -> None:
    report = check_gradients(Cube, [(numbers(4, dtype=torch.float32),)], reference=lambda x: x**3, checks=COMPOSITION)
    assert statuses(report) == {check: {"passed"} for check in COMPOSITION}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("matmul: adds an existing .grad", "accumulation"),
        ("square: no slope in a forward inside a backward", "checkpoint"),
        ("square: slope 1 under autocast", "autocast"),
        ("silu: gate detached under torch.compile", "torch.compile"),
    ],
)
def test_a_function_that_is_wrong_in_a_wrapper(name: str, check: str) -> None:
    report = check_planted(name, with_reference=False, checks=("gradient", *COMPOSITION), seconds=20)
    assert failed(report).keys() == {check}, str(report)
    assert f"GRADIENT PASSED: gradient right in float64; wrong: {check}" in report.verdict


@pytest.mark.parametrize(
    "function",
    [lambda x: (x.sin(), (x.cos(),)), lambda x: {"a": x.sin(), "b": [x.cos()]}, lambda x: (x.sin(), None, x.long())],
)
def test_nested_outputs(function: Callable[[Tensor], Any]) -> None:
    """Reentrant checkpointing drops the gradients of nested outputs."""
    report = check_gradients(function, [(numbers(4, dtype=torch.float32),)], checks=COMPOSITION)
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
    report = check_gradients(Checkpointed(reentrant=reentrant), [(numbers(2, 3, dtype=torch.float32),)], seconds=6)
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
        Shifted(reentrant=False), [(numbers(2, 3, dtype=torch.float32),)], checks="gradient", fail_fast=True
    ).failures
    assert failure.check == "gradient"
