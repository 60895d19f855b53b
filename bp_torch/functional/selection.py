"""Selection: one of two operands by a condition or by size, and the maximum over axes.

The upstream gradient g = ∂C/∂y goes to the selected value; all others get 0. The zeros are filled in, not multiplied:
0 · g would be NaN for an infinite g. The functions have the signatures of torch's.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import require_real_output
from bp_torch.functional.elementwise import BroadcastFunction, shape_and_dtype, unbroadcast
from bp_torch.functional.function import Function, save
from bp_torch.functional.reductions import Axes, Reduction
from bp_torch.functional.validation import require_real, require_tensor

__all__ = ["amax", "masked_fill", "maximum", "minimum", "where"]


class Where(Function):
    """y = a where the condition holds, else b. ∂C/∂a = g where it holds, else 0; ∂C/∂b = 0 where it holds, else g."""

    @staticmethod
    def forward(condition: Tensor, input: Any, other: Any) -> Tensor:
        return torch.where(condition, input, other)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        condition, input, other = inputs
        ctx.input, ctx.other, ctx.output = map(shape_and_dtype, (input, other, output))
        save(ctx, condition)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (condition,), (_, needs_input, needs_other) = ctx.saved_tensors, ctx.needs_input_grad
        grad_input = unbroadcast(torch.where(condition, grad_output, 0), ctx.input) if needs_input else None
        grad_other = unbroadcast(torch.where(condition, 0, grad_output), ctx.other) if needs_other else None
        return None, grad_input, grad_other

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        (condition,) = ctx.saved_tensors
        input_tangent, other_tangent = (0 if tangent is None else tangent for tangent in tangents)
        shape, dtype = ctx.output
        return torch.where(condition, input_tangent, other_tangent).expand(shape).to(dtype)


class MaskedFill(Where):
    """y = v where the mask holds, else x: `Where` in the dtype of x."""

    @staticmethod
    def forward(condition: Tensor, input: Any, other: Tensor) -> Tensor:
        return torch.masked_fill(other, condition, input)


class Maximum(BroadcastFunction):
    """y = max(a, b). ∂C/∂a = g where a > b, g / 2 where a = b, otherwise 0; ∂C/∂b likewise.

    >>> a = torch.tensor([1.0, 5.0, 3.0], requires_grad=True)
    >>> maximum(a, torch.tensor([4.0, 2.0, 3.0])).backward(torch.tensor([10.0, 10.0, 10.0]))
    >>> a.grad
    tensor([ 0., 10.,  5.])
    """

    @staticmethod
    def forward(input: Tensor, other: Tensor) -> Tensor:
        return torch.maximum(input, other)

    @staticmethod
    def grad_input(g: Tensor, input: Tensor, other: Tensor) -> Tensor:
        return torch.where(input == other, g / 2, g).masked_fill(input < other, 0)

    @staticmethod
    def grad_other(g: Tensor, input: Tensor, other: Tensor) -> Tensor:
        return Maximum.grad_input(g, other, input)


class Minimum(Maximum):
    """y = min(a, b): the gradients of `Maximum` with a and b exchanged."""

    @staticmethod
    def forward(input: Tensor, other: Tensor) -> Tensor:
        return torch.minimum(input, other)

    grad_input, grad_other = Maximum.grad_other, Maximum.grad_input


class Amax(Reduction):
    """y = maxᵢ xᵢ. ∂C/∂xᵢ = g / k at each of the k maxima, otherwise 0.

    >>> x = torch.tensor([1.0, 7.0, 7.0], requires_grad=True)
    >>> amax(x).backward(torch.tensor(10.0))
    >>> x.grad
    tensor([0., 5., 5.])
    """

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool) -> Tensor:
        return torch.amax(input, dim, keepdim)

    @staticmethod
    def derivative(input: Tensor, output: Tensor, axes: tuple[int, ...]) -> Tensor:
        maxima = (input == output).to(input.dtype)
        return maxima / maxima.sum(axes, keepdim=True)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of the two, elementwise; NaN where either is. See `Maximum`."""
    return Maximum.call(input, other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of the two, elementwise; NaN where either is. See `Minimum`."""
    return Minimum.call(input, other)


def where(condition: Tensor, input: Tensor | float, other: Tensor | float) -> Tensor:
    """`input` where the boolean `condition` holds, else `other`. See `Where`."""
    require_tensor("where", condition=condition)
    return require_real_output("where", Where.call(condition, input, other))


def masked_fill(input: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
    """`input`, with the number `value` where the boolean `mask` holds. See `MaskedFill`."""
    require_tensor("masked_fill", input=input)
    return require_real_output("masked_fill", MaskedFill.call(mask, value, input))


def amax(input: Tensor, dim: Axes = (), keepdim: bool = False) -> Tensor:
    """The maximum over the axes `dim`, by default all; NaN if a value is; IndexError for an empty axis. See `Amax`."""
    return Amax.call(require_real("amax", input), dim, keepdim)
