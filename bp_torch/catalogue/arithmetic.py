"""Entries of arithmetic: elementwise, selection, reductions, matmul."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, Kink, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(7)
_op_info = partial(op_info, rejects_lists=True)

_x, _row, _column, _number = _draw(2, 3), _draw(3), _draw(2, 1), _draw()
_transposed, _cube, _empty = _draw(3, 2).t(), _draw(2, 3, 2), _draw(0, 3)
_mask = torch.tensor([[True, False, True], [False, False, True]])


def _unary() -> list[tuple[Tensor]]:
    """Inputs of several shapes, layouts and magnitudes."""
    inputs = (_x, _transposed, _draw(1, 3).expand(2, 3), _number, _empty, _draw(4, scale=1e-4), _draw(4, scale=6))
    return [(x,) for x in inputs]


def _binary(positive: bool = False) -> list[tuple[Any, ...]]:
    """Pairs that broadcast in different ways."""
    pairs = ((_x, _draw(2, 3)), (_x, _row), (_column, _draw(2, 1, 3)), (_transposed, _number), (_empty, _draw(1, 3)))
    return [(a, b.abs() + 0.1 if positive else b) for a, b in pairs]


_NOT_BROADCAST = ErrorInput((_x, _draw(2)), RuntimeError, "size of tensor a")
_COMPLEX = ErrorInput((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "complex64")
_COMPLEX_AND_NUMBER = ErrorInput((torch.zeros(3, dtype=torch.complex64), 2), NotImplementedError, "complex64")
_NO_SUCH_AXIS = ErrorInput((_x, 2), IndexError, "out of range")
_TIE = (Kink((1, 1), 0.5),)

OP_INFOS = (
    _op_info(
        "add",
        "∂C/∂a = g, ∂C/∂b = α g",
        (*_binary(), Sample((_x, _row), {"alpha": -0.3}), (_x, 2)),
        _NOT_BROADCAST,
        _COMPLEX_AND_NUMBER,
    ),
    _op_info(
        "sub",
        "∂C/∂a = g, ∂C/∂b = −α g",
        (*_binary()[:3], Sample((_x, _row), {"alpha": 3}), (_x, 2.5)),
        _NOT_BROADCAST,
    ),
    _op_info("mul", "∂C/∂a = g b, ∂C/∂b = g a", (*_binary(), (_x, -2)), _NOT_BROADCAST, _COMPLEX_AND_NUMBER),
    _op_info("div", "∂C/∂a = g / b, ∂C/∂b = −g a / b²", (*_binary(positive=True), (_x, 3)), _NOT_BROADCAST),
    _op_info("neg", "∂C/∂x = −g", _unary()[:5], _COMPLEX),
    _op_info(
        "pow",
        "∂C/∂a = g b aᵇ⁻¹, ∂C/∂b = g y ln a",
        ((_x.abs(), 1.5), (_x, 2), (_transposed, 0), (_x, -1), (_x.abs(), _row), (_draw(1, 3).abs() + 0.1, _column)),
        _NOT_BROADCAST,
        ErrorInput((torch.arange(3), -1), RuntimeError, "negative integer powers"),
    ),
    _op_info("square", "∂C/∂x = g 2x", _unary(), _COMPLEX),
    # Selection
    _op_info("maximum", "∂C/∂a = g where a > b, else 0; half of g at a tie", _binary()[:4], _NOT_BROADCAST, kinks=_TIE),
    _op_info(
        "minimum", "∂C/∂a = g where a < b, else 0; half of g at a tie", _binary()[1:4], _NOT_BROADCAST, kinks=_TIE
    ),
    _op_info(
        "where",
        "∂C/∂a = g where the condition holds, else 0; ∂C/∂b = 0 where it holds, else g",
        ((_mask, _x, _draw(2, 3)), (_mask, _draw(1, 3), _column), (_mask[0], _transposed, 0.5), (_mask[0], -1.0, _x)),
        ErrorInput((_draw(2), _draw(2), _draw(2)), RuntimeError, "condition"),
    ),
    _op_info(
        "masked_fill",
        "∂C/∂x = 0 where filled, else g",
        (
            (_x, _mask, -math.inf),
            (_x, _mask[0], 2.0),
            (_transposed, _mask, 0.5),
            (_x, _mask, _number),
            (_row, _mask[0], 1.0),
        ),
        ErrorInput((_x, _mask.int(), 1.0), RuntimeError, "bool"),
    ),
    _op_info(
        "amax",
        "∂C/∂x = g / k at each of the k maxima, else 0",
        ((_x, 1), (_transposed, (0, -1), True), (_cube, (0, 2)), (_row,), (_number,)),
        _NO_SUCH_AXIS,
        ErrorInput((_draw(2, 0), 1), IndexError, "non-zero size"),
    ),
    # Reductions and matmul
    _op_info(
        "sum",
        "∂C/∂x = g along the summed axes",
        ((_x, 1), (_transposed, None, True), (_cube, (0, -1)), (_row,), (_number,), (_empty, 0)),
        _NO_SUCH_AXIS,
        _COMPLEX,
    ),
    _op_info(
        "mean",
        "∂C/∂x = g / n along the n averaged values",
        ((_x, 1), (_transposed, None, True), (_cube, (0, -1)), (_row,), (_number,)),
        _NO_SUCH_AXIS,
        ErrorInput((torch.arange(3),), RuntimeError, "dtype"),
    ),
    _op_info(
        "matmul",
        "∂C/∂A = g Bᵀ, ∂C/∂B = Aᵀ g",
        (
            (_x, _draw(3, 4)),
            (_transposed, _draw(4, 3).t()),
            (_row, _draw(3)),
            (_row, _draw(3, 2)),
            (_x, _row),
            (_draw(2, 2, 3), _draw(3, 2)),
            (_x, _cube),
            (_row, _cube),
            (_draw(2, 2, 3), _row),
            (_draw(2, 1, 2, 3), _draw(3, 3, 1)),
            (_empty, _draw(3, 2)),
            (_draw(2, 0), _empty),
        ),
        ErrorInput((_x, _x), RuntimeError, "2x3 and 2x3"),
        ErrorInput((_x, _draw(3, 2).float()), RuntimeError, "dtype"),
        ErrorInput((_number, _row), RuntimeError, "at least 1D"),
    ),
)
