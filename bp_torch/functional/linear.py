"""The weighted sum: each neuron adds up the previous layer's activations by its weights, and its bias."""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, constant_of, constants, save
from bp_torch.functional.precision import autocast_enabled, autocast_to_half
from bp_torch.functional.validation import require_real, require_tensor

__all__ = ["linear"]


class Linear(Function):
    """y = x Wᵀ + b for a mini-batch of rows.

    With δ = ∂C/∂y, the wish each output has, (N, out):

        ∂C/∂x = δ W          the wishes of all outputs for each input, added up by the weights
        ∂C/∂W = δᵀ x         each weight, in proportion to the activation it carries
        ∂C/∂b = Σₙ δₙ        each bias, summed over the examples

    Nothing here divides by N: that is the cost's affair.
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None:
            return torch.mm(input, weight.t())  # (N, in) (in, out) -> (N, out)
        return torch.addmm(bias, input, weight.t())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        input, weight, _ = inputs
        save(ctx, input, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return Linear.by_avenue(ctx, grad_output, *ctx.saved_tensors)

    @staticmethod
    def by_avenue(ctx: Any, wishes: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
        """δ by the three avenues; `dense` takes them too."""
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        grad_input = torch.mm(wishes, weight) if needs_input else None  # (N, out) (out, in) -> (N, in)
        grad_weight = torch.mm(wishes.t(), input) if needs_weight else None  # (out, N) (N, in) -> (out, in)
        grad_bias = wishes.sum(0) if needs_bias else None  # (out,)
        return grad_input, grad_weight, grad_bias

    @staticmethod
    def accumulate(ctx: Any, grad_output: Tensor, into: tuple[Tensor | None, ...], alpha: float) -> None:
        """W ← W + α δᵀ x and b ← b + α Σₙ δₙ, each in one operation: the gradient never stands in memory."""
        weight, bias = into
        wishes = grad_output.t()  # (out, N)
        if weight is not None:
            weight.addmm_(wishes, ctx.saved_tensors[0], alpha=alpha)
        if bias is not None:
            bias.addmv_(wishes, _ones_for(grad_output), alpha=alpha)

    @staticmethod
    def per_example(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """What each example n adds to the gradients: δₙ xₙᵀ, (N, out, in), and δₙ, (N, out)."""
        return grad_output.unsqueeze(2) * ctx.saved_tensors[0].unsqueeze(1), grad_output

    @staticmethod
    def per_example_norms(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """How long each of these is, (N,): ‖δₙ xₙᵀ‖ = ‖δₙ‖ ‖xₙ‖, without building the product; and ‖δₙ‖."""
        wishes = torch.linalg.vector_norm(grad_output, dim=1)
        return wishes * torch.linalg.vector_norm(ctx.saved_tensors[0], dim=1), wishes

    @staticmethod
    def sums_of_squares(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """The squares of their components, summed over the examples: (δ²)ᵀ x², (out, in), and Σₙ δₙ², (out,)."""
        squares = grad_output.square()
        return torch.mm(squares.t(), ctx.saved_tensors[0].square()), squares.sum(0)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return Linear.moved(*tangents, *ctx.saved_tensors)

    @staticmethod
    def moved(x: Tensor, w: Tensor, b: Tensor | None, input: Tensor, weight: Tensor) -> Tensor:
        """How the weighted sums move with the tangents x, w and b."""
        tangent: Tensor = x @ weight.t() + input @ w.t()
        return tangent if b is None else tangent + b


def _ones_for(rows: Tensor) -> Tensor:
    """As many ones as there are rows: a product with them adds up the rows."""
    key = rows.shape[0], rows.dtype, rows.device
    ones = constants.get(key)
    return constant_of(key, torch.ones, key[0], dtype=key[1], device=key[2]) if ones is None else ones


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply y = x Wᵀ + b; see `Linear` for the equations.

    Args:
        input: activations of the previous layer, (*, in).
        weight: (out, in); or (in,), which drops the output's last dimension.
        bias: (out,), or for a 2-D weight any shape that broadcasts to the output.

    Returns:
        The weighted sums, (*, out). Under autocast in its dtype, float64 excepted.

    Raises:
        TypeError: if an argument is not a Tensor.
        RuntimeError: if shapes or dtypes do not fit; NotImplementedError for complex ones.

    Source:
        torch.nn.functional.linear; the lecture's statement 2 and its equations for the three avenues.
    """
    try:
        if autocast_enabled() and torch.is_autocast_enabled(input.device.type):
            input, weight, bias = autocast_to_half(input, weight, bias)
        if input.dim() == 2 and weight.dim() == 2 and (bias is None or bias.dim() == 1) and not weight.is_complex():
            return Linear.call(input, weight, bias)
        return _of_any_dimensions(input, weight, bias)
    except (AttributeError, IndexError, RuntimeError, TypeError):
        _explain(input, weight, bias)
        raise


def _of_any_dimensions(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Whatever else torch takes, brought to the matrix equation: rows (M, in), weight (out, in), bias (out,)."""
    require_real("linear", input=input, weight=weight)
    if bias is not None and weight.dim() == 2 and bias.dim() != 1:
        return _with_bias(linear(input, weight), bias)
    if bias is not None and weight.dim() == 1:
        raise RuntimeError("linear(): a bias wants a 2-D weight")  # and is explained by `_explain`
    if weight.dim() == 1:
        return linear(input, weight.unsqueeze(0)).squeeze(-1)
    rows = input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
    return Linear.call(rows, weight, bias).reshape(*input.shape[:-1], weight.shape[0])


def _with_bias(sums: Tensor, bias: Tensor) -> Tensor:
    """A bias of another shape, which may broadcast but not enlarge or widen what it is added to."""
    output = sums + bias
    if output.numel() != sums.numel() or bias.dtype != sums.dtype:
        raise RuntimeError("linear(): the bias does not fit")  # and is explained by `_explain`
    return output.reshape(sums.shape)


def _explain(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise what was wrong with the arguments, if it can be named; looked for only once something failed."""
    require_tensor("linear", input=input, weight=weight)
    require_real("linear", input=input, weight=weight)
    if weight.dim() not in (1, 2) or input.dim() == 0 or input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"linear(): input {tuple(input.shape)} and weight {tuple(weight.shape)} do not fit; "
            "expected input (*, in_features) and weight (out_features, in_features)"
        ) from None
    if input.dtype != weight.dtype:
        raise RuntimeError(
            f"linear(): input is {input.dtype} but weight is {weight.dtype}; give both the same dtype"
        ) from None
    if input.device != weight.device:
        raise RuntimeError(f"linear(): input is on {input.device} but weight is on {weight.device}") from None
    if bias is not None:
        require_tensor("linear", bias=bias)
        if (bias.dtype, bias.device, bias.shape) == (weight.dtype, weight.device, weight.shape[:1]):
            return  # it is something else: an inference tensor, no memory
        raise RuntimeError(
            f"linear(): bias {bias.dtype} {tuple(bias.shape)} does not fit weight {weight.dtype} "
            f"{tuple(weight.shape)}; expected (out_features,) in the same dtype"
        ) from None
