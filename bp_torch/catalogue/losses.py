"""Costs of outputs against wanted outputs."""

import math

import torch
from torch import Tensor

from bp_torch.catalogue.entry import BadCall, Interval, Kink, Numbers, Sample, entry, reduced

_draw = Numbers(4)


def squared_error_of_builtins(input: Tensor, target: Tensor) -> Tensor:
    """The lecture's cost out of PyTorch's own: their fastest way to it."""
    total = torch.nn.functional.mse_loss(input, target, reduction="sum")
    return total / math.prod(input.shape[:-1])


def _pairs() -> list[tuple[Tensor, Tensor]]:
    return [(input, _draw(*input.shape)) for input in _draw.inputs(large=30)]


def _samples() -> tuple[Sample, ...]:
    return reduced(map(Sample, (*_pairs(), (_draw(4, 3), _draw(3)))), fully=2)


def _samples_of_beta(beta: float) -> tuple[Sample, ...]:
    """Where β may tell: in every reduction and layout, and for small and large distances; shapes are all one to it."""
    pairs = _pairs()
    chosen = (pairs[0], *pairs[-4:], (_draw(4, 3), _draw(3)))
    return reduced(map(Sample, chosen), fully=1, beta=beta)


def _binary_samples() -> tuple[Sample, ...]:
    pairs = [(input, _draw(*input.shape).sigmoid()) for input in _draw.inputs(large=40)]
    weighted = Sample(pairs[0], {"weight": _draw(3).exp(), "pos_weight": _draw(3).exp()})
    certain = Sample((_draw(4, 3), _draw(4, 3).gt(0).double()))
    return reduced([Sample(pairs[0]), weighted, *map(Sample, pairs[1:]), certain], fully=3)


_weighted = reduced([Sample((_draw(4, 3), _draw(4, 3)), {"weight": _draw(4, 3).exp()})], fully=1)
_two = (_draw(2, 3), _draw(2, 3))
_REDUCTION = BadCall(_two, ValueError, "reduction", {"reduction": "average"})
_COMPLEX = BadCall((_draw(2), torch.zeros(2, dtype=torch.complex128)), NotImplementedError, "complex")
_COUNTS = BadCall((torch.ones(2, 3).long(), torch.ones(2, 3).long()), NotImplementedError, "'input'")

ENTRIES = (
    entry(
        "squared_error",
        "∂C/∂y = g · 2 (y − t) / N",
        [pair for pair in _pairs() if pair[0].dim()],
        _COUNTS,
        reference=squared_error_of_builtins,
    ),
    entry(
        "mse_loss",
        "∂C/∂x = g · 2 (x − t), divided by how many for the mean",
        _samples() + _weighted,
        _REDUCTION,
        _COUNTS,
        _COMPLEX,
    ),
    entry("l1_loss", "∂C/∂x = g · sign(x − t)", _samples(), _REDUCTION, kinks=(Kink((2, 2), 0),)),
    entry(
        "smooth_l1_loss",
        "∂C/∂x = g · d/β where |d| < β, else g · sign(d)",
        _samples() + _samples_of_beta(0.3) + _samples_of_beta(0.0),
        _REDUCTION,
        _COUNTS,
        BadCall(_two, RuntimeError, "beta", {"beta": -1.0}),
        kinks=(Kink((2, 2), 0, {"beta": 0.0}),),
    ),
    entry(
        "binary_cross_entropy_with_logits",
        "∂C/∂x = g · (σ(x) − t)",
        _binary_samples(),
        _REDUCTION,
        _COUNTS,
        BadCall((_draw(2, 3), _draw(3)), ValueError, r"target \(3,\)"),
        BadCall(_two, RuntimeError, r"weight \(4, 2, 3\)", {"weight": _draw(4, 2, 3)}),
        BadCall(_two, TypeError, "'weight'", {"weight": 2.0}),
        BadCall(_two, TypeError, "'pos_weight'", {"pos_weight": [1.0]}),
        domain=(Interval(), Interval(0, 1)),
    ),
)
