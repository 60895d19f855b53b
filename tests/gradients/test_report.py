"""Grades, the verdict in the first line, and what the report prints."""

from typing import Any

import pytest
import torch
from gradients.checking import numbers

from bp_torch.gradients import GradientReport, Result, check_gradients
from bp_torch.gradients.checks.transforms import SAVED
from bp_torch.gradients.report import MAX_SHOWN, SECONDARY, Status


def result(check: str, status: Status, **changes: Any) -> Result:
    values: dict[str, Any] = {"sample": 0, "kind": "given", "variant": "as given", "input": "x", "message": "reason"}
    return Result(check=check, status=status, **values | changes)


def report_of(*results: Result) -> GradientReport:
    return GradientReport("f", ("x", "y"), "finite differences", results)


RIGHT = result("gradient", "passed")


@pytest.mark.parametrize("check", SECONDARY)
def test_a_secondary_check_alone_leaves_the_gradient_right(check: str) -> None:
    report = report_of(RIGHT, result(check, "failed"))
    assert (report.passed, report.grade) == (False, "gradient right")
    assert report_of(RIGHT, result(check, "failed"), result("gradient", "failed")).grade == "wrong"


@pytest.mark.parametrize("check", ["gradient", "value", "gradient in bfloat16", "side effects", "linearity"])
def test_another_check_makes_it_wrong(check: str) -> None:
    assert report_of(RIGHT, result(check, "failed")).grade == "wrong"


@pytest.mark.parametrize("status", ["passed", "unsupported", "inconclusive", "left out", "reference"])
def test_other_statuses_do_not_fail(status: Status) -> None:
    assert report_of(RIGHT, result("gradient", status)).grade == "right"


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([], "PASSED: gradient right in float64"),
        ([result("gradient in bfloat16", "passed")], "PASSED: gradient right in float64, bfloat16"),
        ([result("gradient in float16", "failed")], "FAILED: wrong: gradient in float16 of 'x'"),
        (
            [result("gradient", "failed"), result("gradient", "failed", input="y")],
            "FAILED: wrong: gradient of 'x', 'y'",
        ),
        (
            [result("double backward", "failed", hint=SAVED), result("vmap", "unsupported")],
            f"GRADIENT PASSED: gradient right in float64; wrong: second derivative ({SAVED}); unsupported: vmap",
        ),
        (
            [result("layouts", "failed"), result("vmap", "unsupported"), result("vmap", "passed")],
            "GRADIENT PASSED: gradient right in float64; wrong: layouts",
        ),
        (
            [result("crash", "failed", variant=v, input=None) for v in ("size 3 changed to 1", "zeros")],
            "GRADIENT PASSED: gradient right in float64; wrong: crash at size 3 changed to 1, zeros",
        ),
        (
            [result("crash", "left out", variant="zeros", kind="crash")],
            "PASSED: gradient right in float64; crashes at zeros",
        ),
        (
            [result("gradient", "reference")],
            "PASSED: gradient right in float64; the reference is wrong: gradient of 'x'",
        ),
    ],
)
def test_the_first_line_is_a_verdict(results: list[Result], verdict: str) -> None:
    report = report_of(RIGHT, *results)
    assert report.verdict == verdict
    assert str(report).splitlines()[0] == f"f(x, y) against finite differences: {verdict}"


def test_a_gradient_that_is_not_checked_is_not_called_right() -> None:
    assert (
        report_of(result("linearity", "passed"), result("layouts", "passed")).verdict
        == "PASSED: linearity, layouts right; gradient not checked"
    )


def test_an_unsupported_gradient_is_not_called_right() -> None:
    report = report_of(result("gradient", "unsupported"), result("linearity", "passed"))
    assert report.verdict == "PASSED: linearity right; gradient not checked; unsupported: gradient"


def test_what_is_left_out_stands_with_its_reason() -> None:
    variants = [result("gradient", "left out", variant=f"size {n}", message="no time left") for n in range(3)]
    other = result("value", "left out", variant="zeros", message="not finite")
    text = str(report_of(RIGHT, *variants, variants[0], other))
    assert "left out: size 0, size 1, size 2: no time left\nleft out: zeros: not finite" in text


def test_one_failure_of_each_check_is_shown_before_others() -> None:
    inputs = [result("gradient", "failed", input=f"x{n}", ratio=float(n)) for n in range(MAX_SHOWN + 1)]
    text = str(report_of(*inputs, result("layouts", "failed", variant="strided")))
    assert "layouts of 'x', sample 0 strided: FAILED" in text
    assert "gradient of 'x6', sample 0 as given: FAILED" in text
    assert "and 2 more failures" in text


def test_a_grade_of_json() -> None:
    assert report_of(RIGHT, result("vmap", "failed")).as_dict()["grade"] == "gradient right"


class Softmax(torch.autograd.Function):
    """A right gradient, from a saved intermediate."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        powers = (x - x.amax(-1, keepdim=True)).exp()
        ctx.save_for_backward(powers)
        return powers / powers.sum(-1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
        (powers,) = ctx.saved_tensors
        y = powers / powers.sum(-1, keepdim=True)
        return y * (grad_output - (grad_output * y).sum(-1, keepdim=True))  # type: ignore[no-any-return]


@pytest.mark.parametrize("reference", [lambda x: x.softmax(-1), None])
def test_a_saved_intermediate_is_named(reference: Any) -> None:
    sample = (numbers(4, 3, dtype=torch.float32),)
    report = check_gradients(
        Softmax, [sample], reference=reference, checks=("gradient", "precision", "double backward")
    )
    assert report.grade == "gradient right"
    assert report.verdict == (
        f"GRADIENT PASSED: gradient right in float64, float32; wrong: second derivative ({SAVED})"
    )
    assert "SECOND DERIVATIVE WRONG" in str(report)
