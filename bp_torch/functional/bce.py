"""The cost of yes-or-no outputs: binary cross-entropy of logits."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.losses import reduced, shared
from bp_torch.functional.precision import autocast_to_float32, promoted, rounded_once
from bp_torch.functional.validation import require_floating, require_tensor, resolve_reduction

__all__ = ["binary_cross_entropy_with_logits"]


class BCEWithLogits(Function):
    """l = p t · s(−x) + (1 − t) · s(x), with s(x) = log(1 + eˣ) and p the weight of the positive class.

    ∂C/∂x = g · ((p t + 1 − t) σ(x) − p t), which is g (σ(x) − t) for p = 1
    ∂C/∂t = g · ((p − 1) s(−x) − x)
    ∂C/∂p = g · t s(−x)

    s(x) = x + s(−x) leaves one logarithm to take, and `logaddexp` takes it without overflow.
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, pos_weight: Tensor, reduction: str) -> Tensor:
        positive, negative = pos_weight * target, 1 - target
        return reduced((positive + negative) * _softplus_of_minus(input) + negative * input, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, str], output: Tensor) -> None:
        *tensors, ctx.reduction = inputs
        save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target, pos_weight = ctx.saved_tensors
        needs_input, needs_target, needs_pos_weight, _ = ctx.needs_input_grad
        share = shared(grad_output, ctx.reduction, input.numel())
        soft = _softplus_of_minus(input)
        grad_input = share * _bce_slope(input, target, pos_weight) if needs_input else None
        grad_target = share * ((pos_weight - 1) * soft - input) if needs_target else None
        grad_pos_weight = share * (target * soft) if needs_pos_weight else None
        return grad_input, grad_target, grad_pos_weight, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, pos_weight_tangent: Tensor, _: None) -> Tensor:
        input, target, pos_weight = ctx.saved_tensors
        soft = _softplus_of_minus(input)
        by_input = _bce_slope(input, target, pos_weight) * input_tangent
        by_target = ((pos_weight - 1) * soft - input) * target_tangent
        return reduced(by_input + by_target + target * soft * pos_weight_tangent, ctx.reduction)


def _softplus_of_minus(x: Tensor) -> Tensor:
    return torch.logaddexp(-x, torch.zeros_like(x))  # log(e⁻ˣ + e⁰)


def _bce_slope(x: Tensor, t: Tensor, p: Tensor) -> Tensor:
    return (p * t + 1 - t) * torch.sigmoid(x) - p * t


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of sigmoid(input) against probabilities; see `BCEWithLogits` for the equations.

    Args:
        input: logits, any shape, floating point.
        target: probabilities in [0, 1], of the same shape.
        weight: a factor for each loss, broadcast to input's shape.
        size_average: deprecated, as in torch.
        reduce: deprecated, as in torch.
        reduction: 'none', 'sum', or 'mean' over all components.
        pos_weight: p, the weight of the positive class, broadcast to input's shape. Unlike torch's, it and
            `weight` may need gradients.

    Returns:
        A scalar, or each loss for 'none' (float32 under autocast).

    Raises:
        TypeError, NotImplementedError: if an argument is no floating-point Tensor.
        ValueError: if the shapes differ or `reduction` is unknown.

    Source:
        torch.nn.functional.binary_cross_entropy_with_logits.
    """
    name = "binary_cross_entropy_with_logits"
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating(name, input=input, target=target)
    if target.shape != input.shape:
        raise ValueError(f"{name}(): target {tuple(target.shape)} must have input's shape {tuple(input.shape)}")
    input, target = promoted(*autocast_to_float32(input, target))
    positive = _expanded("pos_weight", pos_weight, input)
    if weight is None:
        return rounded_once(BCEWithLogits.call, input, target, positive, reduction)
    losses = rounded_once(BCEWithLogits.call, input, target, positive, "none")
    return reduced(_expanded("weight", weight, input) * losses, reduction)


def _expanded(name: str, factor: Tensor | None, input: Tensor) -> Tensor:
    """A weight in input's shape and dtype; 1 if there is none."""
    if factor is None:
        return input.new_ones(()).expand_as(input)
    require_tensor("binary_cross_entropy_with_logits", **{name: factor})
    try:
        return factor.to(input.dtype).expand_as(input)
    except RuntimeError:
        raise RuntimeError(
            f"binary_cross_entropy_with_logits(): {name} {tuple(factor.shape)} does not broadcast to input "
            f"{tuple(input.shape)}"
        ) from None
