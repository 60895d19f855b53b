"""Low-rank adaptation of a linear layer."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.function import Function, save
from bp_torch.functional.linear import as_rows
from bp_torch.functional.precision import autocast_to_half
from bp_torch.functional.validation import require_real

__all__ = ["lora_linear"]


class LoraLinear(Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ: a linear layer, plus a product of two thin matrices, scaled.

    Shapes: x (*, in), W (out, in), b (out,), A (rank, in), B (out, rank), y (*, out).

    The layer is `Linear` with the weight W + s B A, which is never formed. With δ = ∂C/∂y and u = x Aᵀ, the gradient
    of u is s δ B, and `Linear`'s equations for the three products are

        ∂C/∂x = δ W + s (δ B) A
        ∂C/∂A = s (δ B)ᵀ x          (rank, M) (M, in) → (rank, in)
        ∂C/∂B = s δᵀ (x Aᵀ)         (out, M) (M, rank) → (out, rank)
        ∂C/∂W = δᵀ x,  ∂C/∂b = Σₙ δₙ

    In training, W is frozen and ∂C/∂W is not computed: the others take thin products, except for δ W.

    With W = 10, A = 3, B = 5 and s = 2, y = 10 x + 30 x; for x = 1 and δ = 1 the gradients are 2 · 5 and 2 · 3:

    >>> x, w = torch.ones(1, 1), torch.tensor([[10.0]])
    >>> a, b = torch.tensor([[3.0]], requires_grad=True), torch.tensor([[5.0]], requires_grad=True)
    >>> y = lora_linear(x, w, None, a, b, 2.0)
    >>> y.item(), torch.autograd.grad(y, (a, b))
    (40.0, (tensor([[10.]]), tensor([[6.]])))

    Source: Hu, Shen, Wallis, Allen-Zhu, Li, et al., LoRA: Low-Rank Adaptation of Large Language Models (2021).
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        return torch.add(F.linear(input, weight, bias), F.linear(F.linear(input, a), b), alpha=scaling)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, _, a, b, ctx.scaling = inputs
        save(ctx, input, weight, a, b)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, a, b = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, needs_a, needs_b, _ = ctx.needs_input_grad
        x, delta = as_rows(input), as_rows(grad_output)  # (M, in), (M, out)
        grad_low = ctx.scaling * (delta @ b)  # ∂C/∂u, (M, rank)
        return (
            (delta @ weight + grad_low @ a).reshape(input.shape) if needs_input else None,
            delta.t() @ x if needs_weight else None,
            delta.sum(0) if needs_bias else None,
            grad_low.t() @ x if needs_a else None,
            ctx.scaling * (delta.t() @ (x @ a.t())) if needs_b else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, x: Tensor, w: Tensor, bias: Any, a_tangent: Tensor, b_tangent: Tensor, _: None) -> Tensor:
        input, weight, a, b = ctx.saved_tensors
        low = (x @ a.t() + input @ a_tangent.t()) @ b.t() + (input @ a.t()) @ b_tangent.t()
        tangent: Tensor = x @ weight.t() + input @ w.t() + ctx.scaling * low
        return tangent if bias is None else tangent + bias


def lora_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float = 1.0
) -> Tensor:
    """A linear layer with a low-rank adapter, (*, in) to (*, out); under autocast in its dtype. See `LoraLinear`.

    `weight` is (out, in), `bias` (out,) or None, `a` (rank, in) and `b` (out, rank). `scaling` is the paper's
    α / rank.

    TypeError if an argument is not a Tensor, RuntimeError if shapes or dtypes do not match.
    """
    for name, matrix in {"weight": weight, "a": a, "b": b}.items():
        require_real("lora_linear", matrix, name)
    require_real("lora_linear", input)
    input, weight, bias, a, b = autocast_to_half(input, weight, bias, a, b)
    rank, features = a.shape if a.dim() == 2 else (0, -1)
    if weight.dim() != 2 or not input.shape[-1:] == weight.shape[1:] == (features,) or b.shape != (len(weight), rank):
        shapes = [tuple(x.shape) for x in (input, weight, a, b)]
        raise RuntimeError(
            "lora_linear(): expected input (*, in), weight (out, in), a (rank, in) and b (out, rank), "
            "got {}, {}, {} and {}".format(*shapes)
        )
    return LoraLinear.call(input, weight, bias, a, b, scaling)
