"""Bags of embeddings: the sum, the mean or the maximum of several rows of a table. For the table, see `embedding`."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.embedding import explain_index, require_dense, sum_copies
from bp_torch.functional.function import Function, save
from bp_torch.functional.indexing import narrow
from bp_torch.functional.precision import at_least_float32
from bp_torch.functional.shape import reshape
from bp_torch.functional.validation import require_tensor

__all__ = ["embedding_bag"]


class EmbeddingBag(Function):
    """y_b = Σₙ sₙ W[iₙ] over the positions n of bag b.

    sₙ is the sample's weight, or 1, or for the mean 1/n_b, where n_b is the number of positions in the bag of n.
    Positions of the padding do not count: sₙ = 0, and n_b is without them. With b(n) for the bag of position n,

        ∂C/∂W[v] = Σ sₙ g_b(n) over all n with iₙ = v
        ∂C/∂sₙ = Σ_d g_b(n),d W[iₙ]_d = g_b(n) · W[iₙ]

    Half precision is summed in float32 and rounded once. An empty bag is 0 and has no gradient.

    The first bag is the mean of rows 0 and 1, the second one is row 1:

    >>> w = torch.zeros(2, 1, requires_grad=True)
    >>> embedding_bag(torch.tensor([0, 1, 1]), w, torch.tensor([0, 2])).backward(torch.tensor([[4.0], [100.0]]))
    >>> w.grad.tolist()
    [[2.0], [102.0]]
    """

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor,
        per_sample_weights: Tensor | None,
        offsets: Tensor,
        mode: str,
        scale_grad_by_freq: bool,
        include_last_offset: bool,
        padding_idx: int | None,
    ) -> Tensor:
        options = False, _MODES.index(mode), False, per_sample_weights, include_last_offset, padding_idx
        return torch.embedding_bag(weight, input, offsets, *options)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, factors, offsets, ctx.mode, ctx.by_freq, _, ctx.padding_idx = inputs
        ctx.weight, ctx.bags = (weight.shape, weight.dtype), len(output)
        save(ctx, input, None if factors is None else weight, factors, offsets)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, factors, offsets = ctx.saved_tensors
        bag, padding, sizes = EmbeddingBag.positions(ctx, input, offsets)
        grad = at_least_float32(grad_output)
        grad = (grad if sizes is None else grad / sizes)[bag]  # (n, D)
        grad_weight = grad_factors = None
        if ctx.needs_input_grad[1]:
            rows = grad if factors is None else grad * factors.unsqueeze(1)
            grad_weight = sum_copies(rows, input, ctx.weight, ctx.padding_idx, ctx.by_freq)
        if ctx.needs_input_grad[2]:
            products = (grad * weight[input]).sum(1)
            grad_factors = torch.where(padding, 0, products).to(factors.dtype)
        return None, grad_weight, grad_factors, *[None] * 5

    @staticmethod
    def jvp(ctx: Any, _: None, weight_tangent: Tensor, factors_tangent: Any, *__: None) -> Tensor:
        input, weight, factors, offsets = ctx.saved_tensors
        bag, padding, sizes = EmbeddingBag.positions(ctx, input, offsets)
        rows = weight_tangent[input]
        if factors is not None:
            rows = rows * factors.unsqueeze(1) + weight[input] * factors_tangent.unsqueeze(1)
        rows = torch.where(padding.unsqueeze(1), 0, rows)
        sums = rows.new_zeros(ctx.bags, rows.shape[1]).index_add(0, bag, rows)
        return sums if sizes is None else sums / sizes

    @staticmethod
    def positions(ctx: Any, input: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The bag of each position and whether that is padding, (n,); and for the mean the bags' sizes, (B, 1)."""
        numbers = torch.arange(len(input), dtype=offsets.dtype, device=offsets.device)
        bag = torch.searchsorted(offsets[: ctx.bags], numbers, right=True) - 1
        padding = input == (-1 if ctx.padding_idx is None else ctx.padding_idx)
        if ctx.mode == "sum":
            return bag, padding, None
        sizes = bag.new_zeros(ctx.bags).index_add(0, bag, (~padding).to(bag.dtype))
        return bag, padding, sizes.clamp_min(1).unsqueeze(1)


_MODES = ["sum", "mean", "max"]


