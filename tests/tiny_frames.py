"""Frames of a small network with random numbers, for tests that do not compute with them."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bp_torch.inspection import LayerState
from bp_torch.training.logging.events import FrameEvent, NetworkEvent

SIZES, PROBES, EXAMPLES = (6, 4, 3), 2, 5


def pixels(examples: int, size: int) -> Tensor:
    """From 0 to 1 in steps of 1/255."""
    shades = torch.randint(256, (examples, size))
    shades[0, 0], shades[-1, -1] = 0, 255
    return shades / 255


def names(sizes: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{2 * place}.weight", f"{2 * place}.bias") for place in range(len(sizes) - 1))


def tiny_network(sizes: tuple[int, ...] = SIZES, **changes: Any) -> NetworkEvent:
    usual = {
        "step": 0, "steps": 700, "cost": "squared_error", "sizes": sizes, "names": names(sizes),
        "functions": ("sigmoid",) * (len(sizes) - 1), "inputs": pixels(PROBES, sizes[0]),
        "labels": torch.tensor([7, 8]), "refusal": None,
    }  # fmt: skip
    return NetworkEvent(**usual | changes)  # type: ignore[arg-type]


def tiny_frame(step: int, sizes: tuple[int, ...] = SIZES, examples: int = EXAMPLES, **changes: Any) -> FrameEvent:
    shapes = {name: (out, inputs) for (name, _), (inputs, out) in zip(names(sizes), pairwise(sizes), strict=True)}
    shapes |= {name: (out,) for (_, name), out in zip(names(sizes), sizes[1:], strict=True)}
    usual = {
        "step": step, "learning_rate": 0.5, "gradients": {name: torch.randn(shape) for name, shape in shapes.items()},
        "inputs": pixels(examples, sizes[0]), "labels": torch.arange(examples) % 3,
        "costs": torch.rand(PROBES + examples), "comparisons": (),
        "layers": tuple(layer(both, shapes, PROBES + examples) for both in names(sizes)),
    }  # fmt: skip
    return FrameEvent(**usual | changes)  # type: ignore[arg-type]


def layer(both: tuple[str, str], shapes: dict[str, tuple[int, ...]], examples: int) -> LayerState:
    weight, bias = (torch.randn(shapes[name]) for name in both)
    activations, slopes, nudges = torch.randn(3, examples, len(bias))
    return LayerState(both, weight, bias, "sigmoid", activations, slopes, nudges)
