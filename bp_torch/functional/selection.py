"""Choices: one operand or the other, by a condition or by size; and the maximum over axes.

g stands for ∂C/∂y, the upstream gradient: it goes to the value that was chosen. The gates are fills, not products: an
infinite g behind a closed gate gives 0, not NaN. The functions are torch's of the same name.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import real
from bp_torch.functional.elementwise import BinaryFunction, meta_of, reduce_to
from bp_torch.functional.function import Function, save
from bp_torch.functional.reductions import Axes, axes_of, with_axes
from bp_torch.functional.validation import require_real, require_tensor

__all__ = ["amax", "masked_fill", "maximum", "minimum", "where"]


class Where(Function):
    """y = a where the condition holds, b elsewhere. ∂C/∂a = g where it holds, else 0; ∂C/∂b = g − that."""

    @staticmethod
    def forward(condition: Tensor, input: Any, other: Any) -> Tensor:
        return torch.where(condition, input, other)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        condition, input, other = inputs
        ctx.shape, ctx.input, ctx.other = output.shape, meta_of(input), meta_of(other)
        save(ctx, condition)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (condition,), (_, needs_input, needs_other) = ctx.saved_tensors, ctx.needs_input_grad
        grad_input = reduce_to(torch.where(condition, grad_output, 0), ctx.input) if needs_input else None
        grad_other = reduce_to(torch.where(condition, 0, grad_output), ctx.other) if needs_other else None
        return None, grad_input, grad_other

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        (condition,) = ctx.saved_tensors
        input_tangent, other_tangent = (0 if tangent is None else tangent for tangent in tangents)
        return torch.where(condition, input_tangent, other_tangent).expand(ctx.shape)


class MaskedFill(Where):
    """y = v where the mask holds, x elsewhere: `Where`, in the dtype of x."""

    @staticmethod
    def forward(condition: Tensor, input: Any, other: Tensor) -> Tensor:
        return torch.masked_fill(other, condition, input)


class Maximum(BinaryFunction):
    """y = max(a, b). What was chosen gets g, the other 0; at a tie each g / 2.

    >>> a = torch.tensor([1.0, 5.0, 3.0], requires_grad=True)
    >>> maximum(a, torch.tensor([4.0, 2.0, 3.0])).backward(torch.tensor([10.0, 10.0, 10.0]))
    >>> a.grad
    tensor([ 0., 10.,  5.])
    """

    @staticmethod
    def forward(input: Tensor, other: Tensor) -> Tensor:
        return torch.maximum(input, other)

    @staticmethod
    def by_input(g: Tensor, input: Tensor, other: Tensor) -> Tensor:
        return torch.where(input == other, g / 2, g).masked_fill(input < other, 0)

    @staticmethod
    def by_other(g: Tensor, input: Tensor, other: Tensor) -> Tensor:
        return Maximum.by_input(g, other, input)


class Minimum(Maximum):
    """y = min(a, b) = −max(−a, −b): a is chosen where b would be for the maximum."""

    @staticmethod
    def forward(input: Tensor, other: Tensor) -> Tensor:
        return torch.minimum(input, other)

    by_input, by_other = Maximum.by_other, Maximum.by_input


class Amax(Function):
    """y = maxᵢ xᵢ. ∂C/∂xᵢ = g where xᵢ = y, otherwise 0; k values that share the maximum get g / k each.

    >>> x = torch.tensor([1.0, 7.0, 7.0], requires_grad=True)
    >>> amax(x).backward(torch.tensor(10.0))
    >>> x.grad
    tensor([0., 5., 5.])
    """

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool) -> Tensor:
        return torch.amax(input, dim, keepdim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, dim, ctx.keepdim = inputs
        ctx.shape, ctx.axes = input.shape, axes_of(dim, input.dim())
        save(ctx, input, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return with_axes(grad_output, ctx) * Amax.derivative(ctx), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return (tangent * Amax.derivative(ctx)).sum(ctx.axes, ctx.keepdim)

    @staticmethod
    def derivative(ctx: Any) -> Tensor:
        """∂y/∂x: 1/k at each of the k maxima, otherwise 0."""
        input, output = ctx.saved_tensors
        maxima = (input == with_axes(output, ctx)).to(input.dtype)
        return maxima / maxima.sum(ctx.axes, keepdim=True)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of both, element by element; NaN where either is."""
    return Maximum.call(input, other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of both, element by element; NaN where either is."""
    return Minimum.call(input, other)


def where(condition: Tensor, input: Tensor | float, other: Tensor | float) -> Tensor:
    """`input` where `condition` (booleans) holds, elsewhere `other`."""
    require_tensor("where", condition=condition)
    return real("where", Where.call(condition, input, other))


def masked_fill(input: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
    """`input` with `value`, a number, where `mask` (booleans) holds; no gradient goes there."""
    require_tensor("masked_fill", input=input)
    return real("masked_fill", MaskedFill.call(mask, value, input))


def amax(input: Tensor, dim: Axes = (), keepdim: bool = False) -> Tensor:
    """The maximum over the axes `dim`, or over all; NaN where one is. IndexError if there is no value along one."""
    return Amax.call(require_real("amax", input), dim, keepdim)
