"""Entries of the classification losses."""

from typing import Any

import torch

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info, with_reductions
from bp_torch.sample import Sample

_draw = RandomTensors(5)


def _index_samples(*, exhaustive: int, **options: Any) -> tuple[Sample, ...]:
    """Class indices of every supported shape, with and without weights and ignored examples."""
    ignored = torch.tensor([0, -100, 2, 1])
    calls = (
        Sample((_draw(4, 3), ignored), {"weight": _draw(3).exp()}),
        Sample((_draw(2, 3), torch.tensor([-100, -100]))),  # every example ignored
        Sample((_draw(4, 3), _draw.classes(4, below=3))),
        Sample((_draw(4, 3), _draw.classes(4, below=3)), {"weight": _draw(3).exp()}),
        Sample((_draw(4, 3), ignored)),
        Sample((_draw(4, 3), torch.tensor([1, 1, 2, 0])), {"ignore_index": 1}),
        Sample((_draw(3), torch.tensor(2))),
        Sample((_draw(4, 3), _draw.classes(4, below=3).to(torch.uint8))),
    )
    inputs = [input for input in _draw.inputs(large=30) if input.dim() > 1]
    shapes = [Sample((x, _draw.classes(len(x), *x.shape[2:], below=x.shape[1]))) for x in inputs]
    return with_reductions([*calls, *shapes], exhaustive=exhaustive, **options)


def _probability_samples() -> tuple[Sample, ...]:
    calls = (
        Sample((_draw(4, 3), _draw.probabilities(4, 3))),
        Sample((_draw(4, 3), _draw.probabilities(4, 3)), {"weight": _draw(3).exp(), "label_smoothing": 0.2}),
        Sample((_draw(3), _draw.probabilities(3, dim=0))),
        Sample((_draw(2, 3, 2), _draw.probabilities(2, 3, 2))),
        Sample((_draw(4, 3), _draw(4, 3))),  # torch does not require that they sum to 1
    )
    return with_reductions(calls, exhaustive=2)


_logits, _classes = _draw(2, 3), torch.tensor([0, 1])
_ERROR_INPUTS = (
    ErrorInput((_logits, torch.tensor([0, 3])), IndexError, "Target 3 is out of bounds"),
    ErrorInput((_logits, torch.tensor([0, -1])), IndexError, "Target -1 is out of bounds"),
    ErrorInput((_logits, torch.tensor([0, 1, 2])), ValueError, r"batch_size \(2\)"),
    ErrorInput((_logits, torch.tensor([0.0, 1.0])), RuntimeError, "target .* torch.float32"),
    ErrorInput((_draw(2, 3, 4), torch.zeros(2, 5).long()), RuntimeError, "size mismatch"),
    ErrorInput((_logits, _classes), RuntimeError, r"weight \(4,\)", {"weight": _draw(4)}),
    ErrorInput((_logits, _classes), TypeError, "'weight'", {"weight": [1.0, 1.0, 1.0]}),
    ErrorInput((_logits, _classes), RuntimeError, r"weight is torch\.float32", {"weight": torch.ones(3)}),
    ErrorInput((_logits, _classes), ValueError, "reduction", {"reduction": "average"}),
    ErrorInput((torch.ones(2, 3).long(), _classes), NotImplementedError, "'input'"),
)

OP_INFOS = (
    op_info("nll_loss", "∂C/∂xᵢ = −g onehot(t) / N", _index_samples(exhaustive=5), *_ERROR_INPUTS),
    op_info(
        "cross_entropy",
        "∂C/∂x = g · (softmax(x) − target) / N",
        # smoothing does not depend on the reduction, so few samples are exhaustive
        _index_samples(exhaustive=5) + _index_samples(exhaustive=2, label_smoothing=0.1) + _probability_samples(),
        *_ERROR_INPUTS,
        ErrorInput((_logits, _classes), RuntimeError, "label_smoothing", {"label_smoothing": 2.0}),
        ErrorInput((_logits, _logits), RuntimeError, "ignore_index", {"ignore_index": 1}),
    ),
)
