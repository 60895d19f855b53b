"""Activations: of every component by itself, and those that compete along a dimension."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.entry import BadCall, Kink, Numbers, Sample, entry

_draw = Numbers(2)


def _samples(**options: Any) -> tuple[Sample, ...]:
    """Every shape and range an activation may meet, and all again with the options, if any."""
    signs = _draw(4).sign()
    inputs = (*_draw.inputs(large=6), _draw(1), 60 * signs, 1000 * signs)  # the last ones saturate, or overflow
    return tuple(Sample((x,)) for x in inputs) + tuple(Sample((x,), options) for x in inputs if options)


def _along_dim() -> list[tuple[Tensor, int]]:
    others = ((_draw(4, 3), 0), (_draw(4, 3), -1), (_draw(2, 0), 1), (_draw(4, 1), 1))
    near_the_largest_float32 = (_draw(4, 3) + 80, 1)  # e⁸⁰
    return [*((x, 1 if x.dim() > 1 else 0) for x in _draw.inputs(large=20)), *others, near_the_largest_float32]


_LIST = BadCall(([1.0],), TypeError, "'input'")
_COMPLEX = BadCall((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "'input' .* torch.complex64")
_BAD_CALLS = (_LIST, BadCall((torch.arange(3),), NotImplementedError, "'input' .* torch.int64"), _COMPLEX)
_BAD_CALLS_ALONG_DIM = (
    BadCall((_draw(2, 3), 2), IndexError, "dim 2"),
    BadCall((torch.ones(2, 3, dtype=torch.int64), 1), NotImplementedError, "'input' .* torch.int64"),
    BadCall((torch.ones(2, 3, dtype=torch.complex64), 1), NotImplementedError, "'input' .* torch.complex64"),
)
_BOOLEAN = BadCall((torch.tensor([True]),), RuntimeError, "'input'")
_UNKNOWN_FORM = BadCall((_draw(3),), RuntimeError, "approximate", {"approximate": "erf"})

ENTRIES = (
    entry("sigmoid", "∂C/∂x = g · y (1 − y)", _samples(), reference=torch.sigmoid),
    entry("tanh", "∂C/∂x = g · (1 − y²)", _samples(), reference=torch.tanh),
    entry("relu", "∂C/∂x = g where x > 0, else 0", _samples(), _LIST, _BOOLEAN, _COMPLEX, kinks=(Kink((0,), 0),)),
    entry(
        "leaky_relu",
        "∂C/∂x = g where x > 0, else s g",
        _samples(negative_slope=0.3),
        *_BAD_CALLS,
        kinks=(Kink((0,), 0.01),),
    ),
    entry(
        "elu",
        "∂C/∂x = g where x > 0, else g · α eˣ",
        _samples(alpha=0.5),
        *_BAD_CALLS,
        kinks=(Kink((0,), 0.5, {"alpha": 0.5}),),
    ),
    entry("softplus", "∂C/∂x = g · σ(βx), or g beyond the threshold", _samples(beta=2.0, threshold=5.0), *_BAD_CALLS),
    entry("silu", "∂C/∂x = g · σ(x) (1 + x (1 − σ(x)))", _samples(), *_BAD_CALLS),
    entry(
        "gelu",
        "∂C/∂x = g · (Φ(x) + x φ(x)); the tanh form has its own",
        _samples(approximate="tanh"),
        *_BAD_CALLS,
        _UNKNOWN_FORM,
    ),
    entry("softmax", "∂C/∂xᵢ = yᵢ (gᵢ − Σⱼ gⱼ yⱼ)", _along_dim(), *_BAD_CALLS_ALONG_DIM),
    entry("log_softmax", "∂C/∂xᵢ = gᵢ − e^(yᵢ) Σⱼ gⱼ", _along_dim(), *_BAD_CALLS_ALONG_DIM),
)
