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
from bp_torch.functional.elementwise import ElementwiseLoss, above, reduce, reduction_grad
from bp_torch.functional.function import Function, save
from bp_torch.functional.losses import apply_reduction, broadcast
from bp_torch.functional.precision import (
    autocast_to_float32,
    cuda_autocast_to_float32,
    in_float32,
    promote_types,
)
from bp_torch.functional.reductions import sum
from bp_torch.functional.shape import reshape, squeeze
from bp_torch.functional.validation import (
    readable,
    require_constant_class_weight,
    require_floating,
    require_real,
    require_tensor,
    resolve_reduction,
)

__all__ = ["multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss"]


class RowLoss(Function):
    """C = 1/N Σₙ l(xₙ): a loss of each row of (N, C), then the mean over the rows.

        ∂C/∂xₙ = g/N · ∂l/∂xₙ
        Ċ = 1/N Σₙ ∂l/∂xₙ · ẋₙ

    For the reductions 'sum' and 'none' the factor 1/N is absent.

    A subclass states l as `loss(input, target, weight, *constants)`, (N,), and ∂l/∂x as `slope` of the same arguments.
    """

    loss: ClassVar[Callable[..., Tensor]]
    slope: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `forward`, `backward` and `jvp` from the loss and its slope."""
        if "slope" in vars(cls):
            methods = _row_methods(cls.loss, cls.slope)
            cls.forward, cls.backward, cls.jvp = map(staticmethod, methods)  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, target, weight, ctx.reduction, *ctx.constants = inputs
        save(ctx, input, target, weight)


def _row_methods(loss: Callable[..., Tensor], slope: Callable[..., Tensor]) -> tuple[Callable[..., Any], ...]:
    def forward(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, *constants: float) -> Tensor:
        return reduce(loss(input, target, weight, *constants), reduction)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        slopes = slope(*ctx.saved_tensors, *ctx.constants)
        g = reduction_grad(grad_output, ctx.reduction, len(slopes)).unsqueeze(-1)  # (N, 1), or (1,) of a scalar
        return g * slopes, None, None, None, *[None for _ in ctx.constants]

    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return reduce((slope(*ctx.saved_tensors, *ctx.constants) * tangent).sum(1), ctx.reduction)

    return forward, backward, jvp


class MultiMargin(RowLoss):
    """l = w_y / C Σ_{c ≠ y} max(z_c, 0)ᵖ with z_c = m − x_y + x_c, for the class y of the example, and p = 1 or 2.

        ∂C/∂x_c = g w_y / C · p z_cᵖ⁻¹ where z_c > 0, else 0     for c ≠ y
        ∂C/∂x_y = −Σ_{c ≠ y} ∂C/∂x_c                             x_y enters each z with the factor −1

    For m = 1 and y = 0, z = 1.5 and −1 for the other classes, and g / C = 1:

    >>> x = torch.tensor([[1.0, 1.5, -1.0]], requires_grad=True)
    >>> torch.autograd.grad(multi_margin_loss(x, torch.tensor([0])), x, torch.tensor(3.0))
    (tensor([[-1.,  1.,  0.]]),)
    """

    @staticmethod
    def hinges(input: Tensor, target: Tensor, margin: float) -> Tensor:
        """max(z, 0), (N, C), and 0 for the class itself."""
        z = margin - input.gather(1, target) + input
        return torch.where(z > 0, z, 0).scatter(1, target, 0)

    @staticmethod
    def loss(input: Tensor, target: Tensor, weight: Tensor | None, p: int, margin: float) -> Tensor:
        hinges = MultiMargin.hinges(input, target, margin)
        losses = (hinges if p == 1 else hinges * hinges).sum(1) / input.shape[1]
        return losses if weight is None else losses * weight[target.squeeze(1)]

    @staticmethod
    def slope(input: Tensor, target: Tensor, weight: Tensor | None, p: int, margin: float) -> Tensor:
        hinges = MultiMargin.hinges(input, target, margin)
        slopes = (above(hinges, 0) if p == 1 else 2 * hinges) / input.shape[1]
        slopes = slopes if weight is None else slopes * weight[target]
        return slopes.scatter(1, target, -slopes.sum(1, keepdim=True))


class MultilabelMargin(RowLoss):
    """l = 1/C Σ_{j ∈ Y} Σ_{i ∉ Y} max(z_ji, 0) with z_ji = 1 − x_j + x_i, for the labels Y of the example.

        ∂C/∂x_i = g / C · number of j ∈ Y with z_ji > 0           for i ∉ Y
        ∂C/∂x_j = −g / C · number of i ∉ Y with z_ji > 0          for j ∈ Y

    Y stands before the first −1 of the row of the target. A repeated label counts repeatedly.

    For Y = {0}, z = 1.5 and −1 for the other classes, and g / C = 1:

    >>> x = torch.tensor([[1.0, 1.5, -1.0]], requires_grad=True)
    >>> torch.autograd.grad(multilabel_margin_loss(x, torch.tensor([[0, -1, -1]])), x, torch.tensor(3.0))
    (tensor([[-1.,  1.,  0.]]),)
    """

    @staticmethod
    def hinges(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """max(z, 0), (N, J, C), and 0 for other pairs; the labels j, (N, J)."""
        given = (target < 0).cumsum(1) == 0  # before the first −1
        labels = target.masked_fill(~given, 0)
        others = torch.zeros_like(input).scatter_add(1, labels, given.to(input.dtype)) == 0  # (N, C)
        z = 1 - input.gather(1, labels).unsqueeze(2) + input.unsqueeze(1)
        return torch.where((z > 0) & given.unsqueeze(2) & others.unsqueeze(1), z, 0), labels

    @staticmethod
    def loss(input: Tensor, target: Tensor, weight: None) -> Tensor:
        return MultilabelMargin.hinges(input, target)[0].sum((1, 2)) / input.shape[1]

    @staticmethod
    def slope(input: Tensor, target: Tensor, weight: None) -> Tensor:
        hinges, labels = MultilabelMargin.hinges(input, target)
        slopes = above(hinges, 0) / input.shape[1]
        return slopes.sum(1).scatter_add(1, labels, -slopes.sum(2))


class MultilabelSoftMargin(ElementwiseLoss):
    """l = −t log σ(x) − (1 − t) log σ(−x), the cross-entropy of the logit x of one class.

        ∂C/∂x = g (σ(x) − t)          by (log σ)′(x) = 1 − σ(x) = σ(−x)
        ∂C/∂t = g (log σ(−x) − log σ(x)) = −g x

    At x = log 3, σ(x) = 3/4, and g = 1/2 for the mean over two classes:

    >>> x = torch.tensor([3.0, 3.0]).log().requires_grad_()
    >>> torch.autograd.grad(multilabel_soft_margin_loss(x, torch.tensor([1, 0])), x)
    (tensor([-0.1250,  0.3750]),)
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor) -> Tensor:
        return -target * F.logsigmoid(input) - (1 - target) * F.logsigmoid(-input)

    @staticmethod
    def by_input(input: Tensor, target: Tensor) -> Tensor:
        return torch.sigmoid(input) - target

    @staticmethod
    def by_target(input: Tensor, target: Tensor) -> Tensor:
        return -input

    slopes = (by_input, by_target)


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
    name = "multi_margin_loss"
    reduction = resolve_reduction(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError(f"{name}(): only p == 1 and p == 2 are supported, got {p}")
    if isinstance(weight, Tensor) and weight.dim() != 1:
        raise ValueError(f"{name}(): weight {tuple(weight.shape)} must be one-dimensional")
    require_tensor(name, input=input, target=target)
    input, weight = autocast_to_float32(input, weight)
    rows = _as_rows(name, input, target, 0)
    if target.dim() > 1 or len(target.reshape(-1)) != len(rows):
        raise RuntimeError(f"{name}(): target {tuple(target.shape)} must hold a class for each of {len(rows)} rows")
    require_constant_class_weight(name, weight, rows.shape[1], rows.dtype)
    losses = in_float32(MultiMargin.call, rows, target.reshape(-1, 1), weight, reduction, p, margin)
    return losses if reduction != "none" or target.dim() else squeeze(losses, 0)


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
    name = "multilabel_margin_loss"
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_tensor(name, input=input, target=target)
    (input,) = autocast_to_float32(input)
    rows = _as_rows(name, input, target, -1)
    if target.numel() != rows.numel() or (target.shape != input.shape and max(target.dim(), input.dim()) > 1):
        raise RuntimeError(f"{name}(): target {tuple(target.shape)} must have the shape of input, {tuple(input.shape)}")
    target = target.reshape(rows.shape)
    if readable(target):
        target = target[:, : int((target >= 0).any(0).sum())]  # no more columns than the longest row has labels
    losses = in_float32(MultilabelMargin.call, rows, target, None, reduction)
    return losses if reduction != "none" or input.dim() == 2 else squeeze(losses, 0)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of logits, averaged over the classes of the last dimension. See `MultilabelSoftMargin`.

    All are broadcast. 'none' returns the loss of each example.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating("multilabel_soft_margin_loss", input=input)
    require_real("multilabel_soft_margin_loss", target, "target")
    tensors = promote_types(*map(cuda_autocast_to_float32, (input, target, *([] if weight is None else [weight]))))

    def cost(input: Tensor, target: Tensor, *weights: Tensor) -> Tensor:
        losses = functools.reduce(mul, weights, MultilabelSoftMargin.call(*broadcast(input, target), "none"))
        return apply_reduction(div(sum(losses, input.dim() - 1), input.shape[-1]), reduction)

    return in_float32(cost, *tensors)


def _as_rows(name: str, input: Tensor, target: Tensor, lowest: int) -> Tensor:
    """The input as (N, C). Raises unless the target holds class indices of at least `lowest`."""
    require_floating(name, input=input)
    if input.is_cpu and input.dtype in (torch.float16, torch.bfloat16):
        raise NotImplementedError(f"{name}(): argument 'input' is {input.dtype}, which is not supported on a CPU")
    if input.dim() > 2 or 0 in input.shape[-1:]:
        raise RuntimeError(f"{name}(): input {tuple(input.shape)} must be (N, C) or (C,), with C > 0")
    if target.dtype != torch.int64:
        raise RuntimeError(f"{name}(): target must hold class indices, int64 (Long), not {target.dtype}")
    rows = input if input.dim() == 2 else reshape(input, (1, -1))
    if readable(target) and target.numel() and not lowest <= target.min() <= target.max() < rows.shape[1]:
        raise RuntimeError(f"{name}(): target is out of range, expected indices in [{lowest}, {rows.shape[1]})")
    return rows
