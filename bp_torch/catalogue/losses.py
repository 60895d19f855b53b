"""Entries of the losses of outputs against targets."""

import math

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import (
    ErrorInput,
    Interval,
    Kink,
    RandomTensors,
    by_autograd,
    op_info,
    with_reductions,
)
from bp_torch.sample import Sample

_draw = RandomTensors(4)


def builtin_squared_error(input: Tensor, target: Tensor) -> Tensor:
    """The lecture's cost in PyTorch's own operations, in their fastest form."""
    total = torch.nn.functional.mse_loss(input, target, reduction="sum")
    return total / math.prod(input.shape[:-1])


def _binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """The divisors of PyTorch's second derivative have 10⁻¹² added."""
    losses = -target * torch.log(input) - (1 - target) * torch.log1p(-input)
    losses = losses if weight is None else losses * weight
    return losses if reduction == "none" else getattr(losses, reduction)()


def _probability(x: Tensor) -> Tensor:
    """Map all numbers into (0.05, 0.95), where no logarithm and no gradient is limited."""
    return 0.05 + 0.9 * torch.sigmoid(x)


def _pairs() -> list[tuple[Tensor, Tensor]]:
    return [(input, _draw(*input.shape)) for input in _draw.inputs(large=30)]


def _samples() -> tuple[Sample, ...]:
    return with_reductions(map(Sample, (*_pairs(), (_draw(4, 3), _draw(3)))), exhaustive=2)


def _smooth_l1_samples(beta: float) -> tuple[Sample, ...]:
    """Samples of the layouts and magnitudes; β does not interact with the shape."""
    pairs = _pairs()
    pairs = [pairs[0], *pairs[-4:], (_draw(4, 3), _draw(3))]
    return with_reductions(map(Sample, pairs), exhaustive=1, beta=beta)


def _bce_samples() -> tuple[Sample, ...]:
    pairs = [(input, _draw(*input.shape).sigmoid()) for input in _draw.inputs(large=40)]
    weighted = Sample(pairs[0], {"weight": _draw(3).exp(), "pos_weight": _draw(3).exp()})
    certain = Sample((_draw(4, 3), _draw(4, 3).gt(0).double()))
    return with_reductions([Sample(pairs[0]), weighted, *map(Sample, pairs[1:]), certain], exhaustive=3)


_weighted = with_reductions([Sample((_draw(4, 3), _draw(4, 3)), {"weight": _draw(4, 3).exp()})], exhaustive=1)
_pair = (_draw(2, 3), _draw(2, 3))
_REDUCTION = ErrorInput(_pair, ValueError, "reduction", {"reduction": "average"})
_COMPLEX = ErrorInput((_draw(2), torch.zeros(2, dtype=torch.complex128)), NotImplementedError, "complex")
_INTEGERS = ErrorInput((torch.ones(2, 3).long(), torch.ones(2, 3).long()), NotImplementedError, "'input'")

OP_INFOS = (
    op_info(
        "squared_error",
        "∂C/∂y = g · 2 (y − t) / N",
        [pair for pair in _pairs() if pair[0].dim()],
        _INTEGERS,
        reference=builtin_squared_error,
    ),
    op_info(
        "mse_loss",
        "∂C/∂x = g · 2 (x − t); for the mean divided by n",
        _samples() + _weighted,
        _REDUCTION,
        _INTEGERS,
        _COMPLEX,
    ),
    op_info("l1_loss", "∂C/∂x = g · sign(x − t)", _samples(), _REDUCTION, kinks=(Kink((2, 2), 0),)),
    op_info(
        "smooth_l1_loss",
        "∂C/∂x = g · d/β where |d| < β, else g · sign(d)",
        _samples() + _smooth_l1_samples(0.3) + _smooth_l1_samples(0.0),
        _REDUCTION,
        _INTEGERS,
        ErrorInput(_pair, RuntimeError, "beta", {"beta": -1.0}),
        kinks=(Kink((2, 2), 0, {"beta": 0.0}),),
    ),
    op_info(
        "huber_loss",
        "∂C/∂x = g · d, clamped to [−δ, δ]",
        (
            Sample((_draw(4, 3), _draw(4, 3)), {"reduction": "mean", "delta": 0.7, "weight": _draw(4, 3).exp()}),
            Sample((_draw(4, 3), _draw(3)), {"reduction": "none", "delta": 2.0}, axes="batch channels, channels"),
            Sample((_draw(5), _draw(5)), {"reduction": "sum", "delta": 0.7}),
        ),
        _REDUCTION,
        _INTEGERS,
        ErrorInput(_pair, RuntimeError, "delta", {"delta": 0.0}),
        ErrorInput(_pair, ValueError, r"weight \(3,\)", {"weight": _draw(3)}),
    ),
    op_info(
        "binary_cross_entropy",
        "∂C/∂x = g · (x − t) / (x (1 − x))",
        (
            Sample((_draw(4, 3).sigmoid(), _draw(4, 3).sigmoid()), {"weight": _draw(3).exp()}, constraint=_probability),
            Sample(
                (_draw(2, 3, 2).sigmoid(), _draw(2, 3, 2).sigmoid()), {"reduction": "none"}, constraint=_probability
            ),
            Sample((_draw(5).sigmoid(), _draw(5).sigmoid()), {"reduction": "sum"}, constraint=_probability),
        ),
        ErrorInput((torch.ones(2), torch.ones(2)), ValueError, "reduction", {"reduction": "average"}),
        _INTEGERS,
        ErrorInput((torch.ones(2, 3), torch.ones(3)), ValueError, r"target \(3,\)"),
        ErrorInput((torch.full((2,), 1.5), torch.ones(2)), RuntimeError, "between 0 and 1"),
        ErrorInput((torch.ones(2), torch.ones(2).double()), RuntimeError, "target is torch.float64"),
        ErrorInput((torch.ones(2), torch.ones(2)), RuntimeError, r"weight \(3,\)", {"weight": torch.ones(3)}),
        reference=by_autograd(torch.nn.functional.binary_cross_entropy, _binary_cross_entropy),
    ),
    op_info(
        "binary_cross_entropy_with_logits",
        "∂C/∂x = g · (σ(x) − t)",
        _bce_samples(),
        _REDUCTION,
        _INTEGERS,
        ErrorInput((_draw(2, 3), _draw(3)), ValueError, r"target \(3,\)"),
        ErrorInput(_pair, RuntimeError, r"weight \(4, 2, 3\)", {"weight": _draw(4, 2, 3)}),
        ErrorInput(_pair, TypeError, "'weight'", {"weight": 2.0}),
        ErrorInput(_pair, TypeError, "'pos_weight'", {"pos_weight": [1.0]}),
        domain=(Interval(), Interval(0, 1)),
    ),
)
