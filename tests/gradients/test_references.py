"""Function and reference disagree: finite differences decide who is wrong."""

from typing import Any

import pytest
import torch
from gradients.checking import numbers, relu_with
from torch import Tensor

from bp_torch.gradients import check_gradients
from bp_torch.gradients.checks.first_order import REFERENCE_WRONG, SUBGRADIENT


class IndexCopy(torch.autograd.Function):
    """x with the rows y at an index; of repeated indices, the last counts. PyTorch's own gradient counts them all."""

    factor = 1

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return x.index_copy(0, index, y)

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor]:
        (index,) = ctx.saved_tensors
        last = {at: number for number, at in enumerate(index.tolist())}
        counts = torch.tensor([last[at] == number for number, at in enumerate(index.tolist())])
        return grad_output.index_fill(0, index, 0), None, cls.factor * grad_output[index] * counts[:, None]


class WrongIndexCopy(IndexCopy):
    factor = 3


def index_copy(x: Tensor, index: Tensor, y: Tensor) -> Tensor:
    return x.index_copy(0, index, y)


REPEATED = (numbers(5, 3), torch.tensor([0, 3, 0]), numbers(3, 3))


def test_a_wrong_reference_is_named() -> None:
    report = check_gradients(IndexCopy, [REPEATED], reference=index_copy)
    assert report.passed, str(report)
    assert "the reference is wrong: gradient of 'y'" in report.verdict
    assert f"note: gradient of 'y', as given: {REFERENCE_WRONG}" in str(report)
    assert any(result.status == "passed" and result.check == "linearity" for result in report.results)


def test_both_are_wrong() -> None:
    assert not check_gradients(WrongIndexCopy, [REPEATED], reference=index_copy, checks=("gradient",)).passed


def test_the_reference_is_right() -> None:
    report = check_gradients(lambda x: 2 * x - x.detach(), [(numbers(3),)], reference=lambda x: x, checks=("gradient",))
    assert {result.status for result in report.results} == {"failed"}
    assert "the reference is wrong" not in str(report)


@pytest.mark.parametrize(
    ("slope", "valid"), [(0.5, True), (1.0, True), (2.0, False), (-1.0, False), (torch.nan, False)]
)
def test_another_choice_at_a_kink_is_named_as_one(slope: float, valid: bool) -> None:
    report = check_gradients(relu_with(slope), [(numbers(4, 3),)], reference=torch.relu, checks=("value", "gradient"))
    at_zero = [result for result in report.results if result.message.startswith("at")]
    assert {result.kind for result in at_zero} <= {"kink", "constant"}
    assert {"OTHER SUBGRADIENT" in result.message for result in at_zero} == {valid}, str(report)
    assert (f"hint: {SUBGRADIENT}" in str(report)) == valid


class HardSigmoid(torch.autograd.Function):
    """max(0, min(1, x/6 + 1/2)), whose slope has 8 digits in PyTorch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x / 6 + 0.5).clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_output * (x.abs() < 3) / 6  # type: ignore[no-any-return]


def test_an_inexact_reference_is_named() -> None:
    report = check_gradients(HardSigmoid, [(numbers(4, 3),)], reference=torch.nn.functional.hardsigmoid)
    assert report.passed, str(report)


def test_a_second_derivative_is_not_judged_by_the_backward_itself() -> None:
    """The gradient of x A x for a symmetric A: right, but its own gradient for A is not that of x A x."""

    class Quadratic(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, x: Tensor) -> Tensor:
            ctx.save_for_backward(a, x)
            return x @ a @ x

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            a, x = ctx.saved_tensors
            return grad_output * torch.outer(x, x), 2 * grad_output * (a @ x)

    a = numbers(4, 4)
    report = check_gradients(
        Quadratic, [(a + a.T, numbers(4))], reference=lambda a, x: x @ a @ x, checks=("gradient", "double backward")
    )
    assert report.verdict.startswith("GRADIENT PASSED: gradient right in float64; wrong: second derivative")


def test_failures_against_a_wrong_reference_do_not_count() -> None:
    """F.hardsigmoid has 8 digits in float64: one of its errors may be within the tolerance of finite differences."""
    report = check_gradients(
        lambda x: (x / 6 + 0.5).clamp(0, 1), [(numbers(5, 4),)], reference=torch.nn.functional.hardsigmoid
    )
    assert report.passed, str(report)
    assert "the reference is wrong: gradient of 'x'" in report.verdict
