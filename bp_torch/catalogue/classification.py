"""Costs of choosing one class."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.catalogue.entry import BadCall, Entry, Numbers, Sample, reduced

_draw = Numbers(5)


def _index_samples() -> tuple[Sample, ...]:
    """Class indices in every shape torch takes, with and without weights and ignored examples."""
    return reduced([*_weights_and_ignored(), *_shapes_and_sizes()], fully=5)


def _smoothed_samples(label_smoothing: float) -> tuple[Sample, ...]:
    """The same of smoothed labels: every reduction where weights meet ignored examples, or nothing is left to average.

    The others with one each: labels are smoothed in the same way whatever is then done with the costs.
    """
    options = {"label_smoothing": label_smoothing}
    plain, weighted, ignoring, both, nothing_left = _weights_and_ignored(**options)
    others = _shapes_and_sizes(**options)
    return reduced([both, nothing_left, plain, weighted, ignoring, *others], fully=2)


def _weights_and_ignored(**options: Any) -> tuple[Sample, ...]:
    ignored = torch.tensor([0, -100, 2, 1])
    return (
        Sample((_draw(4, 3), _draw.classes(4, below=3)), options),
        Sample((_draw(4, 3), _draw.classes(4, below=3)), {"weight": _draw(3).exp(), **options}),
        Sample((_draw(4, 3), ignored), options),
        Sample((_draw(4, 3), ignored), {"weight": _draw(3).exp(), **options}),
        Sample((_draw(2, 3), torch.tensor([-100, -100])), options),  # nothing left to average
    )


def _shapes_and_sizes(**options: Any) -> tuple[Sample, ...]:
    return (
        Sample((_draw(4, 3), torch.tensor([1, 1, 2, 0])), {"ignore_index": 1, **options}),
        Sample((_draw(3), torch.tensor(2)), options),
        Sample((_draw(2, 3, 4), _draw.classes(2, 4, below=3)), options),
        Sample((_draw(2, 3, 2, 2), _draw.classes(2, 2, 2, below=3)), options),
        Sample((_draw(1, 1), torch.tensor([0])), options),
        Sample((_draw(0, 3), torch.zeros(0, dtype=torch.int64)), options),
        Sample((_draw(3, 4).t(), _draw.classes(4, below=3)), options),
        Sample((_draw(1, 3).expand(4, 3), _draw.classes(4, below=3)), options),
        Sample((_draw(4, 3, scale=1e-3), _draw.classes(4, below=3)), options),
        Sample((_draw(4, 3, scale=30), _draw.classes(4, below=3)), options),
        Sample((_draw(4, 3), _draw.classes(4, below=3).to(torch.uint8)), options),
    )


def _probability_samples() -> tuple[Sample, ...]:
    calls = (
        Sample((_draw(4, 3), _draw.probabilities(4, 3))),
        Sample((_draw(4, 3), _draw.probabilities(4, 3)), {"weight": _draw(3).exp(), "label_smoothing": 0.2}),
        Sample((_draw(3), _draw.probabilities(3, dim=0))),
        Sample((_draw(2, 3, 2), _draw.probabilities(2, 3, 2))),
        Sample((_draw(4, 3), _draw(4, 3))),  # torch does not ask that they sum to 1
    )
    return reduced(calls, fully=2)


def _bad_calls() -> tuple[BadCall, ...]:
    logits = _draw(2, 3)
    return (
        BadCall((logits, torch.tensor([0, 3])), IndexError, "Target 3 is out of bounds"),
        BadCall((logits, torch.tensor([0, -1])), IndexError, "Target -1 is out of bounds"),
        BadCall((logits, torch.tensor([0, 1, 2])), ValueError, r"batch_size \(2\)"),
        BadCall((logits, torch.tensor([0.0, 1.0])), RuntimeError, "target .* torch.float32"),
        BadCall((_draw(2, 3, 4), torch.zeros(2, 5).long()), RuntimeError, "size mismatch"),
        BadCall((logits, torch.tensor([0, 1])), RuntimeError, r"weight \(4,\)", {"weight": _draw(4)}),
        BadCall((logits, torch.tensor([0, 1])), TypeError, "'weight'", {"weight": [1.0, 1.0, 1.0]}),
        BadCall((logits, torch.tensor([0, 1])), RuntimeError, r"weight is torch\.float32", {"weight": torch.ones(3)}),
        BadCall((logits, torch.tensor([0, 1])), ValueError, "reduction", {"reduction": "average"}),
        BadCall((torch.ones(2, 3).long(), torch.tensor([0, 1])), NotImplementedError, "'input'"),
    )


def _entry(
    name: str, reference: Callable[..., Tensor], backward: str, samples: tuple[Sample, ...], *bad_calls: BadCall
) -> Entry:
    return Entry(name, getattr(functional, name), reference, backward, samples, (*_bad_calls(), *bad_calls))


ENTRIES = (
    _entry("nll_loss", torch.nn.functional.nll_loss, "∂C/∂xᵢ = −g onehot(t) / N", _index_samples()),
    _entry(
        "cross_entropy",
        torch.nn.functional.cross_entropy,
        "∂C/∂x = g · (softmax(x) − target) / N",
        _index_samples() + _smoothed_samples(0.1) + _probability_samples(),
        BadCall((_draw(2, 3), torch.tensor([0, 1])), RuntimeError, "label_smoothing", {"label_smoothing": 2.0}),
        BadCall((_draw(2, 3), _draw(2, 3)), RuntimeError, "ignore_index", {"ignore_index": 1}),
    ),
)
