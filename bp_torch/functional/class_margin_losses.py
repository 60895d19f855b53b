"""Margin losses of classes: the score of a label should be larger than the others by a margin.

Unlike the hinges of margin_losses.py, those of this file have the derivative 0 at the kink. g is the upstream gradient
of one row's loss: of the result for 'sum' and 'none', of the result divided by N for the mean over N rows.

The functions have the signatures, values and errors of torch.nn.functional. size_average and reduce are deprecated.
TypeError if an argument is not a Tensor, NotImplementedError if `input` is not floating point, ValueError if
`reduction` is unknown, RuntimeError if a shape does not match or a label is out of range.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.arithmetic import div, mul
from bp_torch.functional.bce import BCEWithLogits
from bp_torch.functional.elementwise import above, reduce, reduction_grad
from bp_torch.functional.function import Function, save
from bp_torch.functional.losses import apply_reduction, broadcast
from bp_torch.functional.precision import (
    autocast_to_float32,
    cuda_autocast_to_float32,
    in_float32,
    promote_types,
)
from bp_torch.functional.reductions import sum
from bp_torch.functional.validation import require_constant, require_floating, require_real, resolve_reduction

__all__ = ["multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss"]


class RowLoss(Function):
    """C = 1/N Σₙ l(xₙ): a loss of each row of (N, C), then the mean over the rows; (C,) is one row.

        ∂C/∂xₙ = g/N · ∂l/∂xₙ
        Ċ = 1/N Σₙ ∂l/∂xₙ · ẋₙ

    For the reductions 'sum' and 'none' the factor 1/N is absent.

    A subclass states `forward(input, target, weight, *constants, reduction)`, and for an input (N, C) ∂l/∂x as
    `slope(input, target, weight, *constants)`.
    """

    slope: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `backward` and `jvp` from the slope."""
        cls.backward, cls.jvp = map(staticmethod, _row_methods(cls.slope))  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, target, weight, *ctx.constants, ctx.reduction = inputs
        ctx.shape = output.shape
        save(ctx, input, target, weight)


def _row_methods(slope: Callable[..., Tensor]) -> tuple[Callable[..., Any], ...]:
    def slope_of(ctx: Any) -> Tensor:
        input, target, weight = ctx.saved_tensors
        return slope(_as_rows(input), target, weight, *ctx.constants)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        slopes = slope_of(ctx)
        g = reduction_grad(grad_output, ctx.reduction, len(slopes)).reshape(-1, 1)  # (N, 1) or (1, 1)
        return (g * slopes).reshape(ctx.saved_tensors[0].shape), None, None, None, *[None for _ in ctx.constants]

    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return reduce((slope_of(ctx) * tangent).sum(1), ctx.reduction).reshape(ctx.shape)

    return backward, jvp


def _as_rows(tensor: Tensor) -> Tensor:
    """(N, C); a vector is one row, and a scalar one row of one class."""
    return tensor if tensor.dim() == 2 else tensor.reshape(1, -1)


