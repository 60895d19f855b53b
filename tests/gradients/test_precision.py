"""Gradients in the sample's own dtypes."""

from functools import partial
from typing import Any

import pytest
import torch
from gradients.checking import check_planted, failed, numbers
from torch import Tensor

from bp_torch.gradients import check_gradients

CHECKS = ("gradient", "precision")


class Linear(torch.autograd.Function):
    """x wᵀ, of a weight in another dtype."""

    casts = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.to(x.dtype).t()

    @classmethod
    def backward(cls, ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return g @ (w.to(g.dtype) if cls.casts else w), (g.t() @ x).to(w.dtype)


class LinearOfOneDtype(Linear):
    casts = False


def linear(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.to(x.dtype).t()


@pytest.mark.parametrize("reference", [linear, None])
def test_a_backward_that_raises_in_mixed_precision(reference: Any) -> None:
    sample = (numbers(5, 4, dtype=torch.bfloat16), numbers(3, 4, dtype=torch.float32))
    report = check_gradients(Linear, [sample], reference=reference, checks=CHECKS)
    assert report.passed, str(report)
    assert "gradient right in float64, bfloat16, float32" in report.verdict
    report = check_gradients(LinearOfOneDtype, [sample], reference=reference, checks=CHECKS)
    assert failed(report).keys() == {"gradient in bfloat16, float32"}
    assert "raised RuntimeError: expected m" in str(report)


@pytest.mark.parametrize("with_reference", [True, False])
def test_an_accumulator_that_stops_growing(with_reference: bool) -> None:
    """It is 256 in bfloat16, whatever is added."""
    options: dict[str, Any] = {"with_reference": with_reference, "checks": CHECKS}
    report = check_planted("bias in bfloat16: float32 inside", **options)
    assert report.passed, str(report)
    report = check_planted("bias in bfloat16: bias gradient summed row by row", **options)
    assert failed(report).keys() == {"gradient in bfloat16"}, str(report)


class Scaled(torch.autograd.Function):
    """Twice x, whose gradient overflows or is rounded off in low precision alone."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @classmethod
    def backward(cls, ctx: Any, g: Tensor) -> Tensor:
        return 2 * g * (cls.factor if g.dtype == torch.bfloat16 else 1)


class TwoPercent(Scaled):
    factor = 1.02


@pytest.mark.parametrize("reference", [lambda x: 2 * x, None])
def test_a_gradient_that_is_two_percent_too_large(reference: Any) -> None:
    sample = (numbers(64, 64, dtype=torch.bfloat16),)
    assert check_gradients(Scaled, [sample], reference=reference, checks=CHECKS).passed
    report = check_gradients(TwoPercent, [sample], reference=reference, checks=CHECKS)
    assert failed(report).keys() == {"gradient in bfloat16"}
    assert "SYSTEMATIC ERROR in low precision" in str(report) or "2 %" in str(report)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", [torch.tanh, torch.sigmoid, partial(torch.softmax, dim=-1)])
def test_a_saved_output_is_rounded_like_the_returned_one(function: Any, dtype: torch.dtype) -> None:
    """PyTorch's own backwards use the output, with errors that a reference in float32 does not have."""
    report = check_gradients(
        function, [(numbers(16, 32, dtype=dtype),)], reference=lambda x: function(x.float()).to(x.dtype)
    )
    assert report.passed, str(report)
    assert f"gradient right in float32, {str(dtype).removeprefix('torch.')}" in report.verdict


class LayerNorm(torch.autograd.Function):
    """Float32 inside; `factor` makes the gradient wrong."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.nn.functional.layer_norm(x.float(), x.shape[-1:]).to(x.dtype)

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> Any:
        x, g = ctx.saved_tensors[0].float(), cls.factor * grad_output.float()
        rstd = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
        y = (x - x.mean(-1, keepdim=True)) * rstd
        return (rstd * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True))).to(x.dtype)


class LargeLayerNorm(LayerNorm):
    factor = 1.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "reference", [lambda x: torch.nn.functional.layer_norm(x.float(), x.shape[-1:]).to(x.dtype), None]
)
def test_float32_inside(reference: Any, dtype: torch.dtype) -> None:
    """At width 2 the normalised values are ±1, and the gradient is a rounding error."""
    samples = [(numbers(64, 32, dtype=dtype),)]
    report = check_gradients(LayerNorm, samples, reference=reference)
    assert report.passed, str(report)
    assert check_gradients(LargeLayerNorm, samples, reference=reference).grade == "wrong"
