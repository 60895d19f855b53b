"""Functions that move values: shapes, pieces, joins, dtypes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.catalogue.entry import BadCall, Entry, Numbers, Sample

_draw = Numbers(8)


def _entry(
    name: str, backward: str, *calls: tuple[Any, ...], bad: BadCall, reference: Callable[..., Any] | None = None
) -> Entry:
    """Of calls of a matrix and constants, first of an ordinary one; further shapes and layouts come with the checks."""
    function = getattr(functional, name)
    not_a_tensor = () if name == "split" else (BadCall(([1.0], *calls[0][1:]), TypeError, ""),)
    samples = tuple(Sample(call) for call in calls)
    return Entry(name, function, reference or getattr(torch, name), backward, samples, (*not_a_tensor, bad))


def _unpacked(join: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`cat` or `stack` of Tensors that are arguments of their own."""

    def call(*tensors: Tensor, dim: int = 0) -> Tensor:
        return join(tensors, dim)

    return call


def _joining(name: str, *shapes: tuple[int, ...], bad: BadCall) -> Entry:
    """Of three Tensors along each axis, and of an empty and a transposed one."""
    pairs = [tuple(_draw(*shape) for shape in shapes) for _ in range(2)]
    samples = (
        Sample(pairs[0]),
        Sample(pairs[1], {"dim": -1 if name == "stack" else -2}),
        Sample((_draw(2, 3), _draw(3, 2).t()), {"dim": 1}),
        Sample((_draw(2, 0), _draw(2, 0)), {"dim": 1}),
        Sample((_draw(2),)),
    )
    function, reference = _unpacked(getattr(functional, name)), _unpacked(getattr(torch, name))
    return Entry(name, function, reference, "∂C/∂xᵢ = xᵢ's piece of g", samples, (bad,))


_index = torch.tensor([1, 0, 1, 1])
_SAME = "∂C/∂x = g in the shape of x"
_OUTSIDE = "out of range"