class EmbeddingBagMax(Function):
    """y_b,d = max W[iₙ]_d over the positions n of bag b = W[r_b,d]_d, where row r_b,d has the maximum.

    ∂C/∂W[v]_d = Σ g_b,d over all bags b with r_b,d = v

    Only the row of the maximum affects it; among equal values that is the first one. The rows are found before the call
    and are constant. An empty bag is 0 and has no gradient.

    The maxima are in row 1 and in row 0:

    >>> w = torch.tensor([[1.0, 8.0], [2.0, 3.0]], requires_grad=True)
    >>> embedding_bag(torch.tensor([[0, 1]]), w, mode="max").backward(torch.tensor([[10.0, 20.0]]))
    >>> w.grad
    tensor([[ 0., 20.],
            [10.,  0.]])
    """

    @staticmethod
    def forward(weight: Tensor, rows: Tensor, empty: Tensor) -> Tensor:
        return torch.where(empty, 0, weight.gather(0, rows))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight, rows, empty = inputs
        ctx.shape = weight.shape
        save(ctx, rows, empty)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        rows, empty = ctx.saved_tensors
        grad = at_least_float32(torch.where(empty, 0, grad_output))
        return grad.new_zeros(ctx.shape).scatter_add(0, rows, grad).to(grad_output.dtype), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return EmbeddingBagMax.forward(tangent, *ctx.saved_tensors)  # the map is linear


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the rows of each bag, (B, D). See `EmbeddingBag` and `EmbeddingBagMax`.

    The rows of a 2-D `input` are bags. A 1-D one is cut into bags at `offsets`, where each begins; with
    `include_last_offset` the last offset is the end. `per_sample_weights`, in the shape of `input`, are the factors of
    a sum. Positions of `padding_idx` do not count.

    The signature and the errors are those of torch.nn.functional.embedding_bag: ValueError, RuntimeError or
    NotImplementedError if shapes, dtypes or options do not match, RuntimeError for an index out of range.
    """
    require_tensor("embedding_bag", input=input, weight=weight)
    require_dense("embedding_bag", sparse)
    _require_bags(input, weight, offsets, mode, per_sample_weights, scale_grad_by_freq)
    index, factors = input, per_sample_weights
    if offsets is None:
        offsets = torch.arange(0, input.numel(), input.shape[1], dtype=input.dtype, device=input.device)
        index, include_last_offset = input.reshape(-1), False
        factors = None if factors is None else reshape(factors, (-1,))
    if padding_idx is not None and -len(weight) <= padding_idx < 0:
        padding_idx += len(weight)
    if len(offsets) == include_last_offset:  # no bags
        index, factors = index[:0], None if factors is None else narrow(factors, 0, 0, 0)
    try:
        if max_norm is not None:
            torch.embedding_renorm_(weight.detach(), index, max_norm, norm_type)
        if mode != "max":
            options = mode, scale_grad_by_freq, include_last_offset, padding_idx
            return EmbeddingBag.call(index, weight, factors, offsets, *options)
        _, _, sizes, rows = torch.embedding_bag(
            weight.detach(), index, offsets, False, _MODES.index(mode), False, None, include_last_offset, padding_idx
        )
    except (IndexError, RuntimeError) as error:
        raise explain_index(error, input, weight) from None
    empty = sizes[: len(rows)] == 0  # compiled, include_last_offset leaves one size too many
    return EmbeddingBagMax.call(weight, rows, empty.unsqueeze(1))


def _require_bags(
    input: Tensor, weight: Tensor, offsets: Any, mode: str, per_sample_weights: Any, scale_grad_by_freq: bool
) -> None:
    """Raise, as torch does, unless shapes and options match."""
    if per_sample_weights is not None:
        require_tensor("embedding_bag", per_sample_weights=per_sample_weights)
        if input.shape != per_sample_weights.shape:
            shapes = f"{tuple(per_sample_weights.shape)} and input {tuple(input.shape)}"
            raise ValueError(f"embedding_bag(): per_sample_weights {shapes} must have one shape")
        if mode != "sum":
            raise NotImplementedError(f"embedding_bag(): per_sample_weights require mode='sum', not {mode!r}")
    if weight.dim() != 2 or input.dim() not in (1, 2):
        shapes = f"{tuple(input.shape)} and {tuple(weight.shape)}"
        raise ValueError(f"embedding_bag(): input and weight must be 1-D or 2-D, and 2-D, got {shapes}")
    if (offsets is None) != (input.dim() == 2) or (offsets is not None and offsets.dim() != 1):
        shape = None if offsets is None else tuple(offsets.shape)
        raise ValueError(f"embedding_bag(): offsets must be 1-D for a 1-D input, and None for a 2-D one, got {shape}")
    if mode not in _MODES:
        raise ValueError(f"embedding_bag(): mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("embedding_bag(): scale_grad_by_freq is not supported for mode='max'")
