"""Arithmetic: element by element, choices, sums over axes, products of matrices."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.catalogue.entry import BadCall, Entry, Interval, Kink, Numbers, Sample

_draw = Numbers(7)


def _entry(name: str, backward: str, calls: tuple[Any, ...], *bad_calls: BadCall, **options: Any) -> Entry:
    reference: Callable[..., Tensor] = getattr(torch, name)
    samples = tuple(call if isinstance(call, Sample) else Sample(call) for call in calls)
    bad = (BadCall(([1.0], *samples[0].args[1:]), TypeError, ""), *bad_calls)
    return Entry(name, getattr(functional, name), reference, backward, samples, bad, **options)


def _unary(positive: bool = False) -> tuple[tuple[Tensor, ...], ...]:
    """One Tensor: shapes, layouts, tiny and large numbers."""
    calls = (
        (_draw(2, 3),),
        (_draw(3, 2).t(),),
        (_draw(1, 3).expand(2, 3),),
        (_draw(),),
        (_draw(0, 3),),
        (_draw(4, scale=1e-4),),
        (_draw(4, scale=6),),
    )
    return tuple((x.abs() + 0.01,) for (x,) in calls) if positive else calls


def _binary(positive: bool = False) -> tuple[tuple[Any, ...], ...]:
    """Two Tensors that are broadcast in every way."""
    pairs: tuple[tuple[Any, ...], ...] = (
        (_draw(2, 3), _draw(2, 3)),
        (_draw(2, 3), _draw(3)),
        (_draw(2, 1), _draw(2, 1, 3)),
        (_draw(3, 2).t(), _draw()),
        (_draw(0, 3), _draw(1, 3)),
    )
    return tuple((a, b.abs() + 0.1) for a, b in pairs) if positive else pairs


_NOT_BROADCAST = BadCall((_draw(2, 3), _draw(2)), RuntimeError, "size of tensor a")
_COMPLEX = BadCall((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "complex64")
_COMPLEX_AND_NUMBER = BadCall((torch.zeros(3, dtype=torch.complex64), 2), NotImplementedError, "complex64")
_NO_SUCH_AXIS = BadCall((_draw(2, 3), 2), IndexError, "out of range")
_POSITIVE = (Interval(0, math.inf),)
_mask = torch.tensor([[True, False, True], [False, False, True]])
_tie = torch.ones(1, dtype=torch.float64)

_ELEMENT_BY_ELEMENT = (
    _entry(
        "add",
        "∂C/∂a = g, ∂C/∂b = α g",
        (*_binary(), Sample((_draw(2, 3), _draw(3)), {"alpha": -0.3}), (_draw(2, 3), 2)),
        _NOT_BROADCAST,
        _COMPLEX_AND_NUMBER,
    ),
    _entry(
        "sub",
        "∂C/∂a = g, ∂C/∂b = −α g",
        (*_binary()[:3], Sample((_draw(2, 3), _draw(3)), {"alpha": 3}), (_draw(2, 3), 2.5)),
        _NOT_BROADCAST,
    ),
    _entry("mul", "∂C/∂a = g b, ∂C/∂b = g a", (*_binary(), (_draw(2, 3), -2)), _NOT_BROADCAST, _COMPLEX_AND_NUMBER),
    _entry("div", "∂C/∂a = g / b, ∂C/∂b = −g a / b²", (*_binary(positive=True), (_draw(2, 3), 3)), _NOT_BROADCAST),
    _entry("neg", "∂C/∂x = −g", _unary()[:5], _COMPLEX),
    _entry(
        "pow",
        "∂C/∂a = g b aᵇ⁻¹, ∂C/∂b = g y ln a",
        (
            (_draw(2, 3).abs(), 1.5),
            (_draw(2, 3), 2),
            (_draw(3, 2).t(), 0),
            (_draw(2, 3), -1),
            (_draw(2, 3).abs(), _draw(3)),
            (_draw(1, 3).abs(), _draw(2, 1)),
        ),
        _NOT_BROADCAST,
        BadCall((torch.arange(3), -1), RuntimeError, "negative integer powers"),
    ),
    _entry("square", "∂C/∂x = g 2x", _unary(), _COMPLEX),
    _entry("sqrt", "∂C/∂x = g / 2√x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _entry("rsqrt", "∂C/∂x = −g / 2x√x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _entry("exp", "∂C/∂x = g y", _unary(), _COMPLEX),
    _entry("log", "∂C/∂x = g / x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _entry("abs", "∂C/∂x = g sign(x)", _unary(), _COMPLEX, kinks=(Kink.at(0, slope=0),)),
)

_CHOICES = (
    _entry(
        "maximum",
        "∂C/∂a = g where a > b, else 0; half of g at a tie",
        _binary()[:4],
        _NOT_BROADCAST,
        kinks=(Kink((_tie, _tie), 0.5),),
    ),
    _entry(
        "minimum",
        "∂C/∂a = g where a < b, else 0; half of g at a tie",
        _binary()[1:4],
        _NOT_BROADCAST,
        kinks=(Kink((_tie, _tie), 0.5),),
    ),
    _entry(
        "where",
        "∂C/∂a = g where the condition holds, else 0; ∂C/∂b the other way round",
        (
            (_mask, _draw(2, 3), _draw(2, 3)),
            (_mask, _draw(1, 3), _draw(2, 1)),
            (_mask[0], _draw(3, 2).t(), 0.5),
            (_mask[0], -1.0, _draw(2, 3)),
        ),
        BadCall((_draw(2), _draw(2), _draw(2)), RuntimeError, "condition"),
    ),
    _entry(
        "masked_fill",
        "∂C/∂x = g, but 0 where filled",
        (
            (_draw(2, 3), _mask, -math.inf),
            (_draw(2, 3), _mask[0], 2.0),
            (_draw(3, 2).t(), _mask, 0.5),
            (_draw(2, 3), _mask, _draw()),
            (_draw(3), _mask[0], 1.0),
        ),
        BadCall((_draw(2, 3), _mask.int(), 1.0), RuntimeError, "bool"),
    ),
    _entry(
        "amax",
        "∂C/∂x = g at the maximum, else 0; g / k at each of k equal ones",
        (
            (_draw(2, 3), 1),
            (_draw(3, 2).t(), (0, -1), True),
            (_draw(2, 3, 2), (0, 2)),
            (_draw(3),),
            (_draw(),),
        ),
        _NO_SUCH_AXIS,
        BadCall((_draw(2, 0), 1), IndexError, "non-zero size"),
    ),
)

_SUMS = (
    _entry(
        "sum",
        "∂C/∂x = g along the summed axes",
        (
            (_draw(2, 3), 1),
            (_draw(3, 2).t(), None, True),
            (_draw(2, 3, 2), (0, -1)),
            (_draw(3),),
            (_draw(),),
            (_draw(0, 3), 0),
        ),
        _NO_SUCH_AXIS,
        _COMPLEX,
    ),
    _entry(
        "mean",
        "∂C/∂x = g / n along the n averaged values",
        (
            (_draw(2, 3), 1),
            (_draw(3, 2).t(), None, True),
            (_draw(2, 3, 2), (0, -1)),
            (_draw(3),),
            (_draw(),),
        ),
        _NO_SUCH_AXIS,
        BadCall((torch.arange(3),), RuntimeError, "dtype"),
    ),
    _entry(
        "matmul",
        "∂C/∂A = g Bᵀ, ∂C/∂B = Aᵀ g",
        (
            (_draw(2, 3), _draw(3, 4)),
            (_draw(3, 2).t(), _draw(4, 3).t()),
            (_draw(3), _draw(3)),
            (_draw(3), _draw(3, 2)),
            (_draw(2, 3), _draw(3)),
            (_draw(2, 2, 3), _draw(3, 2)),
            (_draw(2, 3), _draw(2, 3, 2)),
            (_draw(3), _draw(2, 3, 2)),
            (_draw(2, 2, 3), _draw(3)),
            (_draw(2, 1, 2, 3), _draw(3, 3, 1)),
            (_draw(0, 3), _draw(3, 2)),
            (_draw(2, 0), _draw(0, 3)),
        ),
        BadCall((_draw(2, 3), _draw(2, 3)), RuntimeError, "2x3 and 2x3"),
        BadCall((_draw(2, 3), _draw(3, 2).float()), RuntimeError, "dtype"),
        BadCall((_draw(), _draw(3)), RuntimeError, "at least 1D"),
    ),
)

ENTRIES = (*_ELEMENT_BY_ELEMENT, *_CHOICES, *_SUMS)
