"""Margin losses of pairs, triplets and labels of two values: scores or distances should differ by a margin.

The hinge max(z, 0) has the derivative [z ≥ 0], so it is 1 at the kink z = 0. g is the upstream gradient of one
component's loss: of the result for 'sum' and 'none', of the result divided by n for the mean over n components.

The functions have the signatures, values and errors of torch.nn.functional. size_average and reduce are deprecated.
Under autocast all but `triplet_margin_with_distance_loss` compute in float32. TypeError if an argument is not a Tensor,
NotImplementedError if it is complex, ValueError if `reduction` is unknown.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.elementwise import ElementwiseLoss
from bp_torch.functional.losses import broadcast, elementwise_loss
from bp_torch.functional.precision import autocast_to_float32, in_float32
from bp_torch.functional.selection import minimum
from bp_torch.functional.similarity import pairwise_distance
from bp_torch.functional.validation import (
    require_constant,
    require_floating,
    require_real,
    require_tensor,
    resolve_reduction,
)

__all__ = [
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


class MarginRanking(ElementwiseLoss):
    """l = max(z, 0) with z = m − t (a − b): for t = 1, a should be larger than b by the margin m; for t = −1, smaller.

        ∂C/∂a = −g t where z ≥ 0, else 0
        ∂C/∂b = −∂C/∂a
        ∂C/∂t = −g (a − b) where z ≥ 0, else 0

    For m = 1, the first pair differs by less than the margin, the second by more:

    >>> a, b = torch.tensor([1.5, 3.0], requires_grad=True), torch.tensor([1.0, 1.0])
    >>> torch.autograd.grad(margin_ranking_loss(a, b, torch.ones(2), margin=1.0, reduction="sum"), a)
    (tensor([-1., -0.]),)
    """

    @staticmethod
    def hinge(input1: Tensor, input2: Tensor, target: Tensor, margin: float) -> Tensor:
        return margin - target * (input1 - input2)

    @staticmethod
    def loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float) -> Tensor:
        return MarginRanking.hinge(input1, input2, target, margin).clamp_min(0)

    @staticmethod
    def by_input1(input1: Tensor, input2: Tensor, target: Tensor, margin: float) -> Tensor:
        return -target * (MarginRanking.hinge(input1, input2, target, margin) >= 0)

    @staticmethod
    def by_input2(input1: Tensor, input2: Tensor, target: Tensor, margin: float) -> Tensor:
        return target * (MarginRanking.hinge(input1, input2, target, margin) >= 0)

    @staticmethod
    def by_target(input1: Tensor, input2: Tensor, target: Tensor, margin: float) -> Tensor:
        return (input2 - input1) * (MarginRanking.hinge(input1, input2, target, margin) >= 0)

    slopes = (by_input1, by_input2, by_target)


class HingeEmbedding(ElementwiseLoss):
    """l = x where t = 1, max(m − x, 0) where t = −1, and the sum of both where t is neither.

        ∂C/∂x = g where t ≠ −1, minus g where t ≠ 1 and x ≤ m

    For m = 1: a distance of a similar pair, and two of dissimilar ones, the second beyond the margin.

    >>> x = torch.tensor([0.5, 0.5, 2.0], requires_grad=True)
    >>> torch.autograd.grad(hinge_embedding_loss(x, torch.tensor([1, -1, -1]), reduction="sum"), x)
    (tensor([ 1., -1.,  0.]),)
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor, margin: float) -> Tensor:
        return torch.where(target != 1, (margin - input).clamp_min(0), 0) + torch.where(target != -1, input, 0)

    @staticmethod
    def by_input(input: Tensor, target: Tensor, margin: float) -> Tensor:
        return (target != -1).to(input.dtype) - ((target != 1) & (input <= margin)).to(input.dtype)

    slopes = (by_input, None)


class SoftMargin(ElementwiseLoss):
    """l = log(1 + e^(−t x)) for t = 1 or −1: the cross-entropy of the logit x.

        ∂C/∂x = −g t e^(−t x) / (1 + e^(−t x)) = −g t σ(−t x)

    At x = log 3, σ(x) = 3/4: for t = 1 the derivative is −1/4, for t = −1 it is 3/4.

    >>> x = torch.tensor([3.0, 3.0]).log().requires_grad_()
    >>> torch.autograd.grad(soft_margin_loss(x, torch.tensor([1, -1]), reduction="sum"), x)
    (tensor([-0.2500,  0.7500]),)
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor) -> Tensor:
        return -F.logsigmoid(target * input)

    @staticmethod
    def by_input(input: Tensor, target: Tensor) -> Tensor:
        return -target * torch.sigmoid(-target * input)

    slopes = (by_input, None)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`input1` should be larger than `input2` by `margin` where the target is 1, smaller where −1. See `MarginRanking`.

    The three have the same number of dimensions and are broadcast; integers become the default float dtype.
    """
    name = "margin_ranking_loss"
    reduction = resolve_reduction(reduction, size_average, reduce)
    tensors = {"input1": input1, "input2": input2, "target": target}
    _require_equal_dims(name, **tensors)
    return elementwise_loss(
        MarginRanking, *autocast_to_float32(*tensors.values()), reduction=reduction, constants=(float(margin),)
    )


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Distances `input` of similar pairs, target 1, and margin − distance of others, −1. See `HingeEmbedding`."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_real("hinge_embedding_loss", input)
    require_real("hinge_embedding_loss", target, "target")
    (input,) = autocast_to_float32(input)
    input, target = broadcast(input, target.detach())
    return in_float32(HingeEmbedding.call, input, target, reduction, margin)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Logistic loss of scores for labels 1 and −1. See `SoftMargin`.

    `target` is broadcast to the shape of `input`, RuntimeError if it cannot be or requires a gradient.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating("soft_margin_loss", input=input)
    require_real("soft_margin_loss", target, "target")
    require_constant("soft_margin_loss", target=target)
    (input,) = autocast_to_float32(input)
    return in_float32(SoftMargin.call, input, target.to(input.dtype).expand(input.shape), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The positive should be nearer to the anchor than the negative, by `margin`.

    max(d(a, p) − d(a, n) + m, 0) for the `pairwise_distance` d with `p` and `eps`; with `swap` the smaller one of
    d(a, n) and d(p, n). See `MarginRanking`, `PairwiseDistance`; Balntas, Riba, Ponsa, Mikolajczyk (2016).

    The three are (N, D) or (D,), and are broadcast. ValueError if `margin` is not positive.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_tensor("triplet_margin_loss", anchor=anchor)
    anchor, positive, negative = autocast_to_float32(anchor, positive, negative)
    distance = functools.partial(pairwise_distance, p=p, eps=eps)
    return _triplet_loss("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with another distance, by default `pairwise_distance`."""
    reduction = resolve_reduction(reduction)
    distance = distance_function or pairwise_distance
    name = "triplet_margin_with_distance_loss"
    return _triplet_loss(name, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet_loss(
    name: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if not margin > 0:
        raise ValueError(f"{name}(): argument 'margin' must be positive, got {margin}")
    _require_equal_dims(name, anchor=anchor, positive=positive, negative=negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return elementwise_loss(MarginRanking, far, near, torch.ones_like(far), reduction=reduction, constants=(margin,))


def _require_equal_dims(name: str, **tensors: Tensor) -> None:
    for argument, tensor in tensors.items():
        require_real(name, tensor, argument)
    if len({tensor.dim() for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{argument} {tuple(tensor.shape)}" for argument, tensor in tensors.items())
        raise RuntimeError(f"{name}(): {shapes} must have the same number of dimensions")
