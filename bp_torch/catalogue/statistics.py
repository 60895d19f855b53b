"""Entries of reductions and cumulative sums, and of maxima, sorting and the k largest values."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, Kink, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(32)
_op_info = partial(op_info, rejects_lists=True)
_x, _cube, _row, _number = _draw(3, 4), _draw(2, 3, 4), _draw(4), _draw()
_zeros = _draw(3, 4) * torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1]])  # rows with none, one and two

_COMPLEX = ErrorInput((torch.zeros(3, dtype=torch.complex64), 0), NotImplementedError, "complex64")
_INTEGERS = ErrorInput((torch.arange(3),), RuntimeError, "floating point")
_NO_SUCH_AXIS = ErrorInput((_x, 2), IndexError, "out of range")
_TIE = (Kink((1, 1), 0.5),)


def _along(x: Tensor, *args: Any, **options: Any) -> Sample:
    """A sample with a name for each axis."""
    return Sample((x, *args), options, axes=" ".join(("rows", "columns", "depth")[: x.dim()]) + ", " * len(args))


def _of_deviations(name: str, backward: str, *samples: Sample) -> Any:
    """The entry of `var` or `std`."""
    both = ErrorInput((_x, 1, True), TypeError, "unbiased", {"correction": 1})
    return _op_info(name, backward, (_along(_x, 1), *samples), _COMPLEX, _INTEGERS, _NO_SUCH_AXIS, both)


def _extremum(name: str, chosen: str, *samples: Sample) -> Any:
    """The entry of `max` or `min`."""
    return _op_info(
        name,
        f"∂C/∂x = g at the {chosen} value, else 0; shared among equal ones if no axis is given",
        (_along(_x, 1), *samples),
        _COMPLEX,
        _NO_SUCH_AXIS,
        ErrorInput((_draw(0),), RuntimeError, "numel"),
        ErrorInput((_x,), TypeError, "keepdim", {"keepdim": True}),
        ErrorInput((_x, _draw(3)), RuntimeError, "size of tensor a"),
        kinks=_TIE,
    )


OP_INFOS = (
    _op_info(
        "logsumexp",
        "∂C/∂x = g softmax(x)",
        (_along(_x, 1), _along(_cube, dim=(0, -1), keepdim=True), _along(20 * _row, 0), _along(_number, 0)),
        _COMPLEX,
        _NO_SUCH_AXIS,
    ),
    _op_info(
        "norm",
        "∂C/∂x = g sign(x) (|x| / y)^(p−1)",
        (
            _along(_x, 2, 1),
            _along(_cube, 1, dim=(0, -1), keepdim=True),
            _along(_x.t()),
            _along(_row, 3.0),
            _along(_x, -math.inf, 0),
        ),
        ErrorInput((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "complex64"),
        ErrorInput((torch.arange(3),), RuntimeError, "floating point"),
        ErrorInput((_x, 2, 2), IndexError, "out of range"),
        ErrorInput((_x, "nuclear"), RuntimeError, "not supported"),
        reference=torch.norm,
        rejects_lists=False,  # torch.norm raises an AttributeError
        kinks=(Kink((0,), 0), Kink((0,), 0, {"p": 1}), Kink((0,), 0, {"p": math.inf})),
    ),
    _of_deviations(
        "var",
        "∂C/∂x = g 2 (x − μ) / (n − correction)",
        _along(_cube, dim=(0, -1), correction=0, keepdim=True),
        _along(_x.t(), False),
    ),
    _of_deviations("std", "∂C/∂x = g (x − μ) / (n − correction) y", _along(_row, correction=1.5)),
    _op_info(
        "prod",
        "∂C/∂xᵢ = g Πⱼ xⱼ over all j ≠ i",
        (_along(_x, 1), _along(_zeros, 1, True), _along(_x.t())),
        _COMPLEX,
        _NO_SUCH_AXIS,
    ),
    _op_info(
        "cumsum",
        "∂C/∂xᵢ = Σⱼ gⱼ over all j ≥ i",
        (_along(_x, 1), _along(_cube.transpose(0, 2), -2), _along(_row, 0)),
        _COMPLEX,
        _NO_SUCH_AXIS,
    ),
    # Ordering
    _extremum("max", "largest", _along(_x.t()), Sample((_x, _row), axes="rows columns, columns")),
    _extremum("min", "smallest", _along(_cube, dim=0, keepdim=True)),
    _op_info(
        "sort",
        "∂C/∂xⱼ = gᵢ where yᵢ = xⱼ",
        (_along(_x), _along(_cube.transpose(0, 2), dim=0, descending=True, stable=True)),
        _COMPLEX,
        _NO_SUCH_AXIS,
    ),
    _op_info(
        "topk",
        "∂C/∂xⱼ = gᵢ where yᵢ = xⱼ, else 0",
        (
            Sample((_x, 2), axes="rows 4, "),
            Sample((_cube.mT, 2, 2, False), {"sorted": False}, axes="rows depth 3, , , "),
        ),
        ErrorInput((_COMPLEX.args[0], 1), NotImplementedError, "complex64"),
        ErrorInput((_x, 1, 2), IndexError, "out of range"),
        ErrorInput((_x, 5), RuntimeError, "out of range"),
    ),
)
