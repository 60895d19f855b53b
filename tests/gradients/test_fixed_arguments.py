"""Fixed arguments take part: they are changed in place, set to zero, and tied with inputs; masks are filled."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch.gradients import GradientReport, check_gradients

CHECKS = ("value", "gradient", "saved tensors")


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def failed(report: GradientReport) -> set[tuple[str, str]]:
    return {(result.check, result.variant) for result in report.failures}


class Linear(torch.autograd.Function):
    """x wᵀ; the weight is saved, or kept on ctx."""

    saves = True

    @classmethod
    def forward(cls, ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        if cls.saves:
            ctx.save_for_backward(w)
        else:
            ctx.w = w
        return x @ w.t()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output @ (ctx.saved_tensors[0] if ctx.saved_tensors else ctx.w), None


class StaleLinear(Linear):
    saves = False


def test_a_weight_kept_on_ctx_is_stale_after_a_change_in_place() -> None:
    sample = (numbers(4, 3).requires_grad_(), numbers(2, 3))
    assert check_gradients(Linear, [sample], checks=CHECKS).passed
    report = check_gradients(StaleLinear, [sample], checks=CHECKS)
    assert failed(report) == {("saved tensors", "as given, argument 1 modified in place before the backward")}
    assert report.grade == "gradient right"


class Distance(torch.autograd.Function):
    """Σ |p − q|, with a slope at p = q."""

    slope = 0.0

    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor) -> Tensor:
        ctx.save_for_backward(p, q)
        return (p - q).abs().sum()

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        p, q = ctx.saved_tensors
        return torch.where(p == q, cls.slope, (p - q).sign()) * grad_output, None


class SteepDistance(Distance):
    slope = 3.0


class EndlessDistance(Distance):
    slope = torch.nan


def distance(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).abs().sum()


@pytest.mark.parametrize("reference", [distance, None])
def test_ties_with_a_frozen_target(reference: Any) -> None:
    sample = (numbers(4, 3).requires_grad_(), numbers(4, 3).flip(0))
    assert check_gradients(Distance, [sample], reference=reference, checks=CHECKS).passed
    for function in (SteepDistance, EndlessDistance):
        report = check_gradients(function, [sample], reference=reference, checks=CHECKS)
        assert ("gradient", "with equal inputs") in failed(report)
    assert ("gradient", "all inputs equal") in failed(report)


class MaskedSoftmax(torch.autograd.Function):
    """Softmax without the masked components; zeros for a row that is masked as a whole."""

    guarded = True

    @staticmethod
    def forward(ctx: Any, s: Tensor, mask: Tensor) -> Tensor:
        y = s.masked_fill(mask, -torch.inf).softmax(-1)
        ctx.save_for_backward(y)
        return y.nan_to_num(0.0)

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        y = y.nan_to_num(0.0) if cls.guarded else y
        return y * (grad_output - (grad_output * y).sum(-1, keepdim=True)), None


class UnguardedSoftmax(MaskedSoftmax):
    guarded = False


def masked_softmax(s: Tensor, mask: Tensor) -> Tensor:
    return torch._safe_softmax(s.masked_fill(mask, -torch.inf), -1)


@pytest.mark.parametrize("reference", [masked_softmax, None])
def test_a_fully_masked_row(reference: Any) -> None:
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[2, 3:] = True
    sample = (numbers(4, 5), mask)
    assert check_gradients(MaskedSoftmax, [sample], reference=reference, checks=CHECKS).passed
    report = check_gradients(UnguardedSoftmax, [sample], reference=reference, checks=CHECKS)
    assert failed(report) == {("gradient", "with a row of True in the mask")}
    assert report.hints == ("wrong only for full or empty rows of a mask: with a row of True in the mask",)


class Norm(torch.autograd.Function):
    """Norms of rows, with 0/0 as the gradient of a row of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.norm(dim=-1)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (grad_output / x.norm(dim=-1)).unsqueeze(-1) * x  # type: ignore[no-any-return]


@pytest.mark.parametrize("reference", [lambda x: x.norm(dim=-1), None])
def test_a_row_of_zeros(reference: Any) -> None:
    report = check_gradients(Norm, [(numbers(4, 3),)], reference=reference, checks=CHECKS)
    assert ("gradient", "a row of zeros") in failed(report)
    assert all(result.kind == "constant" or "zeros" in result.variant for result in report.failures)


class Quotient(torch.autograd.Function):
    """x w / (w² + 1), with a factor 0/0 where a fixed weight is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return x * w / (w.square() + 1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (w,) = ctx.saved_tensors
        return grad_output * w / (w.square() + 1) * (w / w), None


def test_zeros_in_fixed_arguments() -> None:
    sample = (numbers(4, 3).requires_grad_(), numbers(4, 3) + 3)
    report = check_gradients(Quotient, [sample], checks=CHECKS)
    assert failed(report) == {("gradient", "with zeros in fixed arguments")}
