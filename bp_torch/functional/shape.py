"""Shape functions: they move or copy values and compute nothing.

Each is a linear map y = A x whose matrix A holds only zeros and ones. Its backward is ∂C/∂x = Aᵀ g, where g = ∂C/∂y is
the upstream gradient: each value receives the sum of the gradients of its copies.

The functions have the signatures of torch's; `expand` and `to` are methods there. They return a view where torch
does. While autograd records, neither the view nor its base may be changed in place (PyTorch raises): `clone` it first.
IndexError if an axis does not exist, RuntimeError if a shape, a permutation or a number of axes does not match.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function
from bp_torch.functional.validation import require_tensor

__all__ = [
    "clone",
    "expand",
    "flatten",
    "movedim",
    "permute",
    "reshape",
    "squeeze",
    "t",
    "to",
    "transpose",
    "unflatten",
    "unsqueeze",
]


def sum_to_shape(grad: Tensor, shape: Sequence[int]) -> Tensor:
    """The gradient of a Tensor that was broadcast from `shape`.

    A value x that was copied to y₁ … yₖ has ∂C/∂x = Σᵢ ∂C/∂yᵢ: sum over each axis that broadcasting added in front or
    stretched from length 1.
    """
    return grad if grad.shape == shape else grad.sum_to_size(shape)


def as_new(output: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """A view of a new Tensor as one that is not a view: autograd forbids to change a Function's view in place."""
    return torch.ops.aten._unsafe_view(output, output.shape if shape is None else shape)


class LinearMap(Function):
    """y = A x for one Tensor x; the other inputs are constants.

    ẏ = A ẋ: `jvp` is `forward` of the tangent.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `jvp` from `forward`, unless the subclass defines it."""
        super().__init_subclass__(**options)
        if "jvp" not in vars(cls):
            cls.jvp = staticmethod(lambda ctx, tangent, *_: cls.forward(tangent, *ctx.constants))  # type: ignore[method-assign]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, *ctx.constants = inputs
        ctx.shape, ctx.dtype, ctx.no_gradients = input.shape, input.dtype, (None,) * len(ctx.constants)


class Reshape(LinearMap):
    """y has the values of x in the same order and another shape. ∂C/∂x = g, reshaped to the shape of x.

    `function` is torch's reshape, flatten, unflatten, squeeze or unsqueeze, or `as_new`.
    """

    @staticmethod
    def forward(input: Tensor, function: Callable[..., Tensor], *args: Any) -> Tensor:
        output = function(input, *args)
        return input.view_as(input) if output is input else output  # a Function must return a new Tensor

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output.reshape(ctx.shape), *ctx.no_gradients


class Transpose(LinearMap):
    """y is x with two axes swapped. ∂C/∂x = g with the same two swapped."""

    @staticmethod
    def forward(input: Tensor, dim0: int, dim1: int) -> Tensor:
        return torch.transpose(input, dim0, dim1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output.transpose(*ctx.constants), None, None


class Permute(LinearMap):
    """Axis i of y is axis dims[i] of x. ∂C/∂x = g with the inverse permutation."""

    @staticmethod
    def forward(input: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.permute(input, dims)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        axes = [dim % grad_output.dim() for dim in ctx.constants[0]]
        return grad_output.permute([axes.index(i) for i in range(len(axes))]), None


class Movedim(LinearMap):
    """y is x with axes moved from `source` to `destination`. ∂C/∂x = g with these axes moved back."""

    @staticmethod
    def forward(input: Tensor, source: Any, destination: Any) -> Tensor:
        return torch.movedim(input, source, destination)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        source, destination = ctx.constants
        return grad_output.movedim(destination, source), None, None


class Expand(LinearMap):
    """y is x with axes of length 1 repeated and axes added in front. ∂C/∂x = g, summed over the copies.

    >>> x = torch.zeros(3, requires_grad=True)
    >>> expand(x, 2, 3).backward(torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    >>> x.grad
    tensor([11., 22., 33.])
    """

    @staticmethod
    def forward(input: Tensor, sizes: Sequence[int]) -> Tensor:
        return torch.Tensor.expand(input, sizes)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return sum_to_shape(grad_output, ctx.shape), None


class Clone(LinearMap):
    """y = x, copied. ∂C/∂x = g."""

    @staticmethod
    def forward(input: Tensor, memory_format: torch.memory_format) -> Tensor:
        return torch.clone(input, memory_format=memory_format)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output, None


class To(LinearMap):
    """y = x, converted to another dtype. ∂C/∂x = g, converted to the dtype of x: rounding counts as the identity."""

    @staticmethod
    def forward(input: Tensor, dtype: torch.dtype) -> Tensor:
        return input.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output.to(ctx.dtype), None


def reshape(input: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape to `shape`, in which one length may be -1; a view where possible. See `Reshape`."""
    return Reshape.call(input, torch.reshape, shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the axes from `start_dim` to `end_dim`: (N, C, H, W) to (N, C·H·W) with `start_dim=1`. See `Reshape`."""
    return Reshape.call(input, torch.flatten, start_dim, end_dim)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Split axis `dim` into axes of lengths `sizes`, of which one may be -1. See `Reshape`."""
    return Reshape.call(input, torch.unflatten, dim, sizes)


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Remove all axes of length 1, or those of them in `dim`. See `Reshape`."""
    return Reshape.call(input, torch.squeeze, *(() if dim is None else (dim,)))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Insert an axis of length 1 at position `dim`. See `Reshape`."""
    return Reshape.call(input, torch.unsqueeze, dim)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two axes; a view. See `Transpose`."""
    return Transpose.call(input, dim0, dim1)


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a scalar is returned unchanged. See `Transpose`."""
    require_tensor("t", input=input)
    if input.dim() > 2:
        raise RuntimeError(f"t(): expected at most 2 axes, but input is {tuple(input.shape)}; use transpose")
    return Transpose.call(input, 0, 1) if input.dim() == 2 else input


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Reorder the axes to `dims`; a view. See `Permute`."""
    return Permute.call(input, dims)


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Move axes from `source` to `destination`; the others keep their order; a view. See `Movedim`."""
    require_tensor("movedim", input=input)
    return Movedim.call(input, source, destination)


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Repeat axes of length 1 without copying. See `Expand`.

    `sizes` is the new shape, as integers or as one sequence. -1 keeps a length; extra lengths add axes in front.
    """
    return Expand.call(input, sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes)


def clone(input: Tensor, *, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """A copy. See `Clone`."""
    return Clone.call(input, memory_format)


def to(input: Tensor, dtype: torch.dtype) -> Tensor:
    """`input` in `dtype`, or itself if it has that dtype; integers and booleans have no gradient. See `To`."""
    require_tensor("to", input=input)
    if isinstance(dtype, torch.dtype) and not (dtype.is_floating_point or dtype.is_complex):
        return input.to(dtype)
    return input if input.dtype == dtype else To.call(input, dtype)
