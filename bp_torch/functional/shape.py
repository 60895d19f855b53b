"""Shapes: reshape, permute, expand. Nothing is computed; values are moved or copied.

Each function is a linear map y = A x whose matrix A holds only zeros and ones. Its backward is the transpose Aᵀ: a
value gets back the gradients of all its copies, added up. g stands for ∂C/∂y, the upstream gradient.

Where torch returns a view, so do these. The one difference: while autograd records, neither the view nor its base may
be changed in place (PyTorch raises); `clone` it first.

The functions are torch's of the same name; `expand` and `to` are methods there. So are the errors: IndexError for an
axis that there is not, RuntimeError for a shape, an order or a number of axes that does not fit.
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
    """The gradient of a value that was broadcast from `shape`.

    A value x that was copied to y₁ … yₖ changes them all alike, so ∂C/∂x = Σᵢ ∂C/∂yᵢ: sum over each axis that was added
    in front or stretched from length 1.
    """
    return grad if grad.shape == shape else grad.sum_to_size(shape)


class LinearMap(Function):
    """y = A x, of one Tensor and constants.

    A linear map's directional derivative is the map itself: `jvp` is `forward` of the tangent.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Make `jvp` of `forward`, unless the subclass has its own."""
        super().__init_subclass__(**options)
        if "jvp" not in vars(cls):
            cls.jvp = staticmethod(lambda ctx, tangent, *_: cls.forward(tangent, *ctx.constants))  # type: ignore[method-assign]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, *ctx.constants = inputs
        ctx.shape, ctx.dtype, ctx.no_gradients = input.shape, input.dtype, (None,) * len(ctx.constants)


class Reshape(LinearMap):
    """The same values in the same order, in another shape. ∂C/∂x = g in the shape of x.

    `change` is the function of torch that says which shape: reshape, flatten, unflatten, squeeze or unsqueeze.
    """

    @staticmethod
    def forward(input: Tensor, change: Callable[..., Tensor], *args: Any) -> Tensor:
        output = change(input, *args)
        return input.view_as(input) if output is input else output  # a Function must not return its input itself

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output.reshape(ctx.shape), *ctx.no_gradients


class Transpose(LinearMap):
    """Two axes swapped. ∂C/∂x = g with them swapped back."""

    @staticmethod
    def forward(input: Tensor, dim0: int, dim1: int) -> Tensor:
        return torch.transpose(input, dim0, dim1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output.transpose(*ctx.constants), None, None


class Permute(LinearMap):
    """Axis i of y is axis dims[i] of x. ∂C/∂x = g by the inverse permutation."""

    @staticmethod
    def forward(input: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.permute(input, dims)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        axes = [dim % grad_output.dim() for dim in ctx.constants[0]]
        return grad_output.permute([axes.index(i) for i in range(len(axes))]), None


class Movedim(LinearMap):
    """Axes moved from places `source` to places `destination`. ∂C/∂x = g with them moved back."""

    @staticmethod
    def forward(input: Tensor, source: Any, destination: Any) -> Tensor:
        return torch.movedim(input, source, destination)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        source, destination = ctx.constants
        return grad_output.movedim(destination, source), None, None


class Expand(LinearMap):
    """Axes of length 1 repeated, and axes added in front. ∂C/∂x = g summed over the copies; see `sum_to_shape`.

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
    """y = x, in memory of its own. ∂C/∂x = g."""

    @staticmethod
    def forward(input: Tensor, memory_format: torch.memory_format) -> Tensor:
        return torch.clone(input, memory_format=memory_format)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output, None


class To(LinearMap):
    """y = x rounded to another dtype; its derivative counts as 1. ∂C/∂x = g in the dtype of x."""

    @staticmethod
    def forward(input: Tensor, dtype: torch.dtype) -> Tensor:
        return input.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output.to(ctx.dtype), None


def reshape(input: Tensor, shape: Sequence[int]) -> Tensor:
    """The values of `input` in `shape`, of which one length may be -1; a view where possible. See `Reshape`."""
    return Reshape.call(input, torch.reshape, shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Make the axes from `start_dim` to `end_dim` one: (N, C, H, W) to (N, C·H·W) with `start_dim=1`. See `Reshape`."""
    return Reshape.call(input, torch.flatten, start_dim, end_dim)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Make the axis `dim` several, of lengths `sizes`, of which one may be -1. See `Reshape`."""
    return Reshape.call(input, torch.unflatten, dim, sizes)


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Drop axes of length 1: all, or those in `dim`; longer ones stay. See `Reshape`."""
    return Reshape.call(input, torch.squeeze, *(() if dim is None else (dim,)))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Add an axis of length 1 in front of axis `dim`, or counted from behind. See `Reshape`."""
    return Reshape.call(input, torch.unsqueeze, dim)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two axes; a view. See `Transpose`."""
    return Transpose.call(input, dim0, dim1)


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector or a number is returned as it is. See `Transpose`."""
    require_tensor("t", input=input)
    if input.dim() > 2:
        raise RuntimeError(f"t(): expected at most 2 axes, but input is {tuple(input.shape)}; use transpose")
    return Transpose.call(input, 0, 1) if input.dim() == 2 else input


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Put the axes in the order `dims`, which names each once; a view. See `Permute`."""
    return Permute.call(input, dims)


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Move axes, the others staying in order; a view. See `Movedim`."""
    require_tensor("movedim", input=input)
    return Movedim.call(input, source, destination)


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Repeat axes of length 1 without copying. See `Expand`.

    `sizes`, numbers or one sequence, is the new shape; -1 keeps a length, further axes may be added in front.
    """
    return Expand.call(input, sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes)


def clone(input: Tensor, *, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """A copy. See `Clone`."""
    return Clone.call(input, memory_format)


def to(input: Tensor, dtype: torch.dtype) -> Tensor:
    """`input` in another dtype, or itself if it has that; integers and booleans have no gradient. See `To`."""
    require_tensor("to", input=input)
    if isinstance(dtype, torch.dtype) and not (dtype.is_floating_point or dtype.is_complex):
        return input.to(dtype)
    return input if input.dtype == dtype else To.call(input, dtype)
