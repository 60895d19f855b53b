"""Binary cross-entropy of logits."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bp_torch.functional import arithmetic
from bp_torch.functional.elementwise import reduce, reduction_grad
from bp_torch.functional.function import Function, save
from bp_torch.functional.losses import apply_reduction
from bp_torch.functional.precision import autocast_to_float32, in_float32, promote_types
from bp_torch.functional.shape import expand, to
from bp_torch.functional.validation import require_floating, require_tensor, resolve_reduction

__all__ = ["binary_cross_entropy_with_logits"]


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

    `input` holds logits, floating point, of any shape; `target` holds probabilities in [0, 1], of the same shape
    (ValueError otherwise). `weight` scales each loss and `pos_weight` is p; both are broadcast to the shape of `input`
    and, unlike torch's, may require gradients. The mean is over all components. size_average and reduce are deprecated.
    """
    name = "binary_cross_entropy_with_logits"
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating(name, input=input, target=target)
    if target.shape != input.shape:
        raise ValueError(f"{name}(): target {tuple(target.shape)} must have the shape of input, {tuple(input.shape)}")
    input, target = promote_types(*autocast_to_float32(input, target))
    positive = _expand_weight("pos_weight", pos_weight, input)
    if weight is None:
        return in_float32(BCEWithLogits.call, input, target, positive, reduction)
    losses = in_float32(BCEWithLogits.call, input, target, positive, "none")
    return apply_reduction(arithmetic.mul(_expand_weight("weight", weight, input), losses), reduction)


def _expand_weight(name: str, weight: Tensor | None, input: Tensor) -> Tensor:
    """Expand a weight to the shape of `input`, in its dtype; ones for None."""
    if weight is None:
        return torch.ones((), dtype=input.dtype, device=input.device).expand(input.shape)
    require_tensor("binary_cross_entropy_with_logits", **{name: weight})
    weight = to(weight, input.dtype)
    try:
        return weight if weight.shape == input.shape else expand(weight, input.shape)
    except RuntimeError:
        raise RuntimeError(
            f"binary_cross_entropy_with_logits(): {name} {tuple(weight.shape)} does not broadcast to input "
            f"{tuple(input.shape)}"
        ) from None
