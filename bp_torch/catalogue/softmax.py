"""Softmax and its logarithm."""

from collections.abc import Callable

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.catalogue.entry import BadCall, Entry, Numbers, Sample

_draw = Numbers(3)


def _entry(name: str, reference: Callable[..., Tensor], backward: str) -> Entry:
    inputs_and_dims = (
        (_draw(), 0),
        (_draw(5), 0),
        (_draw(4, 3), 1),
        (_draw(4, 3), 0),
        (_draw(4, 3), -1),
        (_draw(2, 3, 4), 1),
        (_draw(2, 3, 2, 2), 1),
        (_draw(0, 3), 1),
        (_draw(2, 0), 1),
        (_draw(4, 1), 1),
        (_draw(3, 4).t(), 1),
        (_draw(1, 3).expand(4, 3), 1),
        (_draw(4, 3, scale=1e-4), 1),
        (_draw(4, 3, scale=20), 1),
        (_draw(4, 3) + 80, 1),  # e⁸⁰ is near the largest float32
    )
    return Entry(
        name=name,
        function=getattr(functional, name),
        reference=reference,
        backward=backward,
        samples=tuple(Sample((input, dim)) for input, dim in inputs_and_dims),
        bad_calls=(
            BadCall((_draw(2, 3), 2), IndexError, "dim 2"),
            BadCall((torch.ones(2, 3, dtype=torch.int64), 1), NotImplementedError, "'input' .* torch.int64"),
            BadCall((torch.ones(2, 3, dtype=torch.complex64), 1), NotImplementedError, "'input' .* torch.complex64"),
        ),
    )


ENTRIES = (
    _entry("softmax", torch.nn.functional.softmax, "∂C/∂xᵢ = yᵢ (gᵢ − Σⱼ gⱼ yⱼ)"),
    _entry("log_softmax", torch.nn.functional.log_softmax, "∂C/∂xᵢ = gᵢ − e^(yᵢ) Σⱼ gⱼ"),
)
