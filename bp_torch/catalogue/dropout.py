"""Entries of dropout."""

import torch

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(19)


def _samples(*shapes: tuple[int, ...], axes: tuple[str, ...], training: bool = False) -> tuple[Sample, ...]:
    """Inputs in training, then the first without training and with the smallest and the largest p."""
    options = {"training": True} if training else {}
    calls = [*zip(shapes, axes, strict=True)]
    random = [
        Sample((_draw(*shape),), {**options, "p": p}, axes=names, seed=seed)
        for seed, ((shape, names), p) in enumerate(zip(calls, (0.5, 0.3, 0.8), strict=False))
    ]
    special = ({"training": False}, {**options, "p": 0.0}, {**options, "p": 1.0})
    shape, names = calls[0]
    return (*random, *(Sample((_draw(*shape),), each, axes=names) for each in special))


_BACKWARD = "∂C/∂x = g m, where m = 0 with probability p, else 1 / (1 − p)"
_OF_CHANNELS = f"{_BACKWARD}, for whole channels"
_ALPHA = "∂C/∂x = g m, where m = 0 with probability p, else a"
_TOO_LARGE = ErrorInput((_draw(2, 3), 1.5), ValueError, "but got 1.5")
_NEGATIVE = ErrorInput((_draw(2, 3), -0.5), ValueError, "but got -0.5")
_INTEGERS = ErrorInput((torch.ones(2, 3, dtype=torch.int64), 0.5, True), RuntimeError, "Long")
_COMPLEX = ErrorInput((torch.zeros(3, dtype=torch.complex64), 0.5, True), NotImplementedError, "complex64")

OP_INFOS = (
    op_info(
        "dropout",
        _BACKWARD,
        _samples((4, 3), (2, 3, 2), (6,), axes=("rows columns", "a b c", "length")),
        _TOO_LARGE,
        _NEGATIVE,
        _INTEGERS,
        _COMPLEX,
        rejects_lists=True,
    ),
    op_info(
        "dropout1d",
        _OF_CHANNELS,
        _samples((4, 3), (2, 3, 4), axes=("channels length", "batch channels length")),
        _TOO_LARGE,
        ErrorInput((_draw(3),), RuntimeError, r"\(3,\)"),
        ErrorInput((_draw(1, 2, 3, 4), 0.5, False), RuntimeError, r"\(1, 2, 3, 4\)"),
    ),
    op_info(
        "dropout2d",
        _OF_CHANNELS,
        _samples((2, 3, 2, 2), (1, 4, 2, 3), axes=("batch channels height width",) * 2),
        ErrorInput((_draw(2, 3, 1, 1), 1.5), ValueError, "but got 1.5"),
    ),
    op_info(
        "dropout3d",
        _OF_CHANNELS,
        _samples(
            (3, 2, 2, 2), (2, 3, 2, 1, 2), axes=("channels depth height width", "batch channels depth height width")
        ),
        ErrorInput((_draw(2, 3, 1, 1), 1.5), ValueError, "but got 1.5"),
    ),
    op_info(
        "alpha_dropout",
        _ALPHA,
        _samples((4, 3), (2, 3, 2), (6,), axes=("rows columns", "a b c", "length"), training=True),
        _TOO_LARGE,
        _INTEGERS,
        _COMPLEX,
    ),
    op_info(
        "feature_alpha_dropout",
        f"{_ALPHA}, for whole channels",
        _samples((4, 3), (2, 3, 2), axes=("batch channels", "batch channels length"), training=True),
        _TOO_LARGE,
        ErrorInput((_draw(3), 0.5, True), RuntimeError, "at least 2"),
    ),
)
