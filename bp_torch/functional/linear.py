"""The linear layer: y = x Wᵀ + b."""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import add
from bp_torch.functional.function import Function, constant, save
from bp_torch.functional.precision import autocast_enabled, autocast_to_half
from bp_torch.functional.shape import squeeze, unsqueeze
from bp_torch.functional.validation import require_real, require_tensor

__all__ = ["linear"]


class Linear(Function):
    """y = x Wᵀ + b for each row of x: yₙⱼ = Σₖ xₙₖ wⱼₖ + bⱼ.

    Shapes: x (*, in), W (out, in), b (out,), y (*, out). All dimensions but the last make up M rows, with index n.

    xₙₖ enters each output j of its row; wⱼₖ and bⱼ enter output j of each row. By the chain rule, with the upstream
    gradient δ = ∂C/∂y, (*, out),

        ∂C/∂xₙₖ = Σⱼ δₙⱼ wⱼₖ      ∂C/∂x = δ W         (*, out) (out, in) → (*, in)
        ∂C/∂wⱼₖ = Σₙ δₙⱼ xₙₖ      ∂C/∂W = δᵀ x        (out, M) (M, in) → (out, in)
        ∂C/∂bⱼ  = Σₙ δₙⱼ          ∂C/∂b = Σₙ δₙ       (out,)

    The sums over n are not divided by M: if the cost is a mean over N examples, δ contains the 1/N.

    >>> x, w = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -1.0]], requires_grad=True)
    >>> y = linear(x, w)  # 2 · 1 + 3 · (−1)
    >>> y.item(), torch.autograd.grad(y.sum(), w)[0].tolist()  # δ = 1, so ∂C/∂W = x
    (-1.0, [[2.0, 3.0]])
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.linear(input, weight, bias)  # (*, in) (in, out) + (out,) -> (*, out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        input, weight, _ = inputs
        save(ctx, input, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        grad_input = torch.matmul(grad_output, weight) if needs_input else None  # (*, out) (out, in) -> (*, in)
        delta = as_rows(grad_output)  # (M, out)
        grad_weight = torch.mm(delta.t(), as_rows(input)) if needs_weight else None  # (out, M) (M, in) -> (out, in)
        grad_bias = delta.sum(0) if needs_bias else None  # (out,)
        return grad_input, grad_weight, grad_bias

    @staticmethod
    def accumulate(ctx: Any, grad_output: Tensor, into: list[Tensor | None], alpha: float) -> None:
        """W ← W + α δᵀ x and b ← b + α Σₙ δₙ, each in one operation that does not store the gradient."""
        weight, bias = into
        delta = as_rows(grad_output)
        if weight is not None:
            weight.addmm_(delta.t(), as_rows(ctx.saved_tensors[0]), alpha=alpha)
        if bias is not None:
            ones = constant(1.0, delta.shape[:1], delta.dtype, delta.device)
            bias.addmv_(delta.t(), ones, alpha=alpha)

    @staticmethod
    def jvp(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        input, weight = ctx.saved_tensors
        tangent: Tensor = x @ weight.t() + input @ w.t()
        return tangent if b is None else tangent + b


def as_rows(tensor: Tensor) -> Tensor:
    """Flatten all dimensions but the last: (M, last)."""
    return tensor if tensor.dim() == 2 else tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The linear map y = x Wᵀ + b, (*, in) to (*, out). See `Linear`; statements 2 and 7 of docs/lecture.md.

    Shapes and errors are those of torch.nn.functional.linear. `weight` is (out, in), or (in,) for an output (*).
    `bias` is (out,), or () for a weight (in,); a 2-D weight also takes a bias that broadcasts to the output. All three
    have one dtype; under autocast they are converted to its dtype, except from float64.
    """
    try:
        if autocast_enabled():
            input, weight, bias = autocast_to_half(input, weight, bias)
        plain = bias is None or (bias.dim() == 1 and bias.numel() == weight.size(0))
        if plain and weight.dim() == 2 and not weight.is_complex():
            return Linear.call(input, weight, bias)
        return _linear_of_other_shapes(input, weight, bias)
    except (AttributeError, IndexError, RuntimeError, TypeError) as error:
        raise _explain(error, input, weight, bias) from None


def _linear_of_other_shapes(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The shapes that `Linear` does not take: a weight (in,), or a bias that broadcasts to the output."""
    require_real("linear", weight, "weight")
    if weight.dim() == 1 and (bias is None or bias.dim() == 0):
        sums = squeeze(linear(input, unsqueeze(weight, 0)), -1)
    elif weight.dim() == 2:
        sums = linear(input, weight)
    else:
        raise RuntimeError("linear(): wrong weight shape")  # `_explain` writes the message
    if bias is None:
        return sums
    output = add(sums, bias)
    if output.shape != sums.shape or bias.dtype != sums.dtype:
        raise RuntimeError("linear(): wrong bias shape or dtype")  # `_explain` writes the message
    return output


def _explain(error: Exception, input: Tensor, weight: Tensor, bias: Tensor | None) -> Exception:
    """Return an error that names the wrong argument, or `error` if none is found; called only after a failure."""
    require_real("linear", input)
    require_real("linear", weight, "weight")
    if weight.dim() not in (1, 2) or input.dim() == 0 or input.shape[-1] != weight.shape[-1]:
        return RuntimeError(
            f"linear(): input {tuple(input.shape)} and weight {tuple(weight.shape)} do not match; "
            "expected input (*, in_features) and weight (out_features, in_features)"
        )
    if input.dtype != weight.dtype:
        return RuntimeError(f"linear(): input is {input.dtype} but weight is {weight.dtype}; give both the same dtype")
    if input.device != weight.device:
        return RuntimeError(f"linear(): input is on {input.device} but weight is on {weight.device}")
    if bias is None:
        return error
    require_tensor("linear", bias=bias)
    if (bias.dtype, bias.device, bias.shape) == (weight.dtype, weight.device, weight.shape[:1]):
        return error  # another cause, such as an inference tensor or lack of memory
    return RuntimeError(
        f"linear(): bias {bias.dtype} {tuple(bias.shape)} does not match weight {weight.dtype} {tuple(weight.shape)}; "
        "expected (out_features,) in the same dtype"
    )
