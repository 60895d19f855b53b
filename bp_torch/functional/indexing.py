"""Indexing, splitting and joining: values are moved, copied or dropped, and views are views as in `shape`.

g = ∂C/∂y is the upstream gradient; dropped values get the gradient 0. The functions have the signatures of torch's.
IndexError if an axis does not exist, RuntimeError if lengths or shapes do not match.
"""

import itertools
import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.shape import LinearMap
from bp_torch.functional.validation import require_tensor

__all__ = ["cat", "chunk", "getitem", "narrow", "split", "stack"]


class Narrow(LinearMap):
    """y is x at `length` indices of an axis, from `start` on. ∂C/∂x = g at these indices, otherwise 0."""

    @staticmethod
    def forward(input: Tensor, dim: int, start: int, length: int) -> Tensor:
        return torch.narrow(input, dim, start, length)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input = grad_output.new_zeros(ctx.shape)
        grad_input.narrow(*ctx.constants).copy_(grad_output)
        return grad_input, None, None, None


class GetItem(LinearMap):
    """y = x[index].

    ∂C/∂x = g at the selected elements, otherwise 0. An element that an index Tensor selects several times gets the sum
    of the gradients of its copies:

        >>> x = torch.tensor([5.0, 7.0], requires_grad=True)
        >>> getitem(x, torch.tensor([1, 1, 0])).backward(torch.tensor([10.0, 2.0, 3.0]))
        >>> x.grad
        tensor([ 3., 12.])
    """

    @staticmethod
    def forward(input: Tensor, *index: Any) -> Tensor:
        return input[index]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, *index = inputs
        ctx.shape = input.shape
        ctx.index = [None if isinstance(i, Tensor) else (i,) for i in index]  # Tensors are saved by `save`
        save(ctx, *(i for i in index if isinstance(i, Tensor)))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        index = _saved_index(ctx)
        if all(isinstance(i, _BASIC_INDEX) for i in index):
            grad_input = grad_output.new_zeros(ctx.shape)
            grad_input[index] = grad_output
        else:
            size = math.prod(ctx.shape)
            selected = torch.arange(size, device=grad_output.device).reshape(ctx.shape)[index]
            sums = grad_output.new_zeros(size).index_add(0, selected.reshape(-1), grad_output.reshape(-1))
            grad_input = sums.reshape(ctx.shape)
        return grad_input, *[None] * len(index)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return tangent[_saved_index(ctx)]


_BASIC_INDEX = int | slice | EllipsisType | None
"""Types of basic indices, which select no element twice."""


def _saved_index(ctx: Any) -> tuple[Any, ...]:
    tensors = iter(ctx.saved_tensors)
    return tuple(next(tensors) if i is None else i[0] for i in ctx.index)


class Cat(Function):
    """y = [x₁, x₂, …], joined along an axis. ∂C/∂xᵢ = the slice of g that belongs to xᵢ.

    >>> a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    >>> cat((a, b)).backward(torch.tensor([1.0, 2.0, 3.0]))
    >>> a.grad, b.grad
    (tensor([1., 2.]), tensor([3.]))
    """

    @staticmethod
    def forward(dim: int, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim, *tensors = inputs
        ctx.shapes = [tensor.shape for tensor in tensors]
        ctx.dtypes = [tensor.dtype for tensor in tensors]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # torch.cat accepts a Tensor of shape (0,) among others of any shape
        sizes = [0 if shape == (0,) else shape[ctx.dim] for shape in ctx.shapes]
        pieces = zip(torch.split(grad_output, sizes, ctx.dim), ctx.shapes, ctx.dtypes, strict=True)
        return None, *(piece.reshape(shape).to(dtype) for piece, shape, dtype in pieces)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        return torch.cat(_fill_missing(ctx, tangents), ctx.dim)


class Stack(Cat):
    """y[i] = xᵢ, joined along a new axis. ∂C/∂xᵢ = g[i]."""

    @staticmethod
    def forward(dim: int, *tensors: Tensor) -> Tensor:
        return torch.stack(tensors, dim)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        pieces = zip(grad_output.unbind(ctx.dim), ctx.dtypes, strict=True)
        return None, *(piece.to(dtype) for piece, dtype in pieces)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        return torch.stack(_fill_missing(ctx, tangents), ctx.dim)


def _fill_missing(ctx: Any, tangents: Sequence[Tensor | None]) -> list[Tensor]:
    """Replace the tangents of integer Tensors, which are None, by zeros."""
    like = next(x for x in tangents if x is not None)
    return [like.new_zeros(shape) if x is None else x for x, shape in zip(tangents, ctx.shapes, strict=True)]


def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """`length` indices of axis `dim`, from `start` on; a view. See `Narrow`."""
    require_tensor("narrow", input=input)
    if isinstance(start, Tensor) and start.dim() == 0 and start.dtype == torch.int64:
        start = int(start)  # vmap does not support a Tensor here
    return Narrow.call(input, dim, start, length)


def split(tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Split into pieces of one length (the last may be shorter) or of given lengths; views. See `Narrow`."""
    return _narrow_pieces("split", torch.split, tensor, split_size_or_sections, dim)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Split into at most `chunks` pieces of one length (the last may be shorter); views. See `Narrow`."""
    return _narrow_pieces("chunk", torch.chunk, input, chunks, dim)


def _narrow_pieces(name: str, split: Any, input: Tensor, sizes: Any, dim: int) -> tuple[Tensor, ...]:
    """Call `Narrow` for each piece; torch computes their lengths on a meta Tensor."""
    require_tensor(name, input=input)
    lengths = [piece.shape[dim] for piece in split(torch.empty(input.shape, device="meta"), sizes, dim)]
    starts = itertools.accumulate(lengths, initial=0)
    return tuple(Narrow.call(input, dim, start, length) for start, length in zip(starts, lengths, strict=False))


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index]; a view unless a Tensor, an array or a list is among the indices. See `GetItem`.

    `index` is an int, a slice, None, Ellipsis, or integers or booleans in a Tensor, an array or a list; or a tuple of
    these. TypeError for any other list: PyTorch's versions interpret it differently.
    """
    require_tensor("getitem", input=input)
    if isinstance(index, list) and not all(isinstance(i, int) for i in index):
        raise TypeError("getitem(): a list index must be of integers or booleans; use a tuple or a Tensor")
    return GetItem.call(input, *(index if isinstance(index, tuple) else (index,)))


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join along axis `dim`; all other lengths must agree. See `Cat`."""
    return Cat.call(dim, *_require_sequence("cat", tensors))


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join Tensors of one shape along a new axis `dim`. See `Stack`."""
    return Stack.call(dim, *_require_sequence("stack", tensors))


def _require_sequence(name: str, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    if isinstance(tensors, Tensor):
        raise TypeError(f"{name}(): argument 'tensors' must be a tuple of Tensors, not Tensor")
    return tensors
