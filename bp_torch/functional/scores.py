"""The scores of attention, S = s q kᵀ + mask: their shapes, masks, shared heads, and blocks of them."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.shape import LinearMap, to, unsqueeze

BLOCK = 2**17
"""Scores in a block: half a megabyte of float32, which the cache of a processor core holds."""
QUERIES = 256
"""Queries in a block, at most."""
_LOG2_E = math.log2(math.e)


def causal_mask(query: Tensor, diagonal: int, keys: int) -> Tensor:
    """Whether query i sees key j: j ≤ i + diagonal."""
    return torch.ones(query.shape[-2], keys, dtype=torch.bool, device=query.device).tril(diagonal)


def masked_scores(query: Tensor, key: Tensor, mask: Tensor | None, unit: float = 1.0) -> Tensor:
    """Q kᵀ + unit · mask; −∞ where a boolean mask is False."""
    scores = query @ key.mT
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return torch.add(scores, mask, alpha=unit)


def softmax_of_scores(query: Tensor, key: Tensor, mask: Tensor | None, scale: float, causal: bool) -> Tensor:
    """P, (…, n, m); a row without any key is 0."""
    root = math.sqrt(abs(scale))  # to q and to k, as torch does, for the same rounding
    mask = causal_mask(query, 0, key.shape[-2]) if causal else mask
    scores = masked_scores(query * math.copysign(root, scale), key * root, mask)
    if not scores.numel():
        return scores
    without_keys = scores.amax(-1, keepdim=True) == -torch.inf
    weights = torch.softmax(scores.masked_fill_(without_keys, 0), -1)
    return weights.masked_fill(without_keys, 0) if torch.is_grad_enabled() else weights.masked_fill_(without_keys, 0)


class RepeatHeads(LinearMap):
    """Each head of x, on the third axis from the end, G times in a row: G heads of queries share a head of keys.

    ∂C/∂x = g, summed over the G copies of each head.

    >>> x = torch.zeros(1, 1, 1, requires_grad=True)
    >>> RepeatHeads.call(x, 2).backward(torch.tensor([[[3.0]], [[4.0]]]))
    >>> x.grad.item()
    7.0

    Source: Ainslie et al., GQA: Training Generalized Multi-Query Transformer Models (2023).
    """

    @staticmethod
    def forward(input: Tensor, copies: int) -> Tensor:
        return input.repeat_interleave(copies, -3)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        *batch, heads, m, d = ctx.shape
        return grad_output.reshape(*batch, heads, ctx.constants[0], m, d).sum(-3), None


def repeat_heads(tensor: Tensor, query: Tensor) -> Tensor:
    """A key or value with as many heads as the query; RuntimeError if it has no divisor of them."""
    heads, wanted = tensor.shape[-3], query.shape[-3]
    if heads == wanted:
        return tensor
    if not heads or wanted % heads:
        raise RuntimeError(
            f"scaled_dot_product_attention(): {heads} heads of key or value do not divide {wanted} of query"
        )
    return RepeatHeads.call(tensor, wanted // heads)


def require_matching(query: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> None:
    """Raise RuntimeError, naming the arguments, unless they fit together."""
    name, three = "scaled_dot_product_attention()", (query, key, value)
    if not query.dtype == key.dtype == value.dtype:
        dtypes = ", ".join(str(x.dtype) for x in three)
        raise RuntimeError(f"{name}: query, key and value must have one dtype, but they are {dtypes}")
    if min(x.dim() for x in three) < 2 or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        shapes = ", ".join(str(tuple(x.shape)) for x in three)
        raise RuntimeError(f"{name}: expected query (…, n, d), key (…, m, d) and value (…, m, e), but got {shapes}")
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(f"{name}: dropout_p must be a probability between 0 and 1, but got {dropout_p}")


def as_matrix(mask: Tensor, query: Tensor, key: Tensor, causal: bool) -> Tensor:
    """The mask with two axes or more, in the dtype of the scores if it is added; RuntimeError if it does not fit."""
    name, shape, dtype = "scaled_dot_product_attention()", shape_of_scores(query, key), query.dtype
    if causal:
        raise RuntimeError(f"{name}: attn_mask and is_causal=True exclude each other")
    if mask.dtype not in (torch.bool, torch.float32, dtype):
        raise RuntimeError(f"{name}: attn_mask must be boolean, float32 or {dtype} as query is, not {mask.dtype}")
    lengths = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.dim() > len(shape) or any(n not in (1, length) for n, length in lengths):
        raise RuntimeError(f"{name}: attn_mask {tuple(mask.shape)} does not broadcast to the scores {tuple(shape)}")
    for _ in range(2 - mask.dim()):
        mask = unsqueeze(mask, 0)
    return mask if mask.dtype == torch.bool else to(mask, torch.promote_types(dtype, torch.float32))


def exceed_block(query: Tensor, key: Tensor) -> bool:
    """Whether there are more scores than in a block."""
    return shape_of_scores(query, key).numel() > BLOCK


def shape_of_scores(query: Tensor, key: Tensor) -> torch.Size:
    """(…, n, m), with the leading axes broadcast."""
    batch: torch.Size = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])  # type: ignore[no-untyped-call]
    return torch.Size((*batch, query.shape[-2], key.shape[-2]))


class ScoreBlocks:
    """The blocks of S = s q kᵀ + mask, in units of log 2: 2^S is e to the power of the scores.

    The leading axes of all Tensors are merged to one of N heads.

    Attributes:
        query: (N, n, d).
        key: (N, m, d).
        value: (N, m, e).
        mask: (N, n, m), where axes of length 1 are broadcast, or None.
    """

    def __init__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, causal: bool
    ) -> None:
        """Broadcast and merge the leading axes; a mask that all heads share is not copied for each."""
        self._batch = torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))  # type: ignore[no-untyped-call]
        self.query, self.key, self.value = (self.merge(x) for x in (query, key, value))
        self.mask = mask
        if mask is not None:
            shared = math.prod(mask.shape[:-2]) == 1
            self.mask = mask.reshape(1, *mask.shape[-2:]) if shared else self.merge(mask)
        self._scale, self._causal = scale, causal

    def merge(self, tensor: Tensor) -> Tensor:
        """(…, n, d) as (N, n, d)."""
        matrix = tensor.shape[-2:]
        return tensor.expand(*self._batch, *matrix).reshape(math.prod(self._batch), *matrix)

    def unmerge(self, merged: Tensor, shape: torch.Size | None = None) -> Tensor:
        """(N, n, d) as (…, n, d); for the `shape` of a Tensor that was broadcast, its gradient."""
        if shape is not None and merged.numel() == shape.numel():
            return merged.reshape(shape)
        unmerged = merged.reshape(*self._batch, *merged.shape[1:])
        return unmerged if shape is None else unmerged.sum_to_size(shape)

    def __iter__(self) -> Iterator[tuple[slice, slice, list[slice]]]:
        """Some heads and queries at a time, and the blocks of their keys; if causal, none after the last query."""
        heads, n, m = *self.query.shape[:2], self.key.shape[1]
        rows = min(n, QUERIES)
        columns = min(m, max(1, BLOCK // rows))
        for some_heads in _slices(heads, max(1, BLOCK // (rows * columns))):
            for queries in _slices(n, rows):
                yield some_heads, queries, _slices(min(m, queries.stop) if self._causal else m, columns)

    def scores(self, heads: slice, queries: slice, keys: slice) -> Tensor:
        """A block of S."""
        query, key = self.query[heads, queries] * (self._scale * _LOG2_E), self.key[heads, keys]
        mask = None if self.mask is None else part_of_mask(self.mask, heads, queries, keys)
        if self._causal and keys.stop > queries.start + 1:  # otherwise no key comes after a query
            mask = causal_mask(query, queries.start - keys.start, key.shape[1])
        return masked_scores(query, key, mask, _LOG2_E)


def _slices(length: int, size: int) -> list[slice]:
    """Successive slices; the last one may be shorter."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def part_of_mask(mask: Tensor, *block: slice) -> Tensor:
    """A block of a mask, or of its gradient; an axis of length 1 stays."""
    return mask[tuple(slice(None) if n == 1 else part for n, part in zip(mask.shape, block, strict=True))]
