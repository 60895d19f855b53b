"""Functions of every component by itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.catalogue.entry import BadCall, Entry, Kink, Numbers, Sample

_draw = Numbers(2)


def _samples(**options: Any) -> tuple[Sample, ...]:
    """Every shape and range an activation may meet."""
    inputs = (
        _draw(),
        _draw(1),
        _draw(5),
        _draw(4, 3),
        _draw(2, 3, 4),
        _draw(2, 3, 2, 2),
        _draw(0, 3),
        _draw(3, 4).t(),
        _draw(1, 3).expand(4, 3),
        _draw(8, scale=1e-4),
        _draw(8, scale=6),
        _draw(4).sign() * 60,  # saturated
        _draw(4).sign() * 1000,  # where an exponential overflows
    )
    return tuple(Sample((input,), options) for input in inputs)


def _entry(
    name: str,
    reference: Callable[..., Tensor],
    backward: str,
    samples: tuple[Sample, ...] = (),
    bad_calls: tuple[BadCall, ...] = (),
    kinks: tuple[Kink, ...] = (),
) -> Entry:
    not_a_tensor = () if name in ("sigmoid", "tanh") else (BadCall(([1.0],), TypeError, "'input'"),)
    return Entry(
        name, getattr(functional, name), reference, backward, _samples() + samples, (*not_a_tensor, *bad_calls), kinks
    )


_COUNTS = BadCall((torch.arange(3),), NotImplementedError, "'input' .* torch.int64")
_COMPLEX = BadCall((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "'input' .* torch.complex64")

ENTRIES = (
    _entry("sigmoid", torch.sigmoid, "∂C/∂x = g · y (1 − y)"),
    _entry("tanh", torch.tanh, "∂C/∂x = g · (1 − y²)"),
    _entry(
        "relu",
        torch.nn.functional.relu,
        "∂C/∂x = g where x > 0, else 0",
        bad_calls=(BadCall((torch.tensor([True]),), RuntimeError, "'input'"), _COMPLEX),
        kinks=(Kink.at(0, slope=0),),
    ),
    _entry(
        "leaky_relu",
        torch.nn.functional.leaky_relu,
        "∂C/∂x = g where x > 0, else s g",
        samples=_samples(negative_slope=0.3),
        bad_calls=(_COUNTS, _COMPLEX),
        kinks=(Kink.at(0, slope=0.01),),
    ),
    _entry(
        "elu",
        torch.nn.functional.elu,
        "∂C/∂x = g where x > 0, else g · α eˣ",
        samples=_samples(alpha=0.5),
        bad_calls=(_COUNTS, _COMPLEX),
        kinks=(Kink.at(0, slope=0.5, alpha=0.5),),
    ),
    _entry(
        "softplus",
        torch.nn.functional.softplus,
        "∂C/∂x = g · σ(βx), or g beyond the threshold",
        samples=_samples(beta=2.0, threshold=5.0),
        bad_calls=(_COUNTS, _COMPLEX),
    ),
    _entry("silu", torch.nn.functional.silu, "∂C/∂x = g · σ(x) (1 + x (1 − σ(x)))", bad_calls=(_COUNTS,)),
    _entry(
        "gelu",
        torch.nn.functional.gelu,
        "∂C/∂x = g · (Φ(x) + x φ(x)); the tanh form has its own",
        samples=_samples(approximate="tanh"),
        bad_calls=(_COUNTS, _COMPLEX, BadCall((_draw(3),), RuntimeError, "approximate", {"approximate": "erf"})),
    ),
)
