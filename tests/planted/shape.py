"""Bugs of shape and indexing functions. The correct backward sends each gradient to its source and adds duplicates."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.function import Function
from bp_torch.functional.indexing import Cat, GetItem, Narrow, Stack
from bp_torch.functional.shape import Clone, Expand, Movedim, Permute, Reshape, Transpose
from planted.alterations import (
    averaged_if_ones,
    first_everywhere,
    last_doubled,
    one_short,
    rounded_to,
    row_major,
    without_offset,
)
from planted.bug import Original, first_input

_draw = RandomTensors(19)
_INDEX = torch.tensor([2, 0, 2, 2])
_ROWS = ((_draw(3, 2),), (_draw(4, 3),))

RESHAPE = Original(
    "reshape", Reshape, lambda x: x.reshape(3, -1), ((_draw(2, 6),), (_draw(9, 2),)), (torch.reshape, (3, -1))
)
TRANSPOSE = Original("transpose", Transpose, torch.t, ((_draw(3, 3),), (_draw(4, 4),)), (0, 1))
PERMUTE = Original(
    "permute", Permute, lambda x: x.permute(1, 2, 0), ((_draw(3, 3, 3),), (_draw(2, 2, 2),)), ((1, 2, 0),)
)
MOVEDIM = Original("movedim", Movedim, lambda x: x.movedim(0, 2), ((_draw(3, 3, 3),),), (0, 2))
EXPAND = Original("expand", Expand, lambda x: x.expand(4, 3), ((_draw(3),), (_draw(1, 3),)), ((4, 3),))
NARROW = Original("narrow", Narrow, lambda x: x[1:3], _ROWS, (0, 1, 2))
GETITEM = Original("getitem", GetItem, lambda x, index: x[index], tuple((x, _INDEX) for (x,) in _ROWS))
CLONE = Original("clone", Clone, torch.clone, _ROWS, (torch.preserve_format,))


class _JoinOriginal(Original):
    """`Cat` and `Stack` take the axis first."""

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        return partial(function.call, 0)


def _joined(join: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors: join(tensors)


_SAME_SHAPE = ((_draw(2, 3), _draw(2, 3)),)
CAT = _JoinOriginal("cat", Cat, _joined(torch.cat), ((_draw(2, 3), _draw(2, 3)), (_draw(4, 2), _draw(2, 2))))
STACK = _JoinOriginal("stack", Stack, _joined(torch.stack), ((_draw(2, 3), _draw(2, 3)), (_draw(4), _draw(4))))


def _columns_first(g: Tensor, x: Tensor) -> Tensor:
    return g.t().reshape(x.shape)


def _placed(g: Tensor, x: Tensor, start: int) -> Tensor:
    return torch.cat([x.new_zeros(start, x.shape[1]), g, x.new_zeros(len(x) - start - len(g), x.shape[1])])


def _overwriting(g: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x).index_copy(0, _INDEX[:2], g[:2])  # index 2 occurs three times: only the first counts


def _shifted(g: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add(0, (_INDEX + 1) % len(x), g)


def _averaged(g: Tensor, x: Tensor) -> Tensor:
    times = torch.bincount(_INDEX, minlength=len(x)).clamp_min(1).unsqueeze(1)
    return torch.zeros_like(x).index_add(0, _INDEX, g) / times


_shapes = (
    RESHAPE.backward("column-major order", "transposed", _columns_first, saved=first_input),
    RESHAPE.backward("in reverse order", "position", lambda g, x: g.flip(0, 1).reshape(x.shape), saved=first_input),
    RESHAPE.upstream("ignores the strides of g", row_major, "layout"),
    RESHAPE.upstream("g rounded to bfloat16", lambda g: rounded_to(g, torch.bfloat16), "precision"),
    TRANSPOSE.backward("not swapped back", "transposed", lambda g: g),
    TRANSPOSE.result("last element doubled", "position", input=last_doubled),
    TRANSPOSE.upstream("g of ones averaged", averaged_if_ones),
    TRANSPOSE.upstream("ignores the storage offset of g", without_offset, "layout"),
    PERMUTE.backward("the same permutation again", "transposed", lambda g: g.permute(1, 2, 0)),
    PERMUTE.backward("axes in reverse order", "transposed", lambda g: g.permute(2, 1, 0)),
    PERMUTE.upstream("|g| for g", torch.abs),
    MOVEDIM.backward("moved the same way again", "transposed", lambda g: g.movedim(0, 2)),
    MOVEDIM.backward("first and last swapped", "transposed", lambda g: g.transpose(0, 2)),
    MOVEDIM.backward("not moved back", "transposed", lambda g: g),
    CLONE.result("0.01 % too large", "factor", input=lambda d: 1.0001 * d),
    CLONE.upstream("sign of g", torch.sign),
    CLONE.upstream("first element of g for all", first_everywhere),
)

_copies = (
    EXPAND.backward("copies averaged", "reduction", lambda g, x: g.mean(0).reshape(x.shape), saved=first_input),
    EXPAND.backward("first copy alone", "reduction", lambda g, x: g[0].reshape(x.shape), saved=first_input),
    EXPAND.backward(
        "summed over the last axis too", "reduction", lambda g, x: g.sum().expand(x.shape), saved=first_input
    ),
    EXPAND.backward(
        "last copy missing", "dropped term", lambda g, x: g[:-1].sum(0).reshape(x.shape), saved=first_input
    ),
    GETITEM.backward("overwrites at repeated indices", "reduction", _overwriting, saved=first_input),
    GETITEM.backward("averages at repeated indices", "reduction", _averaged, saved=first_input),
    GETITEM.backward("shifted by one", "position", _shifted, saved=first_input),
)

_pieces = (
    NARROW.backward("placed at the beginning", "position", lambda g, x: _placed(g, x, 0), saved=first_input),
    NARROW.backward(
        "first row placed twice", "position", lambda g, x: _placed(g[:1], x, 0) + _placed(g, x, 1), saved=first_input
    ),
    NARROW.result("last of each row 0", "position", input=one_short),
    CAT.backward("pieces in reverse order", "position", lambda g: (None, g[2:], g[:2]), samples=_SAME_SHAPE),
    CAT.backward("first piece for all", "wrong formula", lambda g: (None, g[:2], g[:2]), samples=_SAME_SHAPE),
    CAT.backward("pieces of equal size assumed", "sizes", lambda g: (None, *g.chunk(2))),
    STACK.backward("pieces in reverse order", "position", lambda g: (None, g[1], g[0])),
    STACK.backward("first piece for all", "wrong formula", lambda g: (None, g[0], g[0])),
    STACK.backward("mean of the pieces for all", "reduction", lambda g: (None, g.mean(0), g.mean(0))),
)

BUGS = (*_shapes, *_copies, *_pieces)
ORIGINALS = (RESHAPE, TRANSPOSE, PERMUTE, MOVEDIM, EXPAND, NARROW, GETITEM, CLONE, CAT, STACK)
