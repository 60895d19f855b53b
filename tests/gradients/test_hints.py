"""Hints for common mistakes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.function import Function
from bp_torch.functional.linear import Linear
from bp_torch.functional.losses import SquaredError
from bp_torch.functional.smooth_activations import SiLU
from bp_torch.gradients import GradientReport, check_gradients

numbers = RandomTensors(0)


def altered(function: type[Function], change: Callable[..., Any]) -> Callable[..., Tensor]:
    """The function with another backward: change(correct backward, ctx, grad_output)."""

    def backward(ctx: Any, grad_output: Tensor) -> Any:
        return change(lambda g: function.backward(ctx, g), ctx, grad_output)

    return type(function.__name__, (function,), {"backward": staticmethod(backward)}).call  # type: ignore[attr-defined]


def silu(change: Callable[[Callable[[Tensor], Tensor], Any, Tensor], Tensor], **options: Any) -> GradientReport:
    return check_gradients(altered(SiLU, change), [(numbers(4, 3),)], reference=torch.nn.functional.silu, **options)


def linear(change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]], inputs: int = 4) -> GradientReport:
    def changed(correct: Callable[[Tensor], Any], ctx: Any, g: Tensor) -> Any:
        gradients = change(*(torch.zeros(()) if d is None else d for d in correct(g)))
        return tuple(d if needed else None for d, needed in zip(gradients, ctx.needs_input_grad, strict=True))

    sample = (numbers(5, inputs), numbers(4, inputs), numbers(4))
    return check_gradients(altered(Linear, changed), [sample], reference=torch.nn.functional.linear, fail_fast=True)


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).to(x.dtype)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda correct, ctx, g: 2 * correct(g), "off by the constant factor 2\n"),
        (lambda correct, ctx, g: 1.0001 * correct(g), "off by the constant factor 1.0001"),
        (lambda correct, ctx, g: -correct(g), "the sign is reversed"),
        (
            lambda correct, ctx, g: correct(g) / 4,
            "off by the constant factor 0.25, and 4 is a size here: averaged instead of summed?",
        ),
        (
            lambda correct, ctx, g: correct(g) * 12,
            "off by the constant factor 12, and 12 is a size here: summed instead of averaged?",
        ),
        (lambda correct, ctx, g: 0 * correct(g), "the gradient is zero: is it missing from the backward?"),
        (lambda correct, ctx, g: correct(torch.ones_like(g)), "ignores grad_output"),
        (lambda correct, ctx, g: correct(g.abs()), "independent of the sign of grad_output: is its absolute"),
        (lambda correct, ctx, g: correct(g.sign()), "independent of the size of grad_output: is it normalised"),
        (lambda correct, ctx, g: correct(g.clamp(-1, 1)), "not linear in grad_output: is it clamped or changed?"),
        (lambda correct, ctx, g: correct(g).roll(1, 0), "the correct values in the wrong places"),
        (lambda correct, ctx, g: rounded(correct(g), torch.float32), "accurate to float32 only"),
        (lambda correct, ctx, g: rounded(correct(g), torch.float16), "accurate to float16 only"),
        (lambda correct, ctx, g: rounded(correct(g), torch.bfloat16), "accurate to bfloat16 only"),
        (
            lambda correct, ctx, g: torch.cat([-correct(g)[:1], correct(g)[1:]]),
            "3 of 12 components have the wrong sign, all at",
        ),
        (lambda correct, ctx, g: correct(g) / (g != g), "not finite, but the correct gradient is"),
    ],
)
def test_the_pattern_is_recognised(change: Callable[..., Tensor], hint: str) -> None:
    assert f"hint: {hint}" in f"{silu(change, fail_fast=True)}\n"


def test_one_wrong_component() -> None:
    report = linear(lambda x, w, b: (x, w, torch.cat([b[:-1], 3 * b[-1:]]) if b.dim() else b))
    assert "hint: 1 of 4 components is wrong" in str(report)


def test_transposed() -> None:
    assert "hint: transposed" in str(linear(lambda x, w, b: (x, w.t() if w.dim() else w, b)))


def test_transposed_with_another_shape() -> None:
    report = linear(lambda x, w, b: (x, w.t() if w.dim() else w, b), inputs=3)
    assert "hint: a gradient has the wrong shape: is a product transposed" in str(report)


def test_summed_instead_of_averaged() -> None:
    def summed(correct: Callable[[Tensor], Any], ctx: Any, g: Tensor) -> Any:
        return tuple(d if d is None else 5 * d for d in correct(g))

    def reference(y: Tensor, t: Tensor) -> Tensor:
        return ((y - t) ** 2).sum(1).mean()

    report = check_gradients(altered(SquaredError, summed), [(numbers(5, 3), numbers(5, 3))], reference=reference)
    assert "hint: off by the constant factor 5, and 5 is a size here: summed instead of averaged?" in str(report)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda correct, ctx, g: correct(g) + g * (ctx.saved_tensors[0] == 0), "wrong only at kinks or ties: "),
        (lambda correct, ctx, g: correct(g) * (ctx.saved_tensors[0].abs() < 9), "wrong only for some magnitudes of"),
        (lambda correct, ctx, g: correct(g) * (1 if len(g) < 32 else 2), "wrong only for some sizes of a dimension"),
    ],
)  # fmt: skip
def test_common_kind_of_all_failures(change: Callable[..., Tensor], hint: str) -> None:
    (only_hint,) = silu(change).hints
    assert hint in only_hint


def test_no_hint_without_a_pattern() -> None:
    """A dropped term fits no pattern."""
    report = silu(lambda correct, ctx, g: g * torch.sigmoid(ctx.saved_tensors[0]))
    assert not report.passed
    assert "hint" not in str(report)
