"""Bugs of what moves values. Right is to send each gradient back to where its value came from, added up."""

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
    from_its_beginning,
    last_doubled,
    one_short,
    rounded_to,
    row_major,
)
from planted.bug import Host, first_input

_draw = RandomTensors(19)
_INDEX = torch.tensor([2, 0, 2, 2])
_ROWS = ((_draw(3, 2),), (_draw(4, 3),))

RESHAPE = Host(
    "reshape", Reshape, lambda x: x.reshape(3, -1), ((_draw(2, 6),), (_draw(9, 2),)), (torch.reshape, (3, -1))
)
TRANSPOSE = Host("transpose", Transpose, torch.t, ((_draw(3, 3),), (_draw(4, 4),)), (0, 1))
PERMUTE = Host("permute", Permute, lambda x: x.permute(1, 2, 0), ((_draw(3, 3, 3),), (_draw(2, 2, 2),)), ((1, 2, 0),))
MOVEDIM = Host("movedim", Movedim, lambda x: x.movedim(0, 2), ((_draw(3, 3, 3),),), (0, 2))
EXPAND = Host("expand", Expand, lambda x: x.expand(4, 3), ((_draw(3),), (_draw(1, 3),)), ((4, 3),))
NARROW = Host("narrow", Narrow, lambda x: x[1:3], _ROWS, (0, 1, 2))
GETITEM = Host("getitem", GetItem, lambda x, index: x[index], tuple((x, _INDEX) for (x,) in _ROWS))
CLONE = Host("clone", Clone, torch.clone, _ROWS, (torch.preserve_format,))


class _JoinHost(Host):
    """`Cat` and `Stack` take the axis first."""

    def _called(self, function: type[Function]) -> Callable[..., Tensor]:
        return partial(function.call, 0)


def _joined(join: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors: join(tensors)


_ALIKE = ((_draw(2, 3), _draw(2, 3)),)
CAT = _JoinHost("cat", Cat, _joined(torch.cat), ((_draw(2, 3), _draw(2, 3)), (_draw(4, 2), _draw(2, 2))))
STACK = _JoinHost("stack", Stack, _joined(torch.stack), ((_draw(2, 3), _draw(2, 3)), (_draw(4), _draw(4))))


def _columns_first(g: Tensor, x: Tensor) -> Tensor:
    return g.t().reshape(x.shape)


def _placed(g: Tensor, x: Tensor, start: int) -> Tensor:
    return torch.cat([x.new_zeros(start, x.shape[1]), g, x.new_zeros(len(x) - start - len(g), x.shape[1])])


def _overwriting(g: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x).index_copy(0, _INDEX[:2], g[:2])  # place 2 is taken three times: the first counts


def _shifted(g: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add(0, (_INDEX + 1) % len(x), g)


def _averaged(g: Tensor, x: Tensor) -> Tensor:
    times = torch.bincount(_INDEX, minlength=len(x)).clamp_min(1).unsqueeze(1)
    return torch.zeros_like(x).index_add(0, _INDEX, g) / times


_shapes = (
    RESHAPE.backward("columns first", "transposed", _columns_first, kept=first_input),
    RESHAPE.backward("in reverse order", "one place", lambda g, x: g.flip(0, 1).reshape(x.shape), kept=first_input),
    RESHAPE.upstream("reads g row by row, whatever its strides", row_major, "layout"),
    RESHAPE.upstream("g rounded to bfloat16", lambda g: rounded_to(g, torch.bfloat16), "precision"),
    TRANSPOSE.backward("not swapped back", "transposed", lambda g: g),
    TRANSPOSE.result("last element doubled", "one place", input=last_doubled),
    TRANSPOSE.upstream("g of ones averaged", averaged_if_ones),
    TRANSPOSE.upstream("reads g from the beginning of its memory", from_its_beginning, "layout"),
    PERMUTE.backward("the same permutation again", "transposed", lambda g: g.permute(1, 2, 0)),
    PERMUTE.backward("axes in reverse order", "transposed", lambda g: g.permute(2, 1, 0)),
    PERMUTE.upstream("takes |g|", torch.abs),
    MOVEDIM.backward("moved the same way again", "transposed", lambda g: g.movedim(0, 2)),
    MOVEDIM.backward("first and last swapped", "transposed", lambda g: g.transpose(0, 2)),
    MOVEDIM.backward("not moved back", "transposed", lambda g: g),
    CLONE.result("0.01 % too large", "factor", input=lambda d: 1.0001 * d),
    CLONE.upstream("sign of g", torch.sign),
    CLONE.upstream("first element of g for all", first_everywhere),
)

_copies = (
    EXPAND.backward("copies averaged", "reduction", lambda g, x: g.mean(0).reshape(x.shape), kept=first_input),
    EXPAND.backward("first copy alone", "reduction", lambda g, x: g[0].reshape(x.shape), kept=first_input),
    EXPAND.backward(
        "summed over the last axis too", "reduction", lambda g, x: g.sum().expand(x.shape), kept=first_input
    ),
    EXPAND.backward(
        "last copy left out", "dropped term", lambda g, x: g[:-1].sum(0).reshape(x.shape), kept=first_input
    ),
    GETITEM.backward("overwrites at repeated indices", "reduction", _overwriting, kept=first_input),
    GETITEM.backward("averages at repeated indices", "reduction", _averaged, kept=first_input),
    GETITEM.backward("one place too far", "one place", _shifted, kept=first_input),
)

_pieces = (
    NARROW.backward("placed at the beginning", "one place", lambda g, x: _placed(g, x, 0), kept=first_input),
    NARROW.backward(
        "first row placed twice", "one place", lambda g, x: _placed(g[:1], x, 0) + _placed(g, x, 1), kept=first_input
    ),
    NARROW.result("last of each row 0", "one place", input=one_short),
    CAT.backward("pieces in reverse order", "one place", lambda g: (None, g[2:], g[:2]), samples=_ALIKE),
    CAT.backward("first piece for all", "wrong formula", lambda g: (None, g[:2], g[:2]), samples=_ALIKE),
    CAT.backward("pieces alike, whatever the sizes", "sizes", lambda g: (None, *g.chunk(2))),
    STACK.backward("pieces in reverse order", "one place", lambda g: (None, g[1], g[0])),
    STACK.backward("first piece for all", "wrong formula", lambda g: (None, g[0], g[0])),
    STACK.backward("mean of the pieces for all", "reduction", lambda g: (None, g.mean(0), g.mean(0))),
)

BUGS = (*_shapes, *_copies, *_pieces)
HOSTS = (RESHAPE, TRANSPOSE, PERMUTE, MOVEDIM, EXPAND, NARROW, GETITEM, CLONE, CAT, STACK)
