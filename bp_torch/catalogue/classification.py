"""Costs of choosing one class."""

from typing import Any

import torch

from bp_torch.catalogue.entry import BadCall, Numbers, Sample, entry, reduced

_draw = Numbers(5)


def _index_samples(*, fully: int, **options: Any) -> tuple[Sample, ...]:
    """Class indices in every shape torch takes, with and without weights and ignored examples."""
    ignored = torch.tensor([0, -100, 2, 1])
    calls = (
        Sample((_draw(4, 3), ignored), {"weight": _draw(3).exp()}),
        Sample((_draw(2, 3), torch.tensor([-100, -100]))),  # nothing left to average
        Sample((_draw(4, 3), _draw.classes(4, below=3))),
        Sample((_draw(4, 3), _draw.classes(4, below=3)), {"weight": _draw(3).exp()}),
        Sample((_draw(4, 3), ignored)),
        Sample((_draw(4, 3), torch.tensor([1, 1, 2, 0])), {"ignore_index": 1}),
        Sample((_draw(3), torch.tensor(2))),
        Sample((_draw(4, 3), _draw.classes(4, below=3).to(torch.uint8))),
    )
    inputs = [input for input in _draw.inputs(large=30) if input.dim() > 1]
    shapes = [Sample((x, _draw.classes(len(x), *x.shape[2:], below=x.shape[1]))) for x in inputs]
    return reduced([*calls, *shapes], fully=fully, **options)


def _probability_samples() -> tuple[Sample, ...]:
    calls = (
        Sample((_draw(4, 3), _draw.probabilities(4, 3))),
        Sample((_draw(4, 3), _draw.probabilities(4, 3)), {"weight": _draw(3).exp(), "label_smoothing": 0.2}),
        Sample((_draw(3), _draw.probabilities(3, dim=0))),
        Sample((_draw(2, 3, 2), _draw.probabilities(2, 3, 2))),
        Sample((_draw(4, 3), _draw(4, 3))),  # torch does not ask that they sum to 1
    )
    return reduced(calls, fully=2)


_logits, _classes = _draw(2, 3), torch.tensor([0, 1])
_BAD_CALLS = (
    BadCall((_logits, torch.tensor([0, 3])), IndexError, "Target 3 is out of bounds"),
    BadCall((_logits, torch.tensor([0, -1])), IndexError, "Target -1 is out of bounds"),
    BadCall((_logits, torch.tensor([0, 1, 2])), ValueError, r"batch_size \(2\)"),
    BadCall((_logits, torch.tensor([0.0, 1.0])), RuntimeError, "target .* torch.float32"),
    BadCall((_draw(2, 3, 4), torch.zeros(2, 5).long()), RuntimeError, "size mismatch"),
    BadCall((_logits, _classes), RuntimeError, r"weight \(4,\)", {"weight": _draw(4)}),
    BadCall((_logits, _classes), TypeError, "'weight'", {"weight": [1.0, 1.0, 1.0]}),
    BadCall((_logits, _classes), RuntimeError, r"weight is torch\.float32", {"weight": torch.ones(3)}),
    BadCall((_logits, _classes), ValueError, "reduction", {"reduction": "average"}),
    BadCall((torch.ones(2, 3).long(), _classes), NotImplementedError, "'input'"),
)

ENTRIES = (
    entry("nll_loss", "∂C/∂xᵢ = −g onehot(t) / N", _index_samples(fully=5), *_BAD_CALLS),
    entry(
        "cross_entropy",
        "∂C/∂x = g · (softmax(x) − target) / N",
        # Labels are smoothed in the same way whatever is then done with the costs.
        _index_samples(fully=5) + _index_samples(fully=2, label_smoothing=0.1) + _probability_samples(),
        *_BAD_CALLS,
        BadCall((_logits, _classes), RuntimeError, "label_smoothing", {"label_smoothing": 2.0}),
        BadCall((_logits, _logits), RuntimeError, "ignore_index", {"ignore_index": 1}),
    ),
)