ENTRIES = (
    _entry(
        "reshape",
        _SAME,
        (_draw(2, 6), (-1, 2)),
        (_draw(6, 2).t(), (-1,)),
        (_draw(1, 3).expand(2, 3), (1, 2, -1)),
        (_draw(), (1, 1)),
        (_draw(0, 3), (3, 0)),
        bad=BadCall((_draw(2, 3), (4, 2)), RuntimeError, r"\[4, 2\]"),
    ),
    _entry(
        "flatten",
        _SAME,
        (_draw(2, 3),),
        (_draw(2, 3, 2, 1), 1),
        (_draw(2, 2, 3).transpose(1, 2), 0, 1),
        (_draw(3),),
        (_draw(),),
        (_draw(0, 2, 3), 1),
        bad=BadCall((_draw(2, 3), 2), IndexError, _OUTSIDE),
    ),
    _entry(
        "unflatten",
        _SAME,
        (_draw(3, 4), 1, (2, -1)),
        (_draw(4, 3), 0, (-1, 2)),
        (_draw(6), -1, (1, -1)),
        bad=BadCall((_draw(3, 4), 1, (3, 2)), RuntimeError, r"\[3, 2\]"),
    ),
    _entry(
        "squeeze",
        _SAME,
        (_draw(1, 3),),
        (_draw(2, 1, 3, 1), (1, -1)),
        (_draw(2, 1), 0),
        (_draw(3, 1).t(), 0),
        (_draw(1, 0), 0),
        bad=BadCall((_draw(1, 3), 2), IndexError, _OUTSIDE),
    ),
    _entry(
        "unsqueeze",
        _SAME,
        (_draw(2, 3), 1),
        (_draw(3, 2).t(), -1),
        (_draw(), 0),
        (_draw(0, 3), 0),
        (_draw(3), 0),
        bad=BadCall((_draw(2, 3), 3), IndexError, _OUTSIDE),
    ),
    _entry(
        "transpose",
        "∂C/∂x = g, its axes swapped back",
        (_draw(2, 3), 0, 1),
        (_draw(3, 2).t(), 0, -1),
        (_draw(2, 3, 2, 1), -2, 1),
        (_draw(0, 3), 0, 1),
        bad=BadCall((_draw(2, 3), 0, 2), IndexError, _OUTSIDE),
    ),
    _entry(
        "t",
        "∂C/∂x = gᵀ",
        (_draw(2, 3),),
        (_draw(1, 3).expand(2, 3),),
        (_draw(3),),
        (_draw(),),
        bad=BadCall((_draw(2, 3, 4),), RuntimeError, r"\(2, 3, 4\)"),
    ),
    _entry(
        "permute",
        "∂C/∂x = g by the inverse permutation",
        (_draw(2, 3), (1, 0)),
        (_draw(2, 3, 4), (2, 0, 1)),
        (_draw(2, 1, 3, 2), (-1, 0, 2, 1)),
        (_draw(0, 3), (1, 0)),
        bad=BadCall((_draw(2, 3), (0, 0)), RuntimeError, "permute"),
    ),
    _entry(
        "movedim",
        "∂C/∂x = g, its axes moved back",
        (_draw(2, 3), 0, 1),
        (_draw(2, 3, 4), 0, -1),
        (_draw(2, 1, 3, 2), (0, 1), (2, 0)),
        (_draw(0, 3), 1, 0),
        bad=BadCall((_draw(2, 3), 2, 0), IndexError, _OUTSIDE),
    ),
    _entry(
        "expand",
        "∂C/∂x = Σ g over the copies",
        (_draw(2, 1), (3, -1, -1)),
        (_draw(1, 3), (2, 3)),
        (_draw(3), (2, 2, -1)),
        (_draw(), (2,)),
        (_draw(1, 3), (0, 3)),
        (_draw(2, 3), (-1, -1)),
        bad=BadCall((_draw(2, 3), (4, 3)), RuntimeError, "expanded size"),
        reference=torch.Tensor.expand,
    ),
    _entry(
        "narrow",
        "∂C/∂x = g in the places taken, else 0",
        (_draw(4, 3), 0, 1, 2),
        (_draw(3, 4).t(), -2, -2, 2),
        (_draw(5), 0, 2, 0),
        (_draw(2, 3), 1, 0, 3),
        bad=BadCall((_draw(2, 3), 1, 2, 2), RuntimeError, "length"),
    ),
    _entry(
        "split",
        "∂C/∂x = the pieces' g, side by side",
        (_draw(5, 2), 2),
        (_draw(2, 5), (1, 4), 1),
        (_draw(2, 3), 7, -1),
        bad=BadCall((_draw(2, 3), (1, 1), 1), RuntimeError, "split"),
    ),
    _entry(
        "chunk",
        "∂C/∂x = the pieces' g, side by side",
        (_draw(5, 2), 2),
        (_draw(2, 3), 3, 1),
        (_draw(2, 2), 7),
        bad=BadCall((_draw(2, 3), 0), RuntimeError, "chunks"),
    ),
    _entry(
        "getitem",
        "∂C/∂x = Σ g over the times a place was taken, else 0",
        (_draw(3, 2), _index),
        (_draw(3, 4), (slice(None), slice(0, 3, 2))),
        (_draw(3, 2), 1),
        (_draw(2, 3).t(), (Ellipsis, None, -1)),
        (_draw(2, 2), torch.tensor([[True, False], [True, True]])),
        (_draw(2, 3, 2), (_index, slice(1, None), torch.tensor([[0], [1]]))),
        (_draw(2, 3), (slice(None), [2, 0])),
        (_draw(3, 2), torch.zeros(0, dtype=torch.int64)),
        bad=BadCall((_draw(2, 3), (0, 3)), IndexError, "index 3"),
        reference=lambda input, index: input[index],
    ),
    _joining("cat", (2, 3), (1, 3), (3, 3), bad=BadCall((_draw(2, 3), _draw(2, 2)), RuntimeError, "Sizes")),
    _joining("stack", (2, 3), (2, 3), (2, 3), bad=BadCall((_draw(2, 3), _draw(2, 2)), RuntimeError, "size")),
    _entry(
        "to",
        "∂C/∂x = g in the dtype of x",
        (_draw(2, 3), torch.float64),
        (_draw(3, 2).t(), torch.float64),
        (_draw(), torch.float64),
        bad=BadCall((_draw(2, 3), "float16"), RuntimeError, "float16"),
        reference=torch.Tensor.to,
    ),
    _entry(
        "clone",
        "∂C/∂x = g",
        (_draw(2, 3),),
        (_draw(3, 2).t(),),
        (_draw(1, 3).expand(2, 3),),
        (_draw(),),
        (_draw(0, 3),),
        bad=BadCall((1.0,), TypeError, "input"),
    ),
)
