"""Sum and mean over axes, the base class of other reductions, and the matrix product.

`dim` names the reduced axes: one, several, or all with None. g = ∂C/∂y is the upstream gradient. `backward` restores
its reduced axes with length 1 and broadcasts it along them.

The functions have the signatures of torch's. IndexError if an axis does not exist, RuntimeError if shapes or dtypes do
not match, NotImplementedError for complex numbers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import require_real_output
from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import at_least_float32, autocast_enabled, autocast_to_half
from bp_torch.functional.shape import LinearMap, sum_to_shape
from bp_torch.functional.validation import require_real

__all__ = ["matmul", "mean", "sum"]

Axes = int | Sequence[int] | None


class Sum(LinearMap):
    """y = Σᵢ xᵢ. ∂y/∂xᵢ = 1, so ∂C/∂xᵢ = g."""

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        return torch.sum(input, dim, keepdim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        LinearMap.setup_context(ctx, inputs, output)
        ctx.axes = normalized_axes(inputs[1], inputs[0].dim())

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return restore_axes(grad_output, ctx).expand(ctx.shape).to(ctx.dtype), None, None, None


class Mean(Sum):
    """y = 1/n Σᵢ xᵢ over the n values along the reduced axes. ∂C/∂xᵢ = g / n.

    >>> x = torch.zeros(2, 3, requires_grad=True)
    >>> mean(x, dim=0).backward(torch.tensor([2.0, 4.0, 6.0]))  # n = 2
    >>> x.grad
    tensor([[1., 2., 3.],
            [1., 2., 3.]])
    """

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        return torch.mean(input, dim, keepdim, dtype=dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        n = math.prod([ctx.shape[axis] for axis in ctx.axes])
        return (restore_axes(grad_output, ctx) / n).expand(ctx.shape).to(ctx.dtype), None, None, None


class Reduction(Function):
    """y = f(x), where x are the values along the reduced axes.

        ∂C/∂xᵢ = g ∂y/∂xᵢ       backward
        ẏ = Σᵢ ∂y/∂xᵢ ẋᵢ         jvp

    A subclass states `forward(input, dim, keepdim, *constants)` and ∂y/∂x as `derivative(input, output, axes,
    *constants)`, in which the output has its reduced axes, with length 1. Half precision comes as float32.
    """

    derivative: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `backward` and `jvp` from the derivative."""
        if "derivative" in vars(cls):
            cls.backward, cls.jvp = map(staticmethod, _reduction_methods(cls.derivative))  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, dim, ctx.keepdim, *ctx.constants = inputs
        ctx.shape, ctx.axes, ctx.dtypes = input.shape, normalized_axes(dim, input.dim()), (input.dtype, output.dtype)
        save(ctx, input, output)


def _reduction_methods(derivative: Callable[..., Tensor]) -> tuple[Callable[..., Any], ...]:
    def slope(ctx: Any) -> Tensor:
        input, output = map(at_least_float32, ctx.saved_tensors)
        return derivative(input.to(output.dtype), restore_axes(output, ctx), ctx.axes, *ctx.constants)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input = restore_axes(grad_output, ctx) * slope(ctx)
        return grad_input.to(ctx.dtypes[0]), None, None, *[None for _ in ctx.constants]

    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return (tangent * slope(ctx)).sum(ctx.axes, ctx.keepdim).to(ctx.dtypes[1])

    return backward, jvp


class Matmul(Function):
    """y = A B: yᵢⱼ = Σₖ Aᵢₖ Bₖⱼ, for matrices or batches of matrices, whose leading axes are broadcast.

    ∂C/∂Aᵢₖ = Σⱼ gᵢⱼ Bₖⱼ and ∂C/∂Bₖⱼ = Σᵢ Aᵢₖ gᵢⱼ, that is

        ∂C/∂A = g Bᵀ        (…, i, j) (…, j, k) → (…, i, k)
        ∂C/∂B = Aᵀ g        (…, k, i) (…, i, j) → (…, k, j)

    each summed over the broadcast batch axes. A vector is a row on the left and a column on the right.

    >>> a, b = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[3.0], [4.0]], requires_grad=True)
    >>> matmul(a, b).backward(torch.tensor([[10.0]]))
    >>> a.grad.tolist(), b.grad.tolist()
    ([[30.0, 40.0]], [[10.0], [20.0]])
    """

    @staticmethod
    def forward(input: Tensor, other: Tensor) -> Tensor:
        return torch.matmul(input, other)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, other = ctx.saved_tensors
        a, b, g = Matmul.as_matrices(input, other, grad_output)
        needs_input, needs_other = ctx.needs_input_grad
        grad_input = sum_to_shape(g @ b.mT, a.shape).reshape(input.shape) if needs_input else None
        grad_other = sum_to_shape(a.mT @ g, b.shape).reshape(other.shape) if needs_other else None
        return grad_input, grad_other

    @staticmethod
    def as_matrices(a: Tensor, b: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add the missing axes of vectors; if B is one matrix for a batch, flatten the rows of A and g to a matrix."""
        if b.dim() == 1:
            b, g = b.unsqueeze(-1), g.unsqueeze(-1)
        if a.dim() == 1:
            a, g = a.unsqueeze(0), g.unsqueeze(-2)
        if a.dim() > 2 and b.dim() == 2:
            rows = math.prod(a.shape[:-1])
            a, g = a.reshape(rows, a.shape[-1]), g.reshape(rows, g.shape[-1])
        return a, b, g

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, other_tangent: Tensor) -> Tensor:
        input, other = ctx.saved_tensors
        return input_tangent @ other + input @ other_tangent


def normalized_axes(dim: Axes, ndim: int) -> tuple[int, ...]:
    """The axes that `dim` names, as non-negative numbers; none for a scalar."""
    axes = () if dim is None else dim if isinstance(dim, Sequence) else (int(dim),)
    return tuple(axis % ndim for axis in axes) if axes and ndim else tuple(range(ndim))


def restore_axes(reduced: Tensor, ctx: Any) -> Tensor:
    """Restore the reduced axes, with length 1."""
    return reduced.reshape([1 if axis in ctx.axes else n for axis, n in enumerate(ctx.shape)])


def sum(input: Tensor, dim: Axes = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """The sum over the axes `dim`, computed in `dtype` if given; under autocast on CUDA in float32."""
    require_real("sum", input)
    if dtype is None and input.is_cuda and autocast_enabled() and torch.is_autocast_enabled("cuda"):
        dtype = torch.promote_types(input.dtype, torch.float32) if input.is_floating_point() else None
    return Sum.call(input, dim, keepdim, dtype)


def mean(input: Tensor, dim: Axes = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """The mean over the axes `dim`, computed in `dtype` if given; NaN if there are no values."""
    return Mean.call(require_real("mean", input), dim, keepdim, dtype)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product of (…, n, k) and (…, k, m), or of vectors (k,); under autocast in its dtype."""
    input, other = autocast_to_half(input, other)
    return require_real_output("matmul", Matmul.call(input, other))
