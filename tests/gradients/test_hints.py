"""A mistake that people make is called by its name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch.functional.function import Function
from bp_torch.functional.linear import Linear
from bp_torch.functional.losses import SquaredError
from bp_torch.functional.smooth_activations import SiLU
from bp_torch.gradients import GradientReport, check_gradients

_generator = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator, dtype=torch.float64)


def altered(function: type[Function], change: Callable[..., Any]) -> Callable[..., Tensor]:
    """The function with another backward: `change` has the right one, the context and grad_output."""

    def backward(ctx: Any, grad_output: Tensor) -> Any:
        return change(lambda g: function.backward(ctx, g), ctx, grad_output)

    return type(function.__name__, (function,), {"backward": staticmethod(backward)}).call  # type: ignore[attr-defined]


def silu(change: Callable[[Callable[[Tensor], Tensor], Any, Tensor], Tensor], **options: bool) -> GradientReport:
    return check_gradients(altered(SiLU, change), [(numbers(4, 3),)], reference=torch.nn.functional.silu, **options)


def linear(change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]], inputs: int = 4) -> GradientReport:
    def changed(right: Callable[[Tensor], Any], ctx: Any, g: Tensor) -> Any:
        gradients = change(*(torch.zeros(()) if d is None else d for d in right(g)))
        return tuple(d if needed else None for d, needed in zip(gradients, ctx.needs_input_grad, strict=True))

    sample = (numbers(5, inputs), numbers(4, inputs), numbers(4))
    return check_gradients(altered(Linear, changed), [sample], reference=torch.nn.functional.linear, fail_fast=True)


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).to(x.dtype)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda right, ctx, g: 2 * right(g), "off by the constant factor 2\n"),
        (lambda right, ctx, g: 1.0001 * right(g), "off by the constant factor 1.0001"),
        (lambda right, ctx, g: -right(g), "the sign is reversed"),
        (
            lambda right, ctx, g: right(g) / 4,
            "off by the constant factor 0.25, and 4 is a size here: averaged instead of summed?",
        ),
        (
            lambda right, ctx, g: right(g) * 12,
            "off by the constant factor 12, and 12 is a size here: summed instead of averaged?",
        ),
        (lambda right, ctx, g: 0 * right(g), "no gradient arrives at this input"),
        (lambda right, ctx, g: right(torch.ones_like(g)), "ignores grad_output"),
        (lambda right, ctx, g: right(g.abs()), "takes the absolute value of grad_output, or otherwise loses its sign"),
        (lambda right, ctx, g: right(g.sign()), "loses the size of grad_output: is it normalised"),
        (lambda right, ctx, g: right(g.clamp(-1, 1)), "not linear in grad_output: is it clamped or changed?"),
        (lambda right, ctx, g: right(g).roll(1, 0), "the right numbers in wrong places"),
        (lambda right, ctx, g: rounded(right(g), torch.float32), "as exact as float32 would be"),
        (lambda right, ctx, g: rounded(right(g), torch.float16), "as exact as float16 would be"),
        (lambda right, ctx, g: rounded(right(g), torch.bfloat16), "as exact as bfloat16 would be"),
        (
            lambda right, ctx, g: torch.cat([-right(g)[:1], right(g)[1:]]),
            "3 of 12 components have the wrong sign, all at",
        ),
        (lambda right, ctx, g: right(g) / (g != g), "not finite where the gradient is"),
    ],
)
def test_the_pattern_is_recognised(change: Callable[..., Tensor], hint: str) -> None:
    assert f"hint: {hint}" in f"{silu(change, fail_fast=True)}\n"


def test_one_component() -> None:
    report = linear(lambda x, w, b: (x, w, torch.cat([b[:-1], 3 * b[-1:]]) if b.dim() else b))
    assert "hint: 1 of 4 components is wrong" in str(report)


def test_transposed() -> None:
    assert "hint: transposed" in str(linear(lambda x, w, b: (x, w.t() if w.dim() else w, b)))


def test_transposed_where_autograd_objects() -> None:
    report = linear(lambda x, w, b: (x, w.t() if w.dim() else w, b), inputs=3)
    assert "hint: a gradient has the wrong shape: is a product transposed" in str(report)


def test_summed_instead_of_averaged() -> None:
    def summed(right: Callable[[Tensor], Any], ctx: Any, g: Tensor) -> Any:
        return tuple(d if d is None else 5 * d for d in right(g))

    def reference(y: Tensor, t: Tensor) -> Tensor:
        return ((y - t) ** 2).sum(1).mean()

    report = check_gradients(altered(SquaredError, summed), [(numbers(5, 3), numbers(5, 3))], reference=reference)
    assert "hint: off by the constant factor 5, and 5 is a size here: summed instead of averaged?" in str(report)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda right, ctx, g: right(g) + g * (ctx.saved_tensors[0] == 0), "wrong only at a kink, or where numbers"),
        (lambda right, ctx, g: right(g) * (ctx.saved_tensors[0].abs() < 9), "wrong only for some sizes of numbers, as"),
        (lambda right, ctx, g: right(g) * (1 if len(g) < 32 else 2), "wrong only for some sizes of a dimension"),
    ],
)  # fmt: skip
def test_what_failures_have_in_common(change: Callable[..., Tensor], hint: str) -> None:
    (found,) = silu(change).hints
    assert hint in found


def test_nothing_is_made_up() -> None:
    """A dropped term has no pattern of its own."""
    report = silu(lambda right, ctx, g: g * torch.sigmoid(ctx.saved_tensors[0]))
    assert not report.passed
    assert "hint" not in str(report)
