"""Costs of outputs against wanted outputs: squares and absolute values.

A cost is a sum over components, reduced to one number: 'sum' adds up, 'mean' divides by how many there are, 'none'
keeps each. g stands for ∂C/∂cost, the upstream gradient; for 'mean' it reaches each component as g / n.
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save, scalar_like
from bp_torch.functional.precision import autocast_enabled, autocast_to_float32, promoted, rounded_once
from bp_torch.functional.validation import require_floating, require_tensor, resolve_reduction

__all__ = ["l1_loss", "mse_loss", "smooth_l1_loss", "squared_error"]


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Each loss, their sum, or their mean."""
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def shared(grad_output: Tensor, reduction: str, losses: int) -> Tensor:
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
        return (error * error).sum() * scalar_like(_one_over_n(input), input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None]:
        input, target = ctx.saved_tensors
        grad_input = (input - target) * grad_output * scalar_like(2 * _one_over_n(input), input)
        return grad_input, -grad_input if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor) -> Tensor:
        input, target = ctx.saved_tensors
        return (2 * (input - target) * (input_tangent - target_tangent)).sum() * _one_over_n(input)


def _one_over_n(input: Tensor) -> float:
    """1/N, each example's part in the mean; ∞ for none, so that their cost is 0 · ∞: NaN, as the mean of nothing is."""
    examples = math.prod(input.shape[:-1])
    return 1 / examples if examples else math.inf


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
        save(ctx, input, target)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None]:
        input, target = ctx.saved_tensors
        grad_input = 2 * (input - target) * shared(grad_output, ctx.reduction, input.numel())
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
        save(ctx, input, target)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None]:
        input, target = ctx.saved_tensors
        grad_input = torch.sign(input - target) * shared(grad_output, ctx.reduction, input.numel())
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
        save(ctx, input, target)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        input, target = ctx.saved_tensors
        grad_input = _smooth_sign(input - target, ctx.beta) * shared(grad_output, ctx.reduction, input.numel())
        return grad_input, -grad_input if ctx.needs_input_grad[1] else None, None, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, *_: None) -> Tensor:
        input, target = ctx.saved_tensors
        return reduced(_smooth_sign(input - target, ctx.beta) * (input_tangent - target_tangent), ctx.reduction)


def _smooth_sign(difference: Tensor, beta: float) -> Tensor:
    return torch.where(difference.abs() < beta, difference / beta, torch.sign(difference))


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
    if not (type(input) is type(target) is Tensor and input.is_floating_point() and target.is_floating_point()):
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
    if not beta >= 0:
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
    require_tensor(name, input=input, target=target)
    if target.shape != input.shape:
        warnings.warn(
            f"{name}(): target {tuple(target.shape)} is broadcast with input {tuple(input.shape)}; "
            "give both the same shape if that is not meant",
            stacklevel=3,
        )
    if weight is None:
        input, target = autocast_to_float32(input, target)  # the weighted form is no operation of autocast's
    input, target = promoted(input, target)
    require_floating(name, input=input)
    if target.shape != input.shape:
        input, target = torch.broadcast_tensors(input, target)  # type: ignore[no-untyped-call]
    if weight is None:
        return rounded_once(function.call, input, target, reduction, *constants)
    if weight.shape != input.shape:
        raise ValueError(f"{name}(): weight {tuple(weight.shape)} must have input's shape {tuple(input.shape)}")
    losses = weight * rounded_once(function.call, input, target, "none", *constants)
    return losses.sum() / weight.sum() if reduction == "mean" else reduced(losses, reduction)
