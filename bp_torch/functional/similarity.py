"""Similarity and distance of vectors: the cosine of their angle, and the p-norm of their difference.

g = ∂C/∂y is the upstream gradient. The functions have the signatures and values of torch.nn.functional. The two Tensors
are broadcast and have their common dtype. TypeError if an argument is not a Tensor, NotImplementedError if it is
complex, RuntimeError if the shapes do not broadcast, IndexError if `dim` is out of range.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.elementwise import ElementwiseLoss
from bp_torch.functional.function import Function, save
from bp_torch.functional.losses import EPSILON, broadcast
from bp_torch.functional.norms import norm_slope
from bp_torch.functional.precision import autocast_to_float32, cuda_autocast_to_float32, in_float32, promote_types
from bp_torch.functional.validation import require_floating, require_real, resolve_reduction

__all__ = ["cosine_embedding_loss", "cosine_similarity", "pairwise_distance"]

Norm = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]


def clamped_norm(x: Tensor, dim: int, eps: float) -> tuple[Tensor, Tensor]:
    """The norm n = max(‖x‖, ε) and ∂n/∂x. As in torch, this is x / ‖x‖ also where ‖x‖ < ε, and 0 where x = 0."""
    norm = torch.linalg.vector_norm(x, 2, dim, keepdim=True)
    slope = x / norm.masked_fill(norm == 0, 1)
    return torch.where(norm < eps, norm - norm.detach() + eps, norm), slope


def smooth_norm(x: Tensor, dim: int, eps: float) -> tuple[Tensor, Tensor]:
    """The norm n = √(‖x‖² + ε) and ∂n/∂x = x / n."""
    norm = torch.sqrt((x * x).sum(dim, keepdim=True) + eps)
    return norm, x / norm


class CosineSimilarity(Function):
    """y = â · b̂ with â = a / n and b̂ = b / m along a dimension, where n and m are the norms of a and b.

    a changes y directly, and through its norm:

        directly        ∂y/∂a = b̂ / n
        through n       ∂y/∂n · ∂n/∂a = −y / n · ∂n/∂a

        ∂C/∂a = g (b̂ − y ∂n/∂a) / n
        ∂C/∂b = g (â − y ∂m/∂b) / m

    For the norm ‖a‖, ∂n/∂a = â: the gradient is orthogonal to a, whose length does not change y.

    `norm` is `clamped_norm` or `smooth_norm`: two ways to keep n from 0.

    For a = (3, 4) and b = (1, 0), y = 0.6 and the gradient is ((1, 0) − 0.6 (0.6, 0.8)) / 5:

    >>> a, b = torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([1.0, 0.0])
    >>> torch.autograd.grad(cosine_similarity(a, b, dim=0), a)
    (tensor([ 0.1280, -0.0960]),)
    """

    @staticmethod
    def forward(input: Tensor, other: Tensor, norm: Norm, dim: int, eps: float) -> Tensor:
        n, _ = norm(input, dim, eps)
        m, _ = norm(other, dim, eps)
        return (input / n * (other / m)).sum(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, other, *ctx.constants = inputs
        save(ctx, input, other)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        by_input, by_other = CosineSimilarity.slopes(ctx)
        g = grad_output.unsqueeze(ctx.constants[1]) if by_input.dim() else grad_output
        needs_input, needs_other, *_ = ctx.needs_input_grad
        return g * by_input if needs_input else None, g * by_other if needs_other else None, None, None, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, other_tangent: Tensor, *_: None) -> Tensor:
        by_input, by_other = CosineSimilarity.slopes(ctx)
        return (by_input * input_tangent + by_other * other_tangent).sum(ctx.constants[1])

    @staticmethod
    def slopes(ctx: Any) -> tuple[Tensor, Tensor]:
        """∂y/∂a and ∂y/∂b."""
        (a, b), (norm, dim, eps) = ctx.saved_tensors, ctx.constants
        (n, n_slope), (m, m_slope) = norm(a, dim, eps), norm(b, dim, eps)
        a, b = a / n, b / m
        y = (a * b).sum(dim, keepdim=True)
        return (b - y * n_slope) / n, (a - y * m_slope) / m


class CosineMargin(ElementwiseLoss):
    """l = 1 − y where t = 1, max(y − m, 0) where t = −1, for a cosine y and the margin m.

        ∂C/∂y = −g where t = 1, g where t = −1 and y ≥ m, else 0

    For the mean over n pairs, g is the upstream gradient / n.
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor, margin: float) -> Tensor:
        return torch.where(target == 1, 1 - input, 0) + torch.where(target == -1, (input - margin).clamp_min(0), 0)

    @staticmethod
    def by_input(input: Tensor, target: Tensor, margin: float) -> Tensor:
        return ((target == -1) & (input >= margin)).to(input.dtype) - (target == 1).to(input.dtype)

    slopes = (by_input, None)


