"""Costs of outputs against wanted outputs: squares, absolute values, and binary cross-entropy.

A cost is a sum over components, reduced to one number: 'sum' adds up, 'mean' divides by how many there are, 'none'
keeps each. g stands for ∂C/∂cost, the upstream gradient; for 'mean' it reaches each component as g / n.
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.checks import require_floating, require_tensor, resolve_reduction
from bp_torch.functional.function import Function, keep
from bp_torch.functional.precision import autocast_enabled, autocast_to_float32, promoted, rounded_once


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Each loss, their sum, or their mean."""
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def _share(grad_output: Tensor, reduction: str, losses: int) -> Tensor:
    """What each of the losses receives of the upstream gradient: the reverse of `reduced`."""
    return grad_output / losses if reduction == "mean" else grad_output


class SquaredError(Function):
    """C = 1/N Σₙ Σ_c (yₙ_c − tₙ_c)², the lecture's cost: summed over the outputs, averaged over the N examples.

    ∂C/∂y = g · 2 (y − t) / N: each output's wish is in proportion to its distance from the target.
    ∂C/∂t = −∂C/∂y
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor) -> Tensor:
        error = input - target
        return (error * error).sum() / math.prod(input.shape[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        keep(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None]:
        input, target = ctx.saved_tensors
        grad_input = (input - target) * (2 * grad_output / math.prod(input.shape[:-1]))
        return grad_input, -grad_input if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor) -> Tensor:
        input, target = ctx.saved_tensors
        return (2 * (input - target) * (input_tangent - target_tangent)).sum() / math.prod(input.shape[:-1])


class MSELoss(Function):
    """lᵢ = (xᵢ − tᵢ)².

    ∂C/∂x = g · 2 (x − t), ∂C/∂t = −∂C/∂x; 'mean' divides by the number of components.
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, reduction: str) -> Tensor:
        error = input - target
        return reduced(error * error, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
        input, target, ctx.reduction = inputs
        keep(ctx, input, target)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None]:
        input, target = ctx.saved_tensors
        grad_input = 2 * (input - target) * _share(grad_output, ctx.reduction, input.numel())
        return grad_input, -grad_input if ctx.needs_input_grad[1] else None, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, _: None) -> Tensor:
        input, target = ctx.saved_tensors
        return reduced(2 * (input - target) * (input_tangent - target_tangent), ctx.reduction)


class L1Loss(Function):
    """lᵢ = |xᵢ − tᵢ|.

    ∂C/∂x = g · sign(x − t), which is 0 at the kink x = t; ∂C/∂t = −∂C/∂x.
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, reduction: str) -> Tensor:
        return reduced((input - target).abs(), reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
        input, target, ctx.reduction = inputs
        keep(ctx, input, target)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None]:
        input, target = ctx.saved_tensors
        grad_input = torch.sign(input - target) * _share(grad_output, ctx.reduction, input.numel())
        return grad_input, -grad_input if ctx.needs_input_grad[1] else None, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, _: None) -> Tensor:
        input, target = ctx.saved_tensors
        return reduced(torch.sign(input - target) * (input_tangent - target_tangent), ctx.reduction)


class SmoothL1Loss(Function):
    """With d = xᵢ − tᵢ: lᵢ = d² / 2β where |d| < β, otherwise |d| − β/2. β > 0.

    ∂C/∂x = g · d/β where |d| < β, otherwise g · sign(d); ∂C/∂t = −∂C/∂x. Both branches agree at |d| = β.
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, reduction: str, beta: float) -> Tensor:
        distance = (input - target).abs()
        losses = torch.where(distance < beta, 0.5 * distance * distance / beta, distance - 0.5 * beta)
        return reduced(losses, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str, float], output: Tensor) -> None:
        input, target, ctx.reduction, ctx.beta = inputs
        keep(ctx, input, target)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        input, target = ctx.saved_tensors
        grad_input = _smooth_sign(input - target, ctx.beta) * _share(grad_output, ctx.reduction, input.numel())
        return grad_input, -grad_input if ctx.needs_input_grad[1] else None, None, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, *_: None) -> Tensor:
        input, target = ctx.saved_tensors
        return reduced(_smooth_sign(input - target, ctx.beta) * (input_tangent - target_tangent), ctx.reduction)


