"""Blocks of the scores of attention: some heads, queries and keys at a time."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

BLOCK = 2**17
"""Scores in a block: half a megabyte of float32, which the cache of a processor holds."""
QUERIES = 256
"""Queries in a block, at most."""


def merge(tensor: Tensor, batch: Sequence[int]) -> Tensor:
    """Broadcast the leading axes to `batch`, and merge them to one of heads: (…, n, d) to (N, n, d)."""
    return tensor.expand(*batch, *tensor.shape[-2:]).reshape(math.prod(batch), *tensor.shape[-2:])


def merge_mask(mask: Tensor, batch: Sequence[int]) -> Tensor:
    """The same of a mask, (…, n, m); one that all heads share becomes (1, n, m)."""
    shared = math.prod(mask.shape[:-2]) == 1
    return mask.reshape(1, *mask.shape[-2:]) if shared else merge(mask, batch)


def unmerge(grad: Tensor, batch: Sequence[int], shape: torch.Size) -> Tensor:
    """The gradient of a Tensor of `shape` from that of the merged one."""
    if grad.numel() == shape.numel():
        return grad.reshape(shape)
    return grad.reshape(*batch, *grad.shape[-2:]).sum_to_size(shape)


def blocks_of_scores(query: Tensor, key: Tensor, causal: bool) -> Iterator[tuple[slice, slice, list[slice]]]:
    """For some heads and queries at a time, the blocks of keys; under a causal mask none after the last query."""
    heads, n, m = *query.shape[:2], key.shape[1]
    rows = min(n, QUERIES)
    columns = min(m, max(1, BLOCK // rows))
    for some_heads in _slices(heads, max(1, BLOCK // (rows * columns))):
        for queries in _slices(n, rows):
            yield some_heads, queries, _slices(min(m, queries.stop) if causal else m, columns)


def _slices(length: int, size: int) -> list[slice]:
    """Successive slices; the last one may be shorter."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def mask_of_block(mask: Tensor | None, causal: bool, query: Tensor, *block: slice) -> Tensor | None:
    """The mask of a block (heads, queries, keys); None if it masks nothing."""
    _, queries, keys = block
    if causal:
        return causal_mask(query, queries, keys) if keys.stop > queries.start + 1 else None
    return None if mask is None else part_of_mask(mask, *block)


def part_of_mask(mask: Tensor, *block: slice) -> Tensor:
    """A block of a mask, or of its gradient; an axis of length 1 stays."""
    return mask[tuple(slice(None) if n == 1 else part for n, part in zip(mask.shape, block, strict=True))]


def causal_mask(query: Tensor, queries: slice, keys: slice) -> Tensor:
    """Whether query i may see key j: j ≤ i, counted from the first query and the first key."""
    shape = queries.stop - queries.start, keys.stop - keys.start
    return torch.ones(shape, dtype=torch.bool, device=query.device).tril(queries.start - keys.start)
