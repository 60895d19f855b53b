"""Regression losses: squared and absolute differences of outputs and targets.

`reduction` 'none' returns the loss of each of n components, 'sum' their sum, 'mean' the sum / n. g is the upstream
gradient of the result; each component's loss receives g for 'sum' and g / n for 'mean'.

`squared_error` is the lecture's cost. The others have the signatures of torch.nn.functional: `input` has any shape,
and `target` the same or one that broadcasts with it, which warns. `weight` holds a factor for each component; the mean
then divides by its sum. size_average and reduce are deprecated. The result has the promoted dtype, float32 under
autocast. TypeError or NotImplementedError if an argument is not a floating-point Tensor, ValueError if `reduction` is
unknown or `weight` has another shape, RuntimeError if the shapes do not broadcast.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional import arithmetic, reductions
from bp_torch.functional.elementwise import DifferenceLoss, ElementwiseLoss
from bp_torch.functional.function import Function, scalar_like
from bp_torch.functional.precision import autocast_enabled, autocast_to_float32, in_float32, promote_types
from bp_torch.functional.shape import expand, to
from bp_torch.functional.validation import require_floating, require_tensor, resolve_reduction, warn

__all__ = ["huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss", "squared_error"]

EPSILON = 9.999999960041972e-13
"""10⁻¹², as float32 rounds it: the constant that PyTorch's kernels of losses add or clamp at."""


class SquaredError(Function):
    """C = 1/N Σₙ Σ_c (yₙ_c − tₙ_c)², the lecture's cost: summed over the outputs, averaged over the N examples.

    Each output enters one square, and d/dy (y − t)² = 2 (y − t), so

        ∂C/∂y = g · 2 (y − t) / N
        ∂C/∂t = −∂C/∂y

    For one example with y = (0.6, 0.2) and t = (1, 0), C = 0.16 + 0.04 and the gradient is 2 · (−0.4, 0.2):

    >>> y = torch.tensor([[0.6, 0.2]], requires_grad=True)
    >>> cost = squared_error(y, torch.tensor([[1.0, 0.0]]))
    >>> round(cost.item(), 4), torch.autograd.grad(cost, y)
    (0.2, (tensor([[-0.8000,  0.4000]]),))
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor) -> Tensor:
        error = input - target
        return (error * error).sum() * scalar_like(_one_over_n(input), input)

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
    """1/N for N examples; ∞ for N = 0, so that the cost is 0 · ∞ = NaN, as an empty mean is."""
    examples = input.shape[:-1].numel()
    return 1 / examples if examples else math.inf


class MSELoss(DifferenceLoss):
    """lᵢ = (xᵢ − tᵢ)².

    ∂C/∂x = g/n · 2 (x − t); the mean divides by n, the number of components

    For x = (3, 1) and t = (1, 2) the differences are (2, −1) and the gradient of the mean is (2, −1):

    >>> x = torch.tensor([3.0, 1.0], requires_grad=True)
    >>> torch.autograd.grad(mse_loss(x, torch.tensor([1.0, 2.0])), x)
    (tensor([ 2., -1.]),)
    """

    @staticmethod
    def loss(difference: Tensor) -> Tensor:
        return difference * difference

    @staticmethod
    def derivative(difference: Tensor) -> Tensor:
        return 2 * difference


class L1Loss(DifferenceLoss):
    """lᵢ = |xᵢ − tᵢ|.

    ∂C/∂x = g/n · sign(x − t), 0 at the kink x = t; the mean divides by n, the number of components

    >>> x = torch.tensor([3.0, 1.0, 2.0, -9.0], requires_grad=True)
    >>> torch.autograd.grad(l1_loss(x, torch.tensor([1.0, 2.0, 2.0, 0.0])), x)
    (tensor([ 0.2500, -0.2500,  0.0000, -0.2500]),)
    """

    @staticmethod
    def loss(difference: Tensor) -> Tensor:
        return difference.abs()

    @staticmethod
    def derivative(difference: Tensor) -> Tensor:
        return torch.sign(difference)


class SmoothL1Loss(DifferenceLoss):
    """lᵢ = d² / 2β where |d| < β, otherwise |d| − β/2, with d = xᵢ − tᵢ and β > 0.

    ∂C/∂x = g/n · d/β where |d| < β, otherwise g/n · sign(d); the mean divides by n, the number of components

    Values and derivatives of the two branches agree at |d| = β.

    For β = 2, the derivative is 1/2 at d = 1, on the parabola, and −1 at d = −3, on the line:

    >>> x = torch.tensor([1.0, -3.0], requires_grad=True)
    >>> torch.autograd.grad(smooth_l1_loss(x, torch.zeros(2), reduction="sum", beta=2.0), x)
    (tensor([ 0.5000, -1.0000]),)
    """

    @staticmethod
    def loss(difference: Tensor, beta: float) -> Tensor:
        distance = difference.abs()
        return torch.where(distance < beta, 0.5 * distance * distance / beta, distance - 0.5 * beta)

    @staticmethod
    def derivative(difference: Tensor, beta: float) -> Tensor:
        return torch.where(difference.abs() < beta, difference / beta, torch.sign(difference))


class HuberLoss(DifferenceLoss):
    """lᵢ = ½ d² where |d| < δ, otherwise δ (|d| − ½ δ), with d = xᵢ − tᵢ and δ > 0.

    ∂C/∂x = g/n · d, clamped to [−δ, δ]; the mean divides by n, the number of components

    It is δ times `SmoothL1Loss` with β = δ.

    For δ = 2, the derivative is 1 at d = 1, on the parabola, and −2 at d = −3, on the line:

    >>> x = torch.tensor([1.0, -3.0], requires_grad=True)
    >>> torch.autograd.grad(huber_loss(x, torch.zeros(2), reduction="sum", delta=2.0), x)
    (tensor([ 1., -2.]),)
    """

    @staticmethod
    def loss(difference: Tensor, delta: float) -> Tensor:
        clamped = difference.clamp(-delta, delta)
        return clamped * torch.sub(difference, clamped, alpha=0.5)  # d (d − ½ d), or ±δ (d ∓ ½ δ)

    @staticmethod
    def derivative(difference: Tensor, delta: float) -> Tensor:
        return difference.clamp(-delta, delta)


def apply_reduction(losses: Tensor, reduction: str) -> Tensor:
    """Reduce losses by hand-written functions, outside of a Function."""
    return losses if reduction == "none" else getattr(reductions, reduction)(losses)


def broadcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Expand Tensors to their common shape; RuntimeError if there is none."""
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))  # type: ignore[no-untyped-call]
    return tuple(x if x.shape == shape else expand(x, shape) for x in tensors)


