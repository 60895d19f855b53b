"""The weighted sum: each neuron adds up the previous layer's activations by its weights, and its bias."""

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
    """y = x Wᵀ + b for every row x of the input: yₙⱼ = Σₖ wⱼₖ xₙₖ + bⱼ.

    C depends on xₙₖ through all outputs j of row n, on wⱼₖ and on bⱼ through output j of all rows n. By the chain rule,
    with δ = ∂C/∂y, (*, out):

        ∂C/∂xₙₖ = Σⱼ δₙⱼ wⱼₖ      ∂C/∂x = δ W         the gradients of all outputs, added up by the weights
        ∂C/∂wⱼₖ = Σₙ δₙⱼ xₙₖ      ∂C/∂W = δᵀ x        in proportion to the activation that the weight carries
        ∂C/∂bⱼ  = Σₙ δₙⱼ          ∂C/∂b = Σₙ δₙ       summed over the rows

    Nothing here divides by N: that is the cost's affair. The rows are all dimensions but the last.

    >>> x, w = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -1.0]], requires_grad=True)
    >>> y = linear(x, w)  # 2 · 1 + 3 · (−1)
    >>> y.item(), torch.autograd.grad(y.sum(), w)[0].tolist()  # δ = 1, so the weights' gradient is x
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
        delta = _rows(grad_output)  # (M, out)
        grad_weight = torch.mm(delta.t(), _rows(input)) if needs_weight else None  # (out, M) (M, in) -> (out, in)
        grad_bias = delta.sum(0) if needs_bias else None  # (out,)
        return grad_input, grad_weight, grad_bias

    @staticmethod
    def accumulate(ctx: Any, grad_output: Tensor, into: list[Tensor | None], alpha: float) -> None:
        """W ← W + α δᵀ x and b ← b + α Σₙ δₙ, each in one operation: the gradient never stands in memory."""
        weight, bias = into
        delta = _rows(grad_output)
        if weight is not None:
            weight.addmm_(delta.t(), _rows(ctx.saved_tensors[0]), alpha=alpha)
        if bias is not None:
            ones = constant(1.0, delta.shape[:1], delta.dtype, delta.device)
            bias.addmv_(delta.t(), ones, alpha=alpha)

    @staticmethod
    def jvp(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        input, weight = ctx.saved_tensors
        tangent: Tensor = x @ weight.t() + input @ w.t()
        return tangent if b is None else tangent + b


def _rows(tensor: Tensor) -> Tensor:
    """All dimensions but the last as one, (M, last)."""
    return tensor if tensor.dim() == 2 else tensor.reshape(math.prod(tensor.shape[:-1]), tensor.shape[-1])


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply y = x Wᵀ + b. See `Linear`; the lecture's statement 2, and its equations for the three avenues.

    As torch.nn.functional.linear, with its errors: `input` (*, in) and `weight` (out, in), to (*, out); a weight (in,)
    drops the last dimension. `bias` is (out,), () for a weight (in,), or with a 2-D weight whatever broadcasts to
    the output. Under autocast in its dtype, float64 excepted.
    """
    try:
        if autocast_enabled() and torch.is_autocast_enabled(input.device.type):
            input, weight, bias = autocast_to_half(input, weight, bias)
        plain = bias is None or (bias.dim() == 1 and bias.numel() == weight.size(0))
        if plain and weight.dim() == 2 and not weight.is_complex():
            return Linear.call(input, weight, bias)
        return _of_other_shapes(input, weight, bias)
    except (AttributeError, IndexError, RuntimeError, TypeError) as error:
        raise _explained(error, input, weight, bias) from None


def _of_other_shapes(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Whatever else torch takes: a weight (in,), with a bias () if any; or a bias that broadcasts to the output."""
    require_real("linear", weight, "weight")
    if weight.dim() == 1 and (bias is None or bias.dim() == 0):
        sums = squeeze(linear(input, unsqueeze(weight, 0)), -1)
    elif weight.dim() == 2:
        sums = linear(input, weight)
    else:
        raise RuntimeError("linear(): the weight does not fit")  # and is explained by `_explained`
    if bias is None:
        return sums
    output = add(sums, bias)
    if output.shape != sums.shape or bias.dtype != sums.dtype:
        raise RuntimeError("linear(): the bias does not fit")  # and is explained by `_explained`
    return output


def _explained(error: Exception, input: Tensor, weight: Tensor, bias: Tensor | None) -> Exception:
    """What was wrong with the arguments, if it can be named, else the error; looked for only once something failed."""
    require_real("linear", input)
    require_real("linear", weight, "weight")
    if weight.dim() not in (1, 2) or input.dim() == 0 or input.shape[-1] != weight.shape[-1]:
        return RuntimeError(
            f"linear(): input {tuple(input.shape)} and weight {tuple(weight.shape)} do not fit; "
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
        return error  # it is something else: an inference tensor, no memory
    return RuntimeError(
        f"linear(): bias {bias.dtype} {tuple(bias.shape)} does not fit weight {weight.dtype} {tuple(weight.shape)}; "
        "expected (out_features,) in the same dtype"
    )
