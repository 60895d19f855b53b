"""Costs of outputs against wanted outputs."""

import math

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.catalogue.entry import REAL, BadCall, Entry, Interval, Kink, Numbers, Sample, reduced

_draw = Numbers(4)


def squared_error_of_builtins(input: Tensor, target: Tensor) -> Tensor:
    """The lecture's cost out of PyTorch's own: their fastest way to it."""
    total = torch.nn.functional.mse_loss(input, target, reduction="sum")
    return total / math.prod(input.shape[:-1])


def _pairs() -> tuple[tuple[Tensor, Tensor], ...]:
    return (
        (_draw(4, 3), _draw(4, 3)),
        (_draw(5), _draw(5)),
        (_draw(2, 3, 4), _draw(2, 3, 4)),
        (_draw(2, 3, 2, 2), _draw(2, 3, 2, 2)),
        (_draw(1, 1), _draw(1, 1)),
        (_draw(3, 4).t(), _draw(4, 3)),
        (_draw(1, 3).expand(4, 3), _draw(4, 3)),
        (_draw(4, 3, scale=1e-3), _draw(4, 3, scale=1e-3)),
        (_draw(4, 3, scale=30), _draw(4, 3, scale=30)),
    )


def _samples() -> tuple[Sample, ...]:
    pairs = (*_pairs(), (_draw(0, 3), _draw(0, 3)), (_draw(), _draw()), (_draw(4, 3), _draw(3)))
    return reduced((Sample(pair) for pair in pairs), fully=2)


def _samples_of_beta(beta: float) -> tuple[Sample, ...]:
    """Where β may tell: in every reduction and layout, and for small and large distances; shapes are all one to it."""
    pairs = _pairs()
    chosen = (pairs[0], *pairs[5:], (_draw(4, 3), _draw(3)))
    return reduced((Sample(pair, {"beta": beta}) for pair in chosen), fully=1)


def _binary_samples() -> tuple[Sample, ...]:
    inputs = (
        _draw(4, 3),
        _draw(5),
        _draw(),
        _draw(2, 3, 4),
        _draw(2, 3, 2, 2),
        _draw(0, 3),
        _draw(3, 4).t(),
        _draw(1, 3).expand(4, 3),
        _draw(4, 3, scale=1e-3),
        _draw(4, scale=40),
    )
    pairs = [(input, _draw(*input.shape).sigmoid()) for input in inputs] + [(_draw(4, 3), _draw(4, 3).gt(0).double())]
    weighted = Sample(pairs[0], {"weight": _draw(3).exp(), "pos_weight": _draw(3).exp()})
    return reduced([Sample(pairs[0]), weighted, *(Sample(pair) for pair in pairs[1:])], fully=3)


_REDUCTION = BadCall((_draw(2, 3), _draw(2, 3)), ValueError, "reduction", {"reduction": "average"})
_COMPLEX = BadCall((_draw(2), torch.zeros(2, dtype=torch.complex128)), NotImplementedError, "complex")
_COUNTS = BadCall((torch.ones(2, 3).long(), torch.ones(2, 3).long()), NotImplementedError, "'input'")

ENTRIES = (
    Entry(
        "squared_error",
        functional.squared_error,
        squared_error_of_builtins,
        "∂C/∂y = g · 2 (y − t) / N",
        samples=tuple(Sample(pair) for pair in (*_pairs(), (_draw(0, 3), _draw(0, 3)))),
        bad_calls=(BadCall((_draw(2, 3).long(), _draw(2, 3).long()), NotImplementedError, "'input'"),),
    ),
    Entry(
        "mse_loss",
        functional.mse_loss,
        torch.nn.functional.mse_loss,
        "∂C/∂x = g · 2 (x − t), divided by how many for the mean",
        samples=(
            *_samples(),
            *reduced([Sample((_draw(4, 3), _draw(4, 3)), {"weight": _draw(4, 3).exp()})], fully=1),
        ),
        bad_calls=(_REDUCTION, _COUNTS, _COMPLEX),
    ),
    Entry(
        "l1_loss",
        functional.l1_loss,
        torch.nn.functional.l1_loss,
        "∂C/∂x = g · sign(x − t)",
        samples=_samples(),
        bad_calls=(_REDUCTION,),
        kinks=(Kink.at(2, target=2, slope=0),),
    ),
    Entry(
        "smooth_l1_loss",
        functional.smooth_l1_loss,
        torch.nn.functional.smooth_l1_loss,
        "∂C/∂x = g · d/β where |d| < β, else g · sign(d)",
        samples=(*_samples(), *_samples_of_beta(0.3), *_samples_of_beta(0.0)),
        bad_calls=(_REDUCTION, _COUNTS, BadCall((_draw(2), _draw(2)), RuntimeError, "beta", {"beta": -1.0})),
        kinks=(Kink.at(2, target=2, slope=0, beta=0.0),),
    ),
    Entry(
        "binary_cross_entropy_with_logits",
        functional.binary_cross_entropy_with_logits,
        torch.nn.functional.binary_cross_entropy_with_logits,
        "∂C/∂x = g · (σ(x) − t)",
        samples=_binary_samples(),
        domain=(REAL, Interval(0, 1)),
        bad_calls=(
            _REDUCTION,
            _COUNTS,
            BadCall((_draw(2, 3), _draw(3)), ValueError, r"target \(3,\)"),
            BadCall((_draw(2, 3), _draw(2, 3)), RuntimeError, r"weight \(4, 2, 3\)", {"weight": _draw(4, 2, 3)}),
            BadCall((_draw(2, 3), _draw(2, 3)), TypeError, "'weight'", {"weight": 2.0}),
            BadCall((_draw(2, 3), _draw(2, 3)), TypeError, "'pos_weight'", {"pos_weight": [1.0]}),
        ),
    ),
)