class PairwiseDistance(Function):
    """y = ‖d‖ = (Σ |dᵢ|ᵖ)^(1/p) with d = a − b + ε, along the last dimension.

        ∂C/∂aᵢ = g sign(dᵢ) (|dᵢ| / ‖d‖)ᵖ⁻¹          for p = 2: g dᵢ / ‖d‖
        ∂C/∂b = −∂C/∂a

    Where d = 0, the gradient is 0; `norm_slope` states it for p = 0 and p = ∞.

    For d = (3, 4) the gradient is (3, 4) / 5:

    >>> a, b = torch.tensor([4.0, 6.0], requires_grad=True), torch.tensor([1.0, 2.0])
    >>> torch.autograd.grad(pairwise_distance(a, b, eps=0.0), a)
    (tensor([0.6000, 0.8000]),)
    """

    @staticmethod
    def forward(input: Tensor, other: Tensor, p: float, eps: float, keepdim: bool) -> Tensor:
        return torch.pairwise_distance(input, other, p, eps, keepdim)

    setup_context = staticmethod(CosineSimilarity.setup_context)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        norm, slope = PairwiseDistance.slope(ctx)
        grad_input = grad_output.reshape(norm.shape) * slope
        return grad_input, -grad_input if ctx.needs_input_grad[1] else None, None, None, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, other_tangent: Tensor, *constants: None) -> Tensor:
        _, slope = PairwiseDistance.slope(ctx)
        return (slope * (input_tangent - other_tangent)).sum(-1, keepdim=ctx.constants[2])

    @staticmethod
    def slope(ctx: Any) -> tuple[Tensor, Tensor]:
        """‖d‖, with a last dimension of length 1, and ∂‖d‖/∂d."""
        (input, other), (p, eps, _) = ctx.saved_tensors, ctx.constants
        difference = input - other + eps
        norm = torch.linalg.vector_norm(difference, p, -1, keepdim=True)
        return norm, norm_slope(difference, norm, p, -1)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between vectors along `dim`; a norm is at least `eps`. See `CosineSimilarity`.

    Under autocast on CUDA in float32. RuntimeError if `eps` is negative.
    """
    if not isinstance(dim, int):
        raise TypeError(f"cosine_similarity(): argument 'dim' must be int, not {type(dim).__name__}")
    if eps < 0:
        raise RuntimeError(f"cosine_similarity(): argument 'eps' must not be negative, got {eps}")
    x1, x2 = map(cuda_autocast_to_float32, _as_pair("cosine_similarity", x1=x1, x2=x2))
    require_floating("cosine_similarity", x1=x1, x2=x2)
    return in_float32(CosineSimilarity.call, x1, x2, clamped_norm, dim, eps)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 − x2 + `eps` along the last dimension. See `PairwiseDistance`.

    `keepdim` keeps this dimension, with length 1. Under autocast on CUDA in float32.
    """
    x1, x2 = map(cuda_autocast_to_float32, _as_pair("pairwise_distance", x1=x1, x2=x2))
    return in_float32(PairwiseDistance.call, x1, x2, p, eps, keepdim)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 − cosine of similar pairs, target 1, and cosine − margin of others, −1. See `CosineMargin`.

    The inputs are (N, D) and the target (N,), or (D,) and (). To each squared norm 10⁻¹² is added. size_average and
    reduce are deprecated. Under autocast in float32.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_real("cosine_embedding_loss", target, "target")
    pair = autocast_to_float32(*_as_pair("cosine_embedding_loss", input1=input1, input2=input2))
    if target.dim() > 1 or not input1.dim() == input2.dim() == target.dim() + 1:
        raise RuntimeError(
            f"cosine_embedding_loss(): inputs {tuple(input1.shape)}, {tuple(input2.shape)} and target "
            f"{tuple(target.shape)} must be (N, D) and (N,), or (D,) and ()"
        )

    def cost(input1: Tensor, input2: Tensor) -> Tensor:
        cosine = CosineSimilarity.call(input1, input2, smooth_norm, -1, EPSILON)
        return CosineMargin.call(*broadcast(cosine, target.detach()), reduction, margin)

    return in_float32(cost, *pair)


def _as_pair(name: str, **pair: Tensor) -> tuple[Tensor, ...]:
    """Both Tensors in their common shape and dtype."""
    for argument, tensor in pair.items():
        require_real(name, tensor, argument)
    return broadcast(*promote_types(*pair.values()))
