"""Bugs of indexing along an axis and of triangles. The correct gradient takes g from, or adds it at, the indices."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.gathering import Gather, IndexSelect, Scatter, ScatterAdd, Triangle
from bp_torch.sample import Sample
from planted.bug import Original

_draw = RandomTensors(33)
_x = _draw(4, 3)
_twice = torch.tensor([[3, 0, 3], [0, 1, 3], [0, 2, 1]])  # some indices twice in a column
_apart = torch.tensor([[3, 0, 2], [0, 1, 3]])  # each once in a column
_rows = torch.tensor([1, 3, 1, 0])

_GATHER = (Sample((_x, 0, _twice), axes="4 columns, , 3 columns"),)
_SELECT = (Sample((_x, 0, _rows), axes="4 columns, , taken"),)
_SCATTER = (Sample((_x, 0, _apart, _draw(2, 3)), axes="4 columns, , 2 columns, 2 columns"),)
_ADD = (Sample((_x, 0, _twice, _draw(3, 3)), axes="4 columns, , 3 columns, 3 columns"),)
_MATRIX = ((_draw(4, 4),), (_draw(2, 3, 5),))

GATHER = Original("gather", Gather, torch.gather, _GATHER)
SELECT = Original("index_select", IndexSelect, torch.index_select, _SELECT)
SCATTER = Original("scatter", Scatter, torch.scatter, _SCATTER)
ADD = Original("scatter_add", ScatterAdd, torch.scatter_add, _ADD)
TRIL = Original("tril", Triangle, torch.tril, _MATRIX, (torch.tril, 0))
TRIU = Original("triu", Triangle, partial(torch.triu, diagonal=1), _MATRIX, (torch.triu, 1))


def _input_and_index(inputs: tuple[Any, ...], output: Tensor) -> tuple[Tensor, ...]:
    return inputs[0], inputs[2]


def _scattered(g: Tensor, x: Tensor, index: Tensor, reduce: str = "sum") -> Tensor:
    return torch.zeros_like(x).scatter_reduce(0, index, g, reduce, include_self=False)


_gather = partial(GATHER.backward, saved=_input_and_index)
_select = partial(SELECT.backward, saved=_input_and_index)

_taken = (
    _gather("duplicates overwritten", "reduction", lambda g, x, i: torch.zeros_like(x).scatter(0, i, g)),
    _gather("duplicates averaged", "reduction", partial(_scattered, reduce="mean")),
    _gather("index of the first column", "position", lambda g, x, i: _scattered(g, x, i[:, :1].expand_as(i))),
    _select("duplicates overwritten", "reduction", lambda g, x, i: torch.zeros_like(x).index_copy(0, i, g)),
    _select("index reversed", "position", lambda g, x, i: torch.zeros_like(x).index_add(0, i.flip(0), g)),
)


def _at(g: Tensor, index: Tensor) -> Tensor:
    return g.gather(0, index)


def _counts(index: Tensor, g: Tensor) -> Tensor:
    """How often each index occurs in its column."""
    return torch.zeros_like(g).scatter_add(0, index, torch.ones_like(index, dtype=g.dtype)).gather(0, index)


_written = (
    SCATTER.backward("g of what was written over", "dropped term", lambda g, i: (g, None, None, _at(g, i))),
    SCATTER.backward("src gets its own place", "position", lambda g, i: (g.scatter(0, i, 0), None, None, g[: len(i)])),
    SCATTER.methods(
        "src without a tangent", "forward mode", jvp=lambda ctx, t, *_: t.scatter(0, ctx.saved_tensors[0], 0)
    ),
    ADD.backward("0 at the indices", "wrong formula", lambda g, i: (g.scatter(0, i, 0), None, None, _at(g, i))),
    ADD.backward("duplicates averaged", "reduction", lambda g, i: (g, None, None, _at(g, i) / _counts(i, g))),
    ADD.backward("src gets its own place", "position", lambda g, i: (g, None, None, g[: len(i)])),
    TRIL.backward("mask transposed", "transposed", lambda g: g.triu()),
    TRIL.backward("g everywhere", "dropped term", lambda g: g),
    TRIL.backward("diagonal left out", "position", lambda g: g.tril(-1)),
    TRIU.backward("diagonal ignored", "position", lambda g: g.triu()),
)

BUGS = (*_taken, *_written)
ORIGINALS = (GATHER, SELECT, SCATTER, ADD, TRIL, TRIU)
