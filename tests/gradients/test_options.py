"""The options of `check_gradients`, and their errors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients.checking import numbers
from planted.custom import OldStyle
from torch import Tensor

from bp_torch.gradients import CannotCheck, GradientReport, check_gradients
from bp_torch.gradients.checks import CHECKS
from bp_torch.sample import Sample


def run(function: Callable[..., Any] = OldStyle, **options: Any) -> GradientReport:
    return check_gradients(function, [(numbers(3),)], **options)


def ran(report: GradientReport) -> set[str]:
    return {result.check for result in report.results if not result.check.startswith("gradient in ")}


class Saves(OldStyle):
    """Exp, with a second derivative that is silently wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp()
        ctx.save_for_backward(y.clone())
        return y

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output * ctx.saved_tensors[0]  # type: ignore[no-any-return]


class Approximate(OldStyle):
    """Exp, with a gradient that is 1e-4 too large."""

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        return 1.0001 * OldStyle.backward(ctx, grad_output)


def test_orders() -> None:
    assert "double backward" in {result.check for result in run(Saves, reference=torch.exp).failures}
    report = run(Saves, reference=torch.exp, orders=1)
    assert report.passed
    assert "double backward" not in ran(report)


@pytest.mark.parametrize("checks", [["linearity"], ("linearity",), {"linearity"}, "linearity"])
def test_checks(checks: Any) -> None:
    assert ran(run(checks=checks)) == {"linearity"}


def test_checks_are_all_by_default() -> None:
    # "unused outputs", "subsets of inputs" and "aliased inputs" need several, "buffers" a name
    everything = {*CHECKS} - {"unused outputs", "subsets of inputs", "aliased inputs", "buffers", "precision"}
    assert ran(run(reference=torch.exp)) == everything


def test_precision_is_a_check() -> None:
    assert {r.check for r in run(checks=["precision"]).results} == {"gradient in float32"}
    assert not any(r.check.startswith("gradient in") for r in run(checks=["gradient"]).results)


def test_rtol_of_precision() -> None:
    class LessAccurate(OldStyle):
        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            gradient = OldStyle.backward(ctx, grad_output)
            return gradient * (1.0001 if gradient.dtype == torch.float32 else 1)

    assert {result.check for result in run(LessAccurate, reference=torch.exp).failures} == {"gradient in float32"}
    assert run(LessAccurate, reference=torch.exp, rtol={"precision": (1e-3, "why")}).passed


def test_nothing_checked_is_an_error() -> None:
    with pytest.raises(CannotCheck, match="nothing was checked: vmap: raised RuntimeError"):
        run(checks="vmap")


def test_skip_prints_the_reason() -> None:
    report = run(Saves, reference=torch.exp, skip={"double backward": "never needed here"})
    assert report.passed
    assert "note: left out: double backward: never needed here" in str(report)


@pytest.mark.parametrize("reference", [torch.exp, None])
def test_rtol_prints_the_reason(reference: Any) -> None:
    checks = ("gradient", "finite differences")
    assert not run(Approximate, reference=reference, checks=checks).passed
    tolerances = dict.fromkeys(checks, (1e-3, "the series has four terms"))
    report = run(Approximate, reference=reference, checks=checks, rtol=tolerances)
    assert report.passed, str(report)
    assert "note: relative tolerance of gradient: 0.001: the series has four terms" in str(report)
    tight = dict.fromkeys(checks, (1e-5, "the series has six terms"))
    assert not run(Approximate, reference=reference, checks=checks, rtol=tight).passed


class Round(torch.autograd.Function):
    """Rounding, with a straight-through gradient."""

    factor = 1

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        return (x * scale).round()

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return cls.factor * grad_output, None


class WrongRound(Round):
    factor = 2


def straight_through(grad_output: Tensor, x: Tensor, scale: float) -> Tensor:
    return grad_output


def test_by_design() -> None:
    sample = (numbers(4, 3), 4.0)
    assert not check_gradients(Round, [sample], checks=("gradient",)).passed
    report = check_gradients(Round, [sample], by_design=straight_through)
    assert report.passed, str(report)
    assert "Round(x) against its intended gradient: PASSED" in str(report)
    wrong = check_gradients(WrongRound, [sample], by_design=straight_through)
    assert "off by the constant factor 2" in str(wrong)


def test_by_design_of_several_outputs_and_options() -> None:
    def function(x: Tensor, y: Tensor, *, factor: float) -> tuple[Tensor, Tensor]:
        return factor * x, y.detach() + 0 * y

    def gradients(grad_outputs: tuple[Tensor, Tensor], x: Tensor, y: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        return factor * grad_outputs[0], 0 * grad_outputs[1]

    sample = Sample((numbers(3), numbers(2)), {"factor": 3.0})
    report = check_gradients(function, [sample], by_design=gradients, checks=("gradient", "value"))
    assert report.passed, str(report)
    assert not check_gradients(function, [sample], by_design=lambda g, x, y, factor: g, checks=("gradient",)).passed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orders": 3}, "orders must be 1 or 2, got 3"),
        ({"orders": 0}, "orders must be 1 or 2, got 0"),
        ({"seconds": 0.0}, "seconds must be a positive number, at most 1,000,000, got 0.0"),
        ({"seconds": float("nan")}, "seconds must be a positive number, at most 1,000,000, got nan"),
        ({"checks": ["gradients"]}, "unknown check 'gradients': must be one of side effects, repeatability, buffers, "),
        ({"skip": {"vmaps": "why"}}, "unknown check 'vmaps': must be one of side effects"),
        ({"rtol": {"values": (1e-3, "why")}}, "unknown check 'values'"),
        ({"rtol": {"gradient": 1e-3}}, "rtol of 'gradient' must be a tolerance and a reason, .* got 0.001"),
        ({"rtol": {"gradient": (0.0, "why")}}, r"rtol of 'gradient' must be .* got \(0.0, 'why'\)"),
        ({"rtol": {"gradient": (1e-3,)}}, "rtol of 'gradient' must be a tolerance and a reason"),
        ({"reference": torch.exp, "by_design": torch.exp}, "reference and by_design: give one of them"),
    ],
)
def test_an_invalid_option_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**options)
