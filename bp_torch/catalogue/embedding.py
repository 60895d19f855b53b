"""Entries of embeddings."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(30)
_table, _index, _flat = _draw(4, 3), torch.tensor([[1, 0, 1], [3, 1, 0]]), torch.tensor([1, 0, 1, 3, 1])


def _bags(input: Tensor, weight: Tensor, offsets: Tensor | None = None, **options: Any) -> Tensor:
    """embedding_bag, bag by bag: PyTorch's own has no second derivative and no forward mode."""
    starts = range(0, input.numel(), input.shape[1]) if offsets is None else offsets.tolist()
    ends = [*starts, input.numel()] if not options.get("include_last_offset") else starts
    factors = options.get("per_sample_weights")
    rows = weight[input.reshape(-1)]
    if factors is not None:
        rows = rows * factors.reshape(-1, 1)
    counted = input.reshape(-1) != options.get("padding_idx", -1) % len(weight) if "padding_idx" in options else None
    bags = []
    for start, end in pairwise(ends):
        bag = rows[start:end] if counted is None else rows[start:end][counted[start:end]]
        bags.append(_REDUCE[options.get("mode", "mean")](bag) if len(bag) else rows[:0].sum(0))
    return torch.stack(bags)


_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": partial(torch.sum, dim=0),
    "mean": partial(torch.mean, dim=0),
    "max": lambda bag: bag.max(0).values,
}


def _bag(input: Tensor, weight: Tensor, *offsets: int, **options: Any) -> Sample:
    """A sample of bags; the offsets and factors of a 1-D input belong to its length."""
    if offsets:
        return Sample((input, weight, torch.tensor(offsets)), options, "_, _ features, _")
    return Sample((input, weight), options, "batch length, _ features")


OP_INFOS = (
    op_info(
        "embedding",
        "∂C/∂W[v] = Σ gₙ over the copies n of row v",
        (
            Sample((_index, _table), axes="batch length, 4 features"),
            Sample((torch.tensor([2, 0, 2]).int(), _draw(3, 2)), axes="batch, 3 features"),
        ),
        ErrorInput((torch.tensor([[0, 1], [4, 1]]), _table), IndexError, r"index 4 at position \(1, 0\).*4 rows"),
        ErrorInput((torch.tensor([0, -1]), _table), IndexError, r"index -1 at position \(1,\).*4 rows"),
        ErrorInput((torch.tensor([0.5]), _table), RuntimeError, "indices"),
        ErrorInput((_index, _table[0]), RuntimeError, "2-D"),
        ErrorInput((_index, _table), AssertionError, "padding_idx 4", {"padding_idx": 4}),
        rejects_lists=True,
    ),
    op_info(
        "embedding_bag",
        "∂C/∂W[v] = Σ sₙ g_b(n) over the copies n of row v",
        (
            _bag(_index, _draw(4, 3), padding_idx=-3),
            _bag(_flat, _draw(4, 2), 0, 2, 2),
            _bag(_flat, _draw(4, 2), 0, 3, 5, mode="sum", include_last_offset=True, padding_idx=1),
            _bag(_flat, _draw(4, 3), 0, 1, 1, mode="max"),
        ),
        reference=_bags,
    ),
)
