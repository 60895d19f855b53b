"""Arithmetic: element by element, choices, sums over axes, products of matrices."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.entry import BadCall, Interval, Kink, Numbers, Sample, entry

_draw = Numbers(7)
_entry = partial(entry, refuses_lists=True)

_x, _row, _column, _number = _draw(2, 3), _draw(3), _draw(2, 1), _draw()
_transposed, _cube, _empty = _draw(3, 2).t(), _draw(2, 3, 2), _draw(0, 3)
_mask = torch.tensor([[True, False, True], [False, False, True]])


def _unary(positive: bool = False) -> list[tuple[Tensor]]:
    """One Tensor: shapes, layouts, tiny and large numbers."""
    inputs = (_x, _transposed, _draw(1, 3).expand(2, 3), _number, _empty, _draw(4, scale=1e-4), _draw(4, scale=6))
    return [(x.abs() + 0.01,) if positive else (x,) for x in inputs]


def _binary(positive: bool = False) -> list[tuple[Any, ...]]:
    """Two Tensors that are broadcast in every way."""
    pairs = ((_x, _draw(2, 3)), (_x, _row), (_column, _draw(2, 1, 3)), (_transposed, _number), (_empty, _draw(1, 3)))
    return [(a, b.abs() + 0.1 if positive else b) for a, b in pairs]


_NOT_BROADCAST = BadCall((_x, _draw(2)), RuntimeError, "size of tensor a")
_COMPLEX = BadCall((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "complex64")
_COMPLEX_AND_NUMBER = BadCall((torch.zeros(3, dtype=torch.complex64), 2), NotImplementedError, "complex64")
_NO_SUCH_AXIS = BadCall((_x, 2), IndexError, "out of range")
_POSITIVE = (Interval(0, math.inf),)
_TIE = (Kink((1, 1), 0.5),)

ENTRIES = (
    _entry(
        "add",
        "∂C/∂a = g, ∂C/∂b = α g",
        (*_binary(), Sample((_x, _row), {"alpha": -0.3}), (_x, 2)),
        _NOT_BROADCAST,
        _COMPLEX_AND_NUMBER,
    ),
    _entry(
        "sub",
        "∂C/∂a = g, ∂C/∂b = −α g",
        (*_binary()[:3], Sample((_x, _row), {"alpha": 3}), (_x, 2.5)),
        _NOT_BROADCAST,
    ),
    _entry("mul", "∂C/∂a = g b, ∂C/∂b = g a", (*_binary(), (_x, -2)), _NOT_BROADCAST, _COMPLEX_AND_NUMBER),
    _entry("div", "∂C/∂a = g / b, ∂C/∂b = −g a / b²", (*_binary(positive=True), (_x, 3)), _NOT_BROADCAST),
    _entry("neg", "∂C/∂x = −g", _unary()[:5], _COMPLEX),
    _entry(
        "pow",
        "∂C/∂a = g b aᵇ⁻¹, ∂C/∂b = g y ln a",
        ((_x.abs(), 1.5), (_x, 2), (_transposed, 0), (_x, -1), (_x.abs(), _row), (_draw(1, 3).abs(), _column)),
        _NOT_BROADCAST,
        BadCall((torch.arange(3), -1), RuntimeError, "negative integer powers"),
    ),
    _entry("square", "∂C/∂x = g 2x", _unary(), _COMPLEX),
    _entry("sqrt", "∂C/∂x = g / 2√x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _entry("rsqrt", "∂C/∂x = −g / 2x√x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _entry("exp", "∂C/∂x = g y", _unary(), _COMPLEX),
    _entry("log", "∂C/∂x = g / x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _entry("abs", "∂C/∂x = g sign(x)", _unary(), _COMPLEX, kinks=(Kink((0,), 0),)),
    # Choices
    _entry("maximum", "∂C/∂a = g where a > b, else 0; half of g at a tie", _binary()[:4], _NOT_BROADCAST, kinks=_TIE),
    _entry("minimum", "∂C/∂a = g where a < b, else 0; half of g at a tie", _binary()[1:4], _NOT_BROADCAST, kinks=_TIE),
    _entry(
        "where",
        "∂C/∂a = g where the condition holds, else 0; ∂C/∂b the other way round",
        ((_mask, _x, _draw(2, 3)), (_mask, _draw(1, 3), _column), (_mask[0], _transposed, 0.5), (_mask[0], -1.0, _x)),
        BadCall((_draw(2), _draw(2), _draw(2)), RuntimeError, "condition"),
    ),
    _entry(
        "masked_fill",
        "∂C/∂x = g, but 0 where filled",
        (
            (_x, _mask, -math.inf),
            (_x, _mask[0], 2.0),
            (_transposed, _mask, 0.5),
            (_x, _mask, _number),
            (_row, _mask[0], 1.0),
        ),
        BadCall((_x, _mask.int(), 1.0), RuntimeError, "bool"),
    ),
    _entry(
        "amax",
        "∂C/∂x = g at the maximum, else 0; g / k at each of k equal ones",
        ((_x, 1), (_transposed, (0, -1), True), (_cube, (0, 2)), (_row,), (_number,)),
        _NO_SUCH_AXIS,
        BadCall((_draw(2, 0), 1), IndexError, "non-zero size"),
    ),
    # Sums over axes, and products
    _entry(
        "sum",
        "∂C/∂x = g along the summed axes",
        ((_x, 1), (_transposed, None, True), (_cube, (0, -1)), (_row,), (_number,), (_empty, 0)),
        _NO_SUCH_AXIS,
        _COMPLEX,
    ),
    _entry(
        "mean",
        "∂C/∂x = g / n along the n averaged values",
        ((_x, 1), (_transposed, None, True), (_cube, (0, -1)), (_row,), (_number,)),
        _NO_SUCH_AXIS,
        BadCall((torch.arange(3),), RuntimeError, "dtype"),
    ),
    _entry(
        "matmul",
        "∂C/∂A = g Bᵀ, ∂C/∂B = Aᵀ g",
        (
            (_x, _draw(3, 4)),
            (_transposed, _draw(4, 3).t()),
            (_row, _draw(3)),
            (_row, _draw(3, 2)),
            (_x, _row),
            (_draw(2, 2, 3), _draw(3, 2)),
            (_x, _cube),
            (_row, _cube),
            (_draw(2, 2, 3), _row),
            (_draw(2, 1, 2, 3), _draw(3, 3, 1)),
            (_empty, _draw(3, 2)),
            (_draw(2, 0), _empty),
        ),
        BadCall((_x, _x), RuntimeError, "2x3 and 2x3"),
        BadCall((_x, _draw(3, 2).float()), RuntimeError, "dtype"),
        BadCall((_number, _row), RuntimeError, "at least 1D"),
    ),
)