class MultiMargin(RowLoss):
    """l = w_y / C Σ_{c ≠ y} max(z_c, 0)ᵖ with z_c = m − x_y + x_c, for the class y of the example, and p = 1 or 2.

        ∂C/∂x_c = g w_y / C · p z_cᵖ⁻¹ where z_c > 0, else 0     for c ≠ y
        ∂C/∂x_y = −Σ_{c ≠ y} ∂C/∂x_c                              x_y enters each z with the factor −1

    For m = 1 and y = 0, z = 1.5 and −1 for the other classes; g / C = 1:

    >>> x = torch.tensor([[1.0, 1.5, -1.0]], requires_grad=True)
    >>> torch.autograd.grad(multi_margin_loss(x, torch.tensor([0])), x, torch.tensor(3.0))
    (tensor([[-1.,  1.,  0.]]),)
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, weight: Tensor | None, p: int, margin: float, reduction: str) -> Tensor:
        return F.multi_margin_loss(input, target, p, margin, weight, reduction=reduction)

    @staticmethod
    def slope(input: Tensor, target: Tensor, weight: Tensor | None, p: int, margin: float) -> Tensor:
        target = target.reshape(-1, 1)
        z = margin - input.gather(1, target) + input  # (N, C)
        slopes = (above(z, 0) if p == 1 else 2 * z.clamp_min(0)) / input.shape[1]
        slopes = (slopes if weight is None else slopes * weight[target]).scatter(1, target, 0)
        return slopes.scatter(1, target, -slopes.sum(1, keepdim=True))


class MultilabelMargin(RowLoss):
    """l = 1/C Σ_{j ∈ Y} Σ_{i ∉ Y} max(z_ji, 0) with z_ji = 1 − x_j + x_i, for the labels Y of the example.

        ∂C/∂x_i = g / C · number of j ∈ Y with z_ji > 0           for i ∉ Y
        ∂C/∂x_j = −g / C · number of i ∉ Y with z_ji > 0          for j ∈ Y

    Y stands in front of the first −1 of the row of the target. A repeated label counts repeatedly.

    For Y = {0}, z = 1.5 and −1 for the other classes; g / C = 1:

    >>> x = torch.tensor([[1.0, 1.5, -1.0]], requires_grad=True)
    >>> torch.autograd.grad(multilabel_margin_loss(x, torch.tensor([[0, -1, -1]])), x, torch.tensor(3.0))
    (tensor([[-1.,  1.,  0.]]),)
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, weight: None, reduction: str) -> Tensor:
        losses = F.multilabel_margin_loss(input, target, reduction="none")
        return reduce(losses, reduction)  # for no rows, torch's own sum and mean are not initialised

    @staticmethod
    def slope(input: Tensor, target: Tensor, weight: None) -> Tensor:
        target = _as_rows(target)
        given = (target < 0).cumsum(1) == 0  # (N, J): in front of the first −1
        labels = target.masked_fill(~given, 0)
        others = torch.zeros_like(input).scatter_add(1, labels, given.to(input.dtype)) == 0  # (N, C)
        z = 1 - input.gather(1, labels).unsqueeze(2) + input.unsqueeze(1)  # (N, J, C)
        positive = (z > 0) & given.unsqueeze(2) & others.unsqueeze(1)
        slopes = positive.sum(1).to(input.dtype).scatter_add(1, labels, -positive.sum(2).to(input.dtype))
        return slopes / input.shape[1]


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The score of the class should be larger than each other by `margin`. See `MultiMargin`; Crammer, Singer (2001).

    `input` is (N, C) or (C,), `target` (N,) or () holds class indices, `weight` (C,) a factor for each class.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_real("multi_margin_loss", input)
    require_constant("multi_margin_loss", weight=weight)
    input, weight = autocast_to_float32(input, weight)
    return MultiMargin.call(input, target, weight, p, margin, reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The scores of all labels should be larger than each other score by 1. See `MultilabelMargin`.

    `input` and `target` are (N, C) or (C,); a row of `target` holds class indices, then −1.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    (input,) = autocast_to_float32(require_real("multilabel_margin_loss", input))
    return MultilabelMargin.call(input, target, None, reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of logits, averaged over the classes of the last dimension. See `BCEWithLogits`.

    All are broadcast. 'none' returns the loss of each example.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating("multilabel_soft_margin_loss", input=input)
    require_real("multilabel_soft_margin_loss", target, "target")
    tensors = promote_types(*map(cuda_autocast_to_float32, (input, target, *([] if weight is None else [weight]))))

    def cost(input: Tensor, target: Tensor, *weights: Tensor) -> Tensor:
        x, t = broadcast(input, target)
        losses = functools.reduce(mul, weights, BCEWithLogits.call(x, t, x.new_ones(()).expand(x.shape), "none"))
        return apply_reduction(div(sum(losses, input.dim() - 1), input.shape[-1]), reduction)

    return in_float32(cost, *tensors)
