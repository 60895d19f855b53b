"""Rotary position embedding: pairs of features, rotated by an angle that grows with the position."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import at_least_float32
from bp_torch.functional.shape import sum_to_shape, to
from bp_torch.functional.validation import require_floating

__all__ = ["rotary_embedding"]


class RotaryEmbedding(Function):
    """(y₁, y₂) = R(θ) (x₁, x₂): each pair of features, rotated by its angle θ.

        y₁ = x₁ cos θ − x₂ sin θ
        y₂ = x₂ cos θ + x₁ sin θ

    The gradient is Rᵀ g, and the transpose of a rotation is its inverse: the rotation by −θ,

        ∂C/∂x₁ = g₁ cos θ + g₂ sin θ
        ∂C/∂x₂ = g₂ cos θ − g₁ sin θ

    cos θ and sin θ count as independent, and are summed over the rows that share an angle:

        ∂C/∂(cos θ) = Σ g₁ x₁ + g₂ x₂
        ∂C/∂(sin θ) = Σ g₂ x₁ − g₁ x₂

    A quarter turn takes (3, 4) to (−4, 3), and the gradient (10, 20) back to (20, −10):

    >>> x, cos, sin = torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([0.0]), torch.tensor([1.0])
    >>> y = rotary_embedding(x, cos, sin)
    >>> y.tolist(), torch.autograd.grad(y, x, torch.tensor([10.0, 20.0]))
    ([-4.0, 3.0], (tensor([ 20., -10.]),))

    Source: Su, Lu, Pan, Murtadha, Wen, Liu, RoFormer: Enhanced Transformer with Rotary Position Embedding (2021).
    """

    @staticmethod
    def forward(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        return _rotate(input, cos, sin, interleaved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.interleaved = inputs
        save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, cos, sin = ctx.saved_tensors
        needs_input, needs_cos, needs_sin, _ = ctx.needs_input_grad
        (x1, x2), (g1, g2) = _pairs(input, ctx.interleaved), _pairs(grad_output, ctx.interleaved)
        return (
            sum_to_shape(_rotate(grad_output, cos, -sin, ctx.interleaved), input.shape) if needs_input else None,
            sum_to_shape(g1 * x1 + g2 * x2, cos.shape) if needs_cos else None,
            sum_to_shape(g2 * x1 - g1 * x2, sin.shape) if needs_sin else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, cos_tangent: Tensor, sin_tangent: Tensor, _: None) -> Tensor:
        input, cos, sin = ctx.saved_tensors
        along_angle = _rotate(input, cos_tangent, sin_tangent, ctx.interleaved)
        return _rotate(input_tangent, cos, sin, ctx.interleaved) + along_angle


def _pairs(tensor: Tensor, interleaved: bool) -> Any:
    """The first and the second features of the pairs, (*, D/2) each."""
    if not interleaved:
        return tensor.chunk(2, -1)
    return tensor.reshape(*tensor.shape[:-1], tensor.shape[-1] // 2, 2).unbind(-1)


def _rotate(tensor: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    x1, x2 = _pairs(tensor, interleaved)
    y1, y2 = x1 * cos - x2 * sin, x2 * cos + x1 * sin
    if not interleaved:
        return torch.cat((y1, y2), -1)
    return torch.stack((y1, y2), -1).reshape(*y1.shape[:-1], 2 * y1.shape[-1])


def rotary_embedding(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Rotate pairs of features of `input` (*, D), queries or keys, by angles of their positions. See `RotaryEmbedding`.

    `cos` and `sin` have an angle for each pair, (*, D/2), broadcast to the pairs of `input`: (S, D/2) for an input
    (N, heads, S, D), and (S, 1, D/2) for (N, S, heads, D). A pair is (xᵢ, xᵢ₊D/2), as in GPT-NeoX and Llama; or if
    `interleaved`, (x₂ᵢ, x₂ᵢ₊₁), as in the paper. Libraries with tables of width D repeat each angle: pass
    `cos[..., : D // 2]`.

    The output has the dtype of `input`; half precision is computed in float32 and rounded once. TypeError if an
    argument is not a Tensor, NotImplementedError if it is not floating point, ValueError if D is odd, or `cos` or `sin`
    has another length, RuntimeError if the shapes cannot be broadcast.
    """
    require_floating("rotary_embedding", input=input, cos=cos, sin=sin)
    shapes = f"input {tuple(input.shape)}, cos {tuple(cos.shape)} and sin {tuple(sin.shape)}"
    if input.dim() == 0 or input.shape[-1] % 2:
        raise ValueError(f"rotary_embedding(): the last axis of the input must have an even length, got {shapes}")
    if not cos.shape[-1:] == sin.shape[-1:] == (input.shape[-1] // 2,):
        raise ValueError(f"rotary_embedding(): cos and sin must have an angle for each pair of the input, got {shapes}")
    dtype = at_least_float32(input.detach()).dtype
    return to(RotaryEmbedding.call(*(to(x, dtype) for x in (input, cos, sin)), interleaved), input.dtype)
