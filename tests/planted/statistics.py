"""Bugs of reductions, of cumulative sums, and of maxima and sorting."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.function import Function
from bp_torch.functional.gathering import Gather
from bp_torch.functional.ordering import Extremum
from bp_torch.functional.statistics import Cumsum, LogSumExp, Norm, Prod, Std, Var
from planted.bug import Original, first_input

_draw = RandomTensors(32)
_X = ((_draw(4, 3),), (_draw(2, 5),))
_SQUARE = ((_draw(4, 4),),)

LOGSUMEXP = Original("logsumexp", LogSumExp, partial(torch.logsumexp, dim=1, keepdim=True), _X, (1, True))
NORM = Original("norm", Norm, partial(torch.norm, p=2, dim=1, keepdim=True), _X, (1, True, 2.0, None))
CUBIC_NORM = Original("norm, p = 3", Norm, partial(torch.norm, p=3, dim=1, keepdim=True), _X, (1, True, 3.0, None))
VAR = Original("var", Var, partial(torch.var, dim=1, keepdim=True), _X, (1, True, 1))
STD = Original("std", Std, partial(torch.std, dim=1, keepdim=True), _X, (1, True, 1))
PROD = Original("prod", Prod, partial(torch.prod, dim=1, keepdim=True), _X, (1, True))
CUMSUM = Original("cumsum", Cumsum, partial(torch.cumsum, dim=1), _X, (1, None))
MAX = Original("max", Extremum, torch.max, _X, (None, False, torch.max))


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


_reductions = (
    LOGSUMEXP.backward("softmax over the other axis", "reduction", lambda g, x, y: g * x.softmax(0), samples=_SQUARE),
    LOGSUMEXP.backward("eˣ not divided", "dropped term", lambda g, x, y: g * x.exp()),
    LOGSUMEXP.backward(
        "maximum not subtracted", "overflow", lambda g, x, y: g * (x.exp() / x.exp().sum(1, keepdim=True))
    ),
    LOGSUMEXP.backward("y detached", "second derivative", lambda g, x, y: g * (x - y.detach()).exp()),
    NORM.backward("NaN at a row of zeros", "kink", lambda g, x, y: g * x / y),
    NORM.backward("10⁻⁶ added to y", "epsilon", lambda g, x, y: g * x / (y + 1e-6)),
    NORM.backward("of the square", "wrong formula", lambda g, x, y: g * 2 * x),
    NORM.backward("y detached", "second derivative", lambda g, x, y: g * x / y.detach()),
    CUBIC_NORM.backward("x² for x |x|", "sign", lambda g, x, y: g * (x / y) ** 2),
    VAR.backward("correction left out", "factor", lambda g, x, y: g * 2 * _centred(x) / x.shape[1]),
    VAR.backward("mean not subtracted", "dropped term", lambda g, x, y: g * 2 * x / (x.shape[1] - 1)),
    VAR.backward(
        "mean detached",
        "second derivative",
        lambda g, x, y: g * 2 * (x - x.detach().mean(1, keepdim=True)) / (x.shape[1] - 1),
    ),
    STD.backward("2 of the variance left", "factor", lambda g, x, y: g * 2 * _centred(x) / (x.shape[1] - 1) / y),
    STD.backward("NaN where all are equal", "kink", lambda g, x, y: g * _centred(x) / ((x.shape[1] - 1) * y)),
    STD.backward("of the variance", "dropped term", lambda g, x, y: g * 2 * _centred(x) / (x.shape[1] - 1)),
    PROD.backward("y / x: NaN at a zero", "overflow", lambda g, x, y: g * y / x),
    PROD.backward("y / x, 0 at a zero", "position", lambda g, x, y: torch.where(x == 0, 0, g * y / x)),
    PROD.backward("those before alone", "dropped term", lambda g, x, y: g * (x.cumprod(1) / x)),
    PROD.backward("y detached", "second derivative", lambda g, x, y: g * y.detach() / x),
)

_cumsum = partial(CUMSUM.backward, saved=first_input)

_sums = (
    _cumsum("not reversed", "position", lambda g, x: g.cumsum(1)),
    _cumsum("own term missing", "position", lambda g, x: g.flip(1).cumsum(1).flip(1) - g),
    _cumsum("order not restored", "position", lambda g, x: g.flip(1).cumsum(1)),
    _cumsum("along the other axis", "transposed", lambda g, x: g.flip(0).cumsum(0).flip(0), samples=_SQUARE),
)


@dataclass(frozen=True)
class _OrderedOriginal(Original):
    """`Gather` takes the indices, which torch.sort or torch.topk finds: the one constant."""

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        (order,) = self.constants
        return lambda x: function.call(x, 1, order(x.detach()).indices)


def _ordered(name: str, order: Callable[[Tensor], Any]) -> Original:
    return _OrderedOriginal(name, Gather, lambda x: order(x).values, _X, (order,))


SORT = _ordered("sort", partial(torch.sort, dim=1))
TOPK = _ordered("topk", partial(torch.topk, k=2, dim=1))


def _input_and_index(inputs: tuple[Any, ...], output: Tensor) -> tuple[Tensor, ...]:
    return inputs[0], inputs[2]


_sort = partial(SORT.backward, saved=_input_and_index)
_topk = partial(TOPK.backward, saved=_input_and_index)

_orders = (
    MAX.backward("ties counted twice", "kink", lambda g, x, y: g * (x == y)),
    MAX.backward("g to all", "dropped term", lambda g, x, y: g.expand_as(x)),
    MAX.backward("maximum of each row", "reduction", lambda g, x, y: g * (x == x.amax(1, keepdim=True))),
    _sort("not permuted back", "position", lambda g, x, i: g),
    _sort("permuted once more", "transposed", lambda g, x, i: g.gather(1, i)),
    _sort("order of the first row", "position", lambda g, x, i: torch.zeros_like(x).scatter(1, i[:1].expand_as(i), g)),
    _topk("first k places", "position", lambda g, x, i: torch.zeros_like(x).scatter(1, i.argsort(1), g)),
    TOPK.methods("tangents of the first k", "forward mode", jvp=lambda ctx, t, *_: t[:, :2]),
)

BUGS = (*_reductions, *_sums, *_orders)
ORIGINALS = (LOGSUMEXP, NORM, CUBIC_NORM, VAR, STD, PROD, CUMSUM, MAX, SORT, TOPK)
