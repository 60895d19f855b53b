"""Bugs of dropout and of rrelu in training. The correct gradient is g m, with the factors m that the forward drew."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.dropout import Dropout
from bp_torch.functional.function import Function
from bp_torch.functional.rectifiers import RReLU
from planted.alterations import row_major
from planted.bug import Original, first_input

_draw = RandomTensors(20)
_P, _LOW = 0.3, 1.7580993408473766
_A = ((_LOW**2 * _P + 1) * (1 - _P)) ** -0.5


@dataclass(frozen=True)
class _RandomOriginal(Original):
    """An original with constants that are drawn anew for each call."""

    drawn: Callable[[Tensor], tuple[Any, ...]] = tuple

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        return lambda input: function.call(input, *self.drawn(input))


def _mask(x: Tensor) -> Tensor:
    """1 with probability 1 − p, otherwise 0."""
    return torch.empty_like(x).bernoulli_(1 - _P)


def _channel_mask(x: Tensor) -> Tensor:
    return torch.bernoulli(x.new_empty(*x.shape[:2], 1, 1), 1 - _P)


def _alpha(x: Tensor) -> tuple[Tensor, Tensor]:
    mask = _mask(x)
    return mask * _A, (mask - 1) * (_LOW * _A) + _LOW * _A * _P


def _slopes(x: Tensor) -> tuple[Tensor]:
    signs = 1 - 2 * (x.detach() <= 0).to(x.dtype)
    return (signs * torch.rrelu(signs, 0.1, 0.6, True),)


_X = ((_draw(4, 3),), (_draw(7),))
_SQUARE = ((_draw(4, 4),),)
_IMAGES = ((_draw(3, 4, 2, 2),), (_draw(2, 3, 4, 2),))

DROPOUT = _RandomOriginal("dropout", Dropout, partial(F.dropout, p=_P), _X, drawn=lambda x: (_mask(x) / (1 - _P), None))
DROPOUT_2D = _RandomOriginal(
    "dropout2d", Dropout, partial(F.dropout2d, p=_P), _IMAGES, drawn=lambda x: (_channel_mask(x) / (1 - _P), None)
)
ALPHA_DROPOUT = _RandomOriginal(
    "alpha_dropout", Dropout, partial(F.alpha_dropout, p=_P, training=True), _X, drawn=_alpha
)
RRELU = _RandomOriginal(
    "rrelu in training", RReLU, partial(F.rrelu, lower=0.1, upper=0.6, training=True), _X, drawn=_slopes
)

_dropout = (
    DROPOUT.backward("another mask", "random", lambda g, m: g * _mask(g) / (1 - _P)),
    DROPOUT.backward("gradient as in evaluation", "random", lambda g, m: g),
    DROPOUT.backward("mask without 1/(1 − p)", "factor", lambda g, m: g * (m > 0)),
    DROPOUT.backward("1/p for 1/(1 − p)", "factor", lambda g, m: g * (m > 0) / _P),
    DROPOUT.backward("1/(1 − p) applied twice", "factor", lambda g, m: g * m * m),
    DROPOUT.backward("multiplied by 1 − p", "factor", lambda g, m: g * (m > 0) * (1 - _P)),
    DROPOUT.backward("dropped and kept exchanged", "wrong formula", lambda g, m: g * (m == 0) / (1 - _P)),
    DROPOUT.backward("mask transposed", "transposed", lambda g, m: g * m.t(), samples=_SQUARE),
    DROPOUT.backward("mask of the first row for all", "position", lambda g, m: g * m[:1], samples=_X[:1]),
    DROPOUT.backward("ignores the strides of the mask", "layout", lambda g, m: g * row_major(m)),
    DROPOUT.backward(  # an element that is 0 counts as dropped
        "mask read from the output", "saturation", lambda g, y: g * (y != 0) / (1 - _P), saved=lambda _, y: y
    ),
    DROPOUT.methods("tangent not masked", "forward mode", jvp=lambda ctx, tangent, *_: tangent),
)

_channels = (
    DROPOUT_2D.backward("a mask for each element", "random", lambda g, m: g * _mask(g) / (1 - _P)),
    DROPOUT_2D.backward("one factor for each example", "reduction", lambda g, m: g * m[:, :1]),
    DROPOUT_2D.backward("factors of the first example for all", "position", lambda g, m: g * m[:1]),
    DROPOUT_2D.backward(
        "averaged over space", "reduction", lambda g, m: (g.mean((2, 3), keepdim=True) * m).expand_as(g)
    ),
)

_alpha_dropout = (
    ALPHA_DROPOUT.backward("factor a forgotten", "dropped term", lambda g, m: g * (m > 0)),
    ALPHA_DROPOUT.backward("1/(1 − p) for a", "wrong formula", lambda g, m: g * (m > 0) / (1 - _P)),
    ALPHA_DROPOUT.backward("a also where dropped", "wrong formula", lambda g, m: g * _A),
    ALPHA_DROPOUT.backward("a² for a", "factor", lambda g, m: g * m * m),
)

_rrelu = (
    RRELU.backward("the mean slope", "random", lambda g, s: torch.where(s < 1, 0.35 * g, g)),
    RRELU.backward(
        "the slopes drawn anew", "random", lambda g, s: torch.where(s < 1, (0.1 + torch.rand_like(s) / 2) * g, g)
    ),
    RRELU.backward("0 where negative", "dropped term", lambda g, s: g * (s == 1)),
    RRELU.backward("divided by the slope", "wrong formula", lambda g, s: g / s),
    RRELU.backward(
        "x for the slope where negative", "wrong formula", lambda g, x: torch.where(x > 0, g, x * g), saved=first_input
    ),
)

BUGS = (*_dropout, *_channels, *_alpha_dropout, *_rrelu)
ORIGINALS = (DROPOUT, DROPOUT_2D, ALPHA_DROPOUT, RRELU)
