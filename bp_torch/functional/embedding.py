"""Embeddings: the rows of a table that indices select. For sums, means and maxima of rows see `embedding_bag`.

W is the table, `weight` (V, D), and g = ∂C/∂y the upstream gradient. A row gets the sum of the gradients of all its
copies; a row that no index selects gets 0. The gradient is dense, (V, D): NotImplementedError for `sparse=True`.

Indices are int64 or int32, and on a CPU the first one outside [0, V) is named; on CUDA the kernel fails. With
`max_norm`, rows whose p-norm is larger are scaled down to it, in `weight` itself, before they are selected; p is
`norm_type`. With `scale_grad_by_freq`, the gradient of each row is divided by the number of its copies; it is then no
derivative.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save, transform_active
from bp_torch.functional.precision import at_least_float32
from bp_torch.functional.validation import require_tensor

__all__ = ["embedding"]


def sum_copies(
    rows: Tensor, index: Tensor, weight: tuple[torch.Size, torch.dtype], padding_idx: int | None, by_freq: bool
) -> Tensor:
    """∂C/∂W[v] = Σ rows[k] over all k with index[k] = v, in the shape and dtype of W.

    It is 0 for v = `padding_idx`, and with `by_freq` divided by the number of such k.
    """
    shape, dtype = weight
    zeros = at_least_float32(rows).new_zeros(shape)
    # in place is faster, but vmap cannot add a batch to zeros without one; torch.func enables gradients
    add = zeros.index_add if torch.is_grad_enabled() else zeros.index_add_
    sums = add(0, index, at_least_float32(rows))
    if by_freq:
        copies = index.new_zeros(shape[:1]).index_add(0, index, torch.ones_like(index))
        sums = sums / copies.clamp_min(1).unsqueeze(1)
    if padding_idx is not None:
        sums[padding_idx] = 0
    return sums.to(dtype)


class Embedding(Function):
    """yₙ = W[iₙ]: row iₙ of W for each index.

    W[v] is copied to each yₙ with iₙ = v, and the gradient is the sum over its copies:

        ∂C/∂W[v] = Σ gₙ over all n with iₙ = v     0 for v = padding_idx

    In matrices, y = S W with Sₙᵥ = [iₙ = v], and ∂C/∂W = Sᵀ g; S is never formed. Half precision is summed in float32
    and rounded once. The gradient of the padding's row is 0 by definition, so that training does not change it; the
    derivative is not, and forward mode computes that, as PyTorch does.

    Row 1 is selected twice, row 0 once:

    >>> w = torch.zeros(3, 2, requires_grad=True)
    >>> embedding(torch.tensor([1, 0, 1]), w).backward(torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]))
    >>> w.grad
    tensor([[ 3.,  4.],
            [11., 22.],
            [ 0.,  0.]])
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor, padding_idx: int | None, scale_grad_by_freq: bool) -> Tensor:
        return torch.embedding(weight, input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, *ctx.options = inputs
        ctx.weight = weight.shape, weight.dtype
        save(ctx, input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        rows = grad_output.reshape(input.numel(), grad_output.shape[-1])
        return None, sum_copies(rows, input.reshape(-1), ctx.weight, *ctx.options), None, None

    @staticmethod
    def accumulate(ctx: Any, grad_output: Tensor, into: list[Tensor | None], alpha: float) -> None:
        """W[v] ← W[v] + α ∂C/∂W[v] for the rows v that are selected; the others are not touched."""
        (weight, *_), (input,), (padding_idx, by_freq) = into, ctx.saved_tensors, ctx.options
        assert weight is not None
        selected, copy_of = input.reshape(-1).unique(return_inverse=True)
        rows = grad_output.reshape(input.numel(), grad_output.shape[-1])
        sums = sum_copies(rows, copy_of, (weight[selected].shape, weight.dtype), None, by_freq)
        if padding_idx is not None:
            sums[selected == padding_idx] = 0
        weight.index_add_(0, selected, sums, alpha=alpha)

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: Tensor, *__: None) -> Tensor:
        return torch.embedding(tangent, ctx.saved_tensors[0])


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` (V, D) at the indices (*), in the shape (*, D). See `Embedding`.

    The signature and the errors are those of torch.nn.functional.embedding: IndexError for an index out of range. The
    row `padding_idx`, negative from the end, gets no gradient; AssertionError if it does not exist.
    """
    require_tensor("embedding", input=input, weight=weight)
    require_dense("embedding", sparse)
    if padding_idx is not None:
        if not -len(weight) <= padding_idx < len(weight):
            raise AssertionError(
                f"embedding(): padding_idx {padding_idx} must be a row of weight {tuple(weight.shape)}"
            )
        padding_idx %= len(weight)
    try:
        if max_norm is not None:
            input = input.contiguous()
            torch.embedding_renorm_(weight.detach(), input, max_norm, norm_type)
        return Embedding.call(input, weight, padding_idx, scale_grad_by_freq)
    except IndexError as error:
        raise explain_index(error, input, weight) from None


def require_dense(name: str, sparse: bool) -> None:
    """Raise NotImplementedError for `sparse=True`."""
    if sparse:
        raise NotImplementedError(f"{name}(): sparse=True is not supported; the gradient is dense")


def explain_index(error: Exception, input: Tensor, weight: Tensor) -> Exception:
    """Return an error that names the first index out of range, or `error` if there is none; called after a failure."""
    if input.device.type != "cpu" or transform_active():
        return error
    invalid = ((input < 0) | (input >= len(weight))).nonzero()
    if not len(invalid):
        return error
    place = tuple(invalid[0].tolist())
    rows = f"the weight has {len(weight)} rows"
    return type(error)(f"index {int(input[place])} at position {place} is out of range: {rows}")
