"""Softmax and its logarithm."""

import torch
from torch import Tensor

from bp_torch.catalogue.entry import BadCall, Numbers, entry

_draw = Numbers(3)


def _calls() -> list[tuple[Tensor, int]]:
    others = ((_draw(4, 3), 0), (_draw(4, 3), -1), (_draw(2, 0), 1), (_draw(4, 1), 1))
    near_the_largest_float32 = (_draw(4, 3) + 80, 1)  # e⁸⁰
    return [*((x, 1 if x.dim() > 1 else 0) for x in _draw.inputs(large=20)), *others, near_the_largest_float32]


_BAD_CALLS = (
    BadCall((_draw(2, 3), 2), IndexError, "dim 2"),
    BadCall((torch.ones(2, 3, dtype=torch.int64), 1), NotImplementedError, "'input' .* torch.int64"),
    BadCall((torch.ones(2, 3, dtype=torch.complex64), 1), NotImplementedError, "'input' .* torch.complex64"),
)

ENTRIES = (
    entry("softmax", "∂C/∂xᵢ = yᵢ (gᵢ − Σⱼ gⱼ yⱼ)", _calls(), *_BAD_CALLS),
    entry("log_softmax", "∂C/∂xᵢ = gᵢ − e^(yᵢ) Σⱼ gⱼ", _calls(), *_BAD_CALLS),
)