def _smooth_sign(difference: Tensor, beta: float) -> Tensor:
    return torch.where(difference.abs() < beta, difference / beta, torch.sign(difference))


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
        keep(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target, pos_weight = ctx.saved_tensors
        needs_input, needs_target, needs_pos_weight, _ = ctx.needs_input_grad
        share = _share(grad_output, ctx.reduction, input.numel())
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


def squared_error(input: Tensor, target: Tensor) -> Tensor:
    """The lecture's cost: squared differences, summed over the outputs, averaged over the examples.

    Args:
        input: outputs y, (N, C); any leading dimensions count as examples, (C,) is one example.
        target: wanted outputs t, of the same shape.

    Returns:
        The cost, a scalar; NaN for no examples. See `SquaredError` for the equations.

    Raises:
        TypeError: if an argument is not a Tensor; NotImplementedError if it is not floating point.
        ValueError: if the shapes differ or there is no dimension to sum over.

    Source:
        The lecture's statement 3.
    """
    require_floating("squared_error", input=input, target=target)
    if input.shape != target.shape or input.dim() == 0:
        raise ValueError(
            f"squared_error(): input {tuple(input.shape)} and target {tuple(target.shape)} must have the same "
            "shape (N, C); for class indices, one_hot(target, C) makes the target"
        )
    if input.dtype != target.dtype or autocast_enabled():
        input, target = promoted(*autocast_to_float32(input, target))
    return rounded_once(SquaredError.call, input, target)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Squared differences; see `MSELoss` for the equations.

    Args:
        input: any shape, floating point.
        target: of the same shape, or one that broadcasts with it (which warns).
        size_average: deprecated, as in torch.
        reduce: deprecated, as in torch.
        reduction: 'none', 'sum', or 'mean' over all components (with `weight`: divided by its sum).
        weight: a factor for each component, of input's shape.

    Returns:
        A scalar, or each loss for 'none', in the dtype both promote to (float32 under autocast).

    Raises:
        TypeError, NotImplementedError: if an argument is no floating-point Tensor.
        ValueError: if `reduction` is unknown or `weight` has another shape.
        RuntimeError: if the shapes do not broadcast.

    Source:
        torch.nn.functional.mse_loss.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    return _regression_loss("mse_loss", MSELoss, input, target, reduction, weight)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Absolute differences; see `L1Loss` for the equations, `mse_loss` for arguments and errors.

    Source:
        torch.nn.functional.l1_loss.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    return _regression_loss("l1_loss", L1Loss, input, target, reduction, weight)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Squares near the target, absolute differences far from it; see `SmoothL1Loss`.

    Args:
        input: as for `mse_loss`, like the rest.
        target: of the same shape.
        size_average: deprecated, as in torch.
        reduce: deprecated, as in torch.
        reduction: 'none', 'sum' or 'mean'.
        beta: β, where squares end; 0 gives `l1_loss`.

    Raises:
        RuntimeError: if `beta` is negative; otherwise as for `mse_loss`.

    Source:
        torch.nn.functional.smooth_l1_loss; Girshick, Fast R-CNN (2015).
    """
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss(): argument 'beta' must not be negative, got {beta}")
    reduction = resolve_reduction(reduction, size_average, reduce)
    if beta == 0:
        return _regression_loss("smooth_l1_loss", L1Loss, input, target, reduction, None)
    return _regression_loss("smooth_l1_loss", SmoothL1Loss, input, target, reduction, None, beta)


def _regression_loss(
    name: str,
    function: type[Function],
    input: Tensor,
    target: Tensor,
    reduction: str,
    weight: Tensor | None,
    *constants: float,
) -> Tensor:
    require_floating(name, input=input)
    require_tensor(name, target=target)
    if target.shape != input.shape:
        warnings.warn(
            f"{name}(): target {tuple(target.shape)} is broadcast with input {tuple(input.shape)}; "
            "give both the same shape if that is not meant",
            stacklevel=3,
        )
    if weight is None:
        input, target = autocast_to_float32(input, target)  # the weighted form is no operation of autocast's
    input, target = promoted(input, target)
    input, target = torch.broadcast_tensors(input, target)  # type: ignore[no-untyped-call]
    if weight is None:
        return rounded_once(function.call, input, target, reduction, *constants)
    if weight.shape != input.shape:
        raise ValueError(f"{name}(): weight {tuple(weight.shape)} must have input's shape {tuple(input.shape)}")
    losses = weight * rounded_once(function.call, input, target, "none", *constants)
    return losses.sum() / weight.sum() if reduction == "mean" else reduced(losses, reduction)


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
    pos_weight = input.new_ones(()) if pos_weight is None else pos_weight
    input, target, pos_weight = promoted(*autocast_to_float32(input, target, pos_weight))
    pos_weight = pos_weight.expand_as(input)
    if weight is None:
        return rounded_once(BCEWithLogits.call, input, target, pos_weight, reduction)
    return reduced(weight * rounded_once(BCEWithLogits.call, input, target, pos_weight, "none"), reduction)
