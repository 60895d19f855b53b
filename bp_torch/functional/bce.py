"""Binary cross-entropy of probabilities and of logits.

`input` has any shape, floating point; `target` holds probabilities in [0, 1], of the same shape (ValueError otherwise).
`weight` scales each loss; it is broadcast to the shape of `input` and, unlike torch's, may require a gradient. The mean
is over all components. size_average and reduce are deprecated. Under autocast they compute in float32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import logsigmoid

from bp_torch.functional import arithmetic
from bp_torch.functional.elementwise import ElementwiseLoss, reduce, reduction_grad
from bp_torch.functional.function import Function, save
from bp_torch.functional.losses import EPSILON, apply_reduction
from bp_torch.functional.precision import autocast_to_float32, in_float32, promote_types
from bp_torch.functional.shape import expand, to
from bp_torch.functional.validation import require_floating, require_tensor, resolve_reduction

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits"]


class BCE(ElementwiseLoss):
    """l = −t log x − (1 − t) log(1 − x) of a probability x, where both logarithms are at least −100.

    With ∂l/∂x = −t/x + (1 − t)/(1 − x) and g = ∂C/∂l

        ∂C/∂x = g · (x − t) / (x (1 − x))
        ∂C/∂t = g · (log(1 − x) − log x)

    For the mean over n components, g is the upstream gradient / n. As in torch, the denominator is at least 10⁻¹²,
    which bounds ∂C/∂x at x = 0 and x = 1, and the logarithms of ∂C/∂t are not bounded.

    At x = 1/4 the gradient is −1/x = −4 for t = 1 and 1/(1 − x) = 4/3 for t = 0:

    >>> x = torch.tensor([0.25, 0.25], requires_grad=True)
    >>> cost = binary_cross_entropy(x, torch.tensor([1.0, 0.0]), reduction="sum")
    >>> torch.autograd.grad(cost, x)
    (tensor([-4.0000,  1.3333]),)
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, reduction="none")

    @staticmethod
    def by_input(input: Tensor, target: Tensor) -> Tensor:
        return (input - target) / (input * (1 - input)).clamp_min(EPSILON)

    @staticmethod
    def by_target(input: Tensor, target: Tensor) -> Tensor:
        return torch.log1p(-input) - torch.log(input)

    slopes = (by_input, by_target)


class BCEWithLogits(Function):
    """l = −p t log σ(x) − (1 − t) log(1 − σ(x)), where p is the weight of the positive class.

    Since 1 − σ(x) = e⁻ˣ σ(x), log(1 − σ(x)) = log σ(x) − x. The one logarithm left is the stable `logsigmoid`:

        l = (1 − t) x − (p t + 1 − t) log σ(x)

    With (log σ)′(x) = 1 − σ(x) and g = ∂C/∂l

        ∂C/∂x = g · (1 − t − (p t + 1 − t) (1 − σ(x)))
              = g · ((p t + 1 − t) σ(x) − p t)           for p = 1: g (σ(x) − t)
        ∂C/∂t = g · ((1 − p) log σ(x) − x)
        ∂C/∂p = −g · t log σ(x)

    For the mean over n components, g is the upstream gradient / n.

    At x = log 3, σ(x) = 3/4: the gradient is 3/4 − 1 for t = 1 and 3/4 for t = 0.

    >>> x = torch.tensor([3.0, 3.0]).log().requires_grad_()
    >>> cost = binary_cross_entropy_with_logits(x, torch.tensor([1.0, 0.0]), reduction="sum")
    >>> torch.autograd.grad(cost, x)
    (tensor([-0.2500,  0.7500]),)
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, pos_weight: Tensor, reduction: str) -> Tensor:
        positive, negative = pos_weight * target, 1 - target
        return reduce(negative * input - (positive + negative) * logsigmoid(input), reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, str], output: Tensor) -> None:
        *tensors, ctx.reduction = inputs
        save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, t, p = ctx.saved_tensors
        needs_input, needs_target, needs_pos_weight, _ = ctx.needs_input_grad
        g = reduction_grad(grad_output, ctx.reduction, x.numel())
        grad_input = g * ((p * t + 1 - t) * torch.sigmoid(x) - p * t) if needs_input else None
        grad_target = g * ((1 - p) * logsigmoid(x) - x) if needs_target else None
        grad_pos_weight = -g * (t * logsigmoid(x)) if needs_pos_weight else None
        return grad_input, grad_target, grad_pos_weight, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, pos_weight_tangent: Tensor, _: None) -> Tensor:
        x, t, p = ctx.saved_tensors
        log_p = logsigmoid(x)
        input_term = ((p * t + 1 - t) * torch.sigmoid(x) - p * t) * input_tangent
        target_term = ((1 - p) * log_p - x) * target_tangent
        return reduce(input_term + target_term - t * log_p * pos_weight_tangent, ctx.reduction)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of probabilities against probabilities. See `BCE`.

    RuntimeError if `input` is not in [0, 1] or the dtypes of `input` and `target` differ; always, under autocast on
    CUDA.
    """
    name = "binary_cross_entropy"
    reduction = resolve_reduction(reduction, size_average, reduce)
    _require_pair(name, input, target)
    input, target = autocast_to_float32(input, target)
    if target.dtype != input.dtype:
        raise RuntimeError(f"{name}(): target is {target.dtype} but input is {input.dtype}; give both the same dtype")

    def losses(reduction: str) -> Tensor:
        return in_float32(BCE.call, input, target, reduction)

    return _weighted(name, weight, input, losses, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of sigmoid(input) against probabilities. See `BCEWithLogits`.

    `pos_weight` is p; it is broadcast to the shape of `input` and, unlike torch's, may require a gradient.
    """
    name = "binary_cross_entropy_with_logits"
    reduction = resolve_reduction(reduction, size_average, reduce)
    _require_pair(name, input, target)
    input, target = promote_types(*autocast_to_float32(input, target))
    positive = _expand_weight(name, "pos_weight", pos_weight, input)

    def losses(reduction: str) -> Tensor:
        return in_float32(BCEWithLogits.call, input, target, positive, reduction)

    return _weighted(name, weight, input, losses, reduction)


def _require_pair(name: str, input: Tensor, target: Tensor) -> None:
    require_floating(name, input=input, target=target)
    if target.shape != input.shape:
        raise ValueError(f"{name}(): target {tuple(target.shape)} must have the shape of input, {tuple(input.shape)}")


def _weighted(
    name: str, weight: Tensor | None, input: Tensor, losses: Callable[[str], Tensor], reduction: str
) -> Tensor:
    """Reduce the losses, each multiplied by its weight."""
    if weight is None:
        return losses(reduction)
    return apply_reduction(arithmetic.mul(_expand_weight(name, "weight", weight, input), losses("none")), reduction)


def _expand_weight(function: str, name: str, weight: Tensor | None, input: Tensor) -> Tensor:
    """Expand a weight to the shape of `input`, in its dtype; ones for None."""
    if weight is None:
        return torch.ones((), dtype=input.dtype, device=input.device).expand(input.shape)
    require_tensor(function, **{name: weight})
    weight = to(weight, input.dtype)
    try:
        return weight if weight.shape == input.shape else expand(weight, input.shape)
    except RuntimeError:
        raise RuntimeError(
            f"{function}(): {name} {tuple(weight.shape)} does not broadcast to input {tuple(input.shape)}"
        ) from None