def elementwise_loss(
    function: type[ElementwiseLoss], *tensors: Tensor, reduction: str, constants: tuple[Any, ...] = ()
) -> Tensor:
    """Broadcast the Tensors, convert them to their common dtype, and apply a loss of their components."""
    return in_float32(function.call, *broadcast(*promote_types(*tensors)), reduction, *constants)


def squared_error(input: Tensor, target: Tensor) -> Tensor:
    """Squared differences, summed over the outputs, averaged over the examples. See `SquaredError`.

    `input` and `target` are (N, C). All leading dimensions count as examples; (C,) is one example. The cost is a
    scalar, NaN if there are no examples. ValueError if the shapes differ or are ().

    Source: statement 3 of docs/lecture.md.
    """
    if not (type(input) is type(target) is Tensor and input.is_floating_point() and target.is_floating_point()):
        require_floating("squared_error", input=input, target=target)
    if input.shape != target.shape or input.dim() == 0:
        raise ValueError(
            f"squared_error(): input {tuple(input.shape)} and target {tuple(target.shape)} must have the same "
            "shape (N, C); convert class indices by one_hot(target, C)"
        )
    if input.dtype != target.dtype or autocast_enabled():
        input, target = promote_types(*autocast_to_float32(input, target))
    return in_float32(SquaredError.call, input, target)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Squared differences. See `MSELoss`."""
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
    """Absolute differences. See `L1Loss`."""
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
    """Squared differences below `beta`, absolute differences above. See `SmoothL1Loss`; Girshick, Fast R-CNN (2015).

    `beta` 0 gives `l1_loss`; RuntimeError if it is negative.
    """
    if not beta >= 0:
        raise RuntimeError(f"smooth_l1_loss(): argument 'beta' must not be negative, got {beta}")
    reduction = resolve_reduction(reduction, size_average, reduce)
    if beta == 0:
        return _regression_loss("smooth_l1_loss", L1Loss, input, target, reduction, None)
    return _regression_loss("smooth_l1_loss", SmoothL1Loss, input, target, reduction, None, beta)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Squared differences below `delta`, absolute differences above. See `HuberLoss`; Huber (1964).

    Unlike the other means, the weighted one divides by n, and the loss has the dtype of `input`. RuntimeError if
    `delta` is not positive.
    """
    if not delta > 0:
        raise RuntimeError(f"huber_loss(): argument 'delta' must be positive, got {delta}")
    reduction = resolve_reduction(reduction)
    require_floating("huber_loss", input=input)
    require_tensor("huber_loss", target=target)
    input, target = autocast_to_float32(input, target)
    if weight is None:
        return to(_regression_loss("huber_loss", HuberLoss, input, target, reduction, None, delta), input.dtype)
    _require_weight_of_input("huber_loss", weight, input)
    losses = _regression_loss("huber_loss", HuberLoss, input, target, "none", None, delta)
    return apply_reduction(arithmetic.mul(to(losses, input.dtype), weight), reduction)


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
        warn(
            f"{name}(): target {tuple(target.shape)} is broadcast with input {tuple(input.shape)}; "
            "give both the same shape if this is not intended",
            stacklevel=3,
        )
        input, target = broadcast(input, target)
    if weight is None:
        input, target = autocast_to_float32(input, target)  # autocast does not cover the weighted form
    input, target = promote_types(input, target)
    require_floating(name, input=input)
    if weight is None:
        return in_float32(function.call, input, target, reduction, *constants)
    _require_weight_of_input(name, weight, input)
    losses = arithmetic.mul(weight, in_float32(function.call, input, target, "none", *constants))
    if reduction == "mean":
        return arithmetic.div(reductions.sum(losses), reductions.sum(weight))
    return apply_reduction(losses, reduction)


def _require_weight_of_input(name: str, weight: Tensor, input: Tensor) -> None:
    require_tensor(name, weight=weight)
    if weight.shape != input.shape:
        raise ValueError(f"{name}(): weight {tuple(weight.shape)} must have the shape of input, {tuple(input.shape)}")
