"""Selecting and writing values by indices along an axis, and triangles of matrices.

g = ∂C/∂y is the upstream gradient. Its value at an index belongs to the value that was taken from there or written
there. The functions have the signatures of torch's. Indices are int64 or int32 and not negative; IndexError or
RuntimeError if one is out of range, IndexError if an axis does not exist, RuntimeError if shapes do not match.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.indexing import getitem
from bp_torch.functional.shape import LinearMap
from bp_torch.functional.validation import require_real, require_tensor

__all__ = ["gather", "index_select", "scatter", "scatter_add", "tril", "triu"]


class Gather(Function):
    """yᵢ = x[indexᵢ] along an axis; along the others, yᵢ has its own place in x.

    A value may be taken several times, and gets the sum of the gradients of its copies; others get 0:

        ∂C/∂xⱼ = Σ gᵢ over all i with indexᵢ = j

    >>> x = torch.tensor([5.0, 7.0, 9.0], requires_grad=True)
    >>> gather(x, 0, torch.tensor([1, 1, 0])).backward(torch.tensor([10.0, 2.0, 3.0]))
    >>> x.grad
    tensor([ 3., 12.,  0.])
    """

    @staticmethod
    def forward(input: Tensor, dim: int, index: Tensor) -> Tensor:
        return torch.gather(input, dim, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, ctx.dim, index = inputs
        ctx.shape = input.shape
        save(ctx, index)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return add_at(index, grad_output, ctx.dim, ctx.shape), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return tangent.gather(ctx.dim, ctx.saved_tensors[0])


def add_at(index: Tensor, grad: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """Zeros of a shape, to which each value of `grad` is added at its index."""
    zeros = grad.new_zeros(shape)
    # in place is faster, but vmap cannot add a batch to zeros without one; torch.func enables gradients
    return (zeros.scatter_add if torch.is_grad_enabled() else zeros.scatter_add_)(dim, index, grad)


class IndexSelect(Gather):
    """y[…, i, …] = x[…, indexᵢ, …], whole slices of x. ∂C/∂x as in `Gather`, slice by slice.

    >>> x = torch.zeros(3, 1, requires_grad=True)
    >>> index_select(x, 0, torch.tensor([2, 2])).backward(torch.tensor([[1.0], [10.0]]))
    >>> x.grad.tolist()
    [[0.0], [0.0], [11.0]]
    """

    @staticmethod
    def forward(input: Tensor, dim: int, index: Tensor) -> Tensor:
        return torch.index_select(input, dim, index)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return grad_output.new_zeros(ctx.shape).index_add(ctx.dim, index, grad_output), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return tangent.index_select(ctx.dim, ctx.saved_tensors[0])


class Scatter(Function):
    """y is x with y[indexᵢ] = sᵢ along an axis; s is a Tensor or one number.

    The values written over have no effect; those of s appear in their place:

        ∂C/∂x = g, but 0 at each index
        ∂C/∂sᵢ = g[indexᵢ]

    If an index occurs twice, it is not defined which value is written, and both get the gradient, as in PyTorch.

    >>> x, s = torch.zeros(3, requires_grad=True), torch.tensor([7.0], requires_grad=True)
    >>> scatter(x, 0, torch.tensor([1]), s).backward(torch.tensor([1.0, 2.0, 3.0]))
    >>> x.grad, s.grad
    (tensor([1., 0., 3.]), tensor([2.]))
    """

    @staticmethod
    def forward(input: Tensor, dim: int, index: Tensor, src: Any) -> Tensor:
        return torch.scatter(input, dim, index, src)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dim, index, _ = inputs
        save(ctx, index)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (index,), (needs_input, _, _, needs_src) = ctx.saved_tensors, ctx.needs_input_grad
        grad_input = grad_output.scatter(ctx.dim, index, 0) if needs_input else None
        return grad_input, None, None, grad_output.gather(ctx.dim, index) if needs_src else None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None, __: None, src_tangent: Any) -> Tensor:
        return tangent.scatter(ctx.dim, ctx.saved_tensors[0], 0 if src_tangent is None else src_tangent)


class ScatterAdd(Scatter):
    """y is x with each sᵢ added to y[indexᵢ], along an axis. ∂C/∂x = g, ∂C/∂sᵢ = g[indexᵢ].

    >>> x, s = torch.zeros(3, requires_grad=True), torch.ones(2, requires_grad=True)
    >>> scatter_add(x, 0, torch.tensor([1, 1]), s).backward(torch.tensor([1.0, 2.0, 3.0]))
    >>> x.grad, s.grad
    (tensor([1., 2., 3.]), tensor([2., 2.]))
    """

    @staticmethod
    def forward(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
        return torch.scatter_add(input, dim, index, src)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (index,), (needs_input, _, _, needs_src) = ctx.saved_tensors, ctx.needs_input_grad
        grad_src = grad_output.gather(ctx.dim, index) if needs_src else None
        return grad_output if needs_input else None, None, None, grad_src

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None, __: None, src_tangent: Any) -> Tensor:
        return tangent.scatter_add(ctx.dim, ctx.saved_tensors[0], src_tangent)


class Triangle(LinearMap):
    """y is x on one side of a diagonal, and 0 on the other. ∂C/∂x = g on the same side, otherwise 0.

    `function` is torch.tril or torch.triu.

    >>> x = torch.zeros(2, 2, requires_grad=True)
    >>> tril(x).backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> x.grad
    tensor([[1., 0.],
            [3., 4.]])
    """

    @staticmethod
    def forward(input: Tensor, function: Callable[..., Tensor], diagonal: int) -> Tensor:
        return function(input, diagonal)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        function, diagonal = ctx.constants
        return function(grad_output, diagonal), None, None


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """The values of `input` at `index` along axis `dim`; the result has the shape of `index`. See `Gather`.

    NotImplementedError for `sparse_grad`.
    """
    require_tensor("gather", index=index)
    if sparse_grad:
        raise NotImplementedError("gather(): sparse_grad=True is not supported; gradients are dense")
    return Gather.call(require_real("gather", input), dim, index)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `input` at the vector `index` along axis `dim`. See `IndexSelect`."""
    require_tensor("index_select", index=index)
    return IndexSelect.call(require_real("index_select", input), dim, index)


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """`input` with the values of `src`, or the number `value`, written at `index` along axis `dim`. See `Scatter`.

    `src` has the dtype of `input` and at least the size of `index`. NotImplementedError for `reduce`, which PyTorch
    does not differentiate: `scatter_add` adds.
    """
    require_tensor("scatter", index=index)
    if reduce is not None:
        raise NotImplementedError(f"scatter(): reduce={reduce!r} is not supported; scatter_add adds")
    if (src is None) == (value is None):
        raise TypeError("scatter(): give either src or value")
    src = value if src is None else _beginning(src, index) if isinstance(src, Tensor) else src
    return Scatter.call(require_real("scatter", input), dim, index, src)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with the values of `src` added at `index` along axis `dim`. See `ScatterAdd`."""
    require_tensor("scatter_add", index=index, src=src)
    return ScatterAdd.call(require_real("scatter_add", input), dim, index, _beginning(src, index))


def _beginning(src: Tensor, index: Tensor) -> Tensor:
    """The part of `src` that is used: `index` may be smaller."""
    if src.shape == index.shape or src.dim() != index.dim():
        return src
    return getitem(src, tuple(slice(length) for length in index.shape))


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of matrices (*, n, m), up to a diagonal above (+) or below (−) the main. See `Triangle`."""
    require_tensor("tril", input=input)
    return Triangle.call(input, torch.tril, diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of matrices (*, n, m), from a diagonal above (+) or below (−) the main. See `Triangle`."""
    require_tensor("triu", input=input)
    return Triangle.call(input, torch.triu, diagonal)
