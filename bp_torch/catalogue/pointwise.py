"""Entries of elementwise functions of one Tensor."""

import math
from functools import partial

import torch

from bp_torch.catalogue.op_info import ErrorInput, Interval, Kink, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(31)
_op_info = partial(op_info, rejects_lists=True)
_x = _draw(3, 4)
_low, _high = -_draw(3, 4).abs(), _draw(4).abs()
_COMPLEX = ErrorInput((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "complex64")


_POSITIVE = (Interval(0, math.inf),)


def _unary(positive: bool = False) -> list[Sample]:
    """Inputs of several shapes, layouts and magnitudes."""
    named = {"rows columns": (_x, _draw(4, 3).t(), _draw(0, 3)), "": (_draw(),), "length": (_draw(4, scale=10),)}
    return [Sample((x.abs() + 0.01 if positive else x,), axes=names) for names, inputs in named.items() for x in inputs]


OP_INFOS = (
    _op_info("abs", "∂C/∂x = g sign(x)", _unary(), _COMPLEX, kinks=(Kink((0,), 0),)),
    _op_info("sqrt", "∂C/∂x = g / 2√x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _op_info("rsqrt", "∂C/∂x = −g / 2x√x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _op_info("exp", "∂C/∂x = g y", _unary(), _COMPLEX),
    _op_info("log", "∂C/∂x = g / x", _unary(positive=True), _COMPLEX, domain=_POSITIVE),
    _op_info("sin", "∂C/∂x = g cos x", _unary(), _COMPLEX),
    _op_info("cos", "∂C/∂x = −g sin x", _unary(), _COMPLEX),
    _op_info("erf", "∂C/∂x = g 2/√π e^(−x²)", _unary(), _COMPLEX),
    _op_info(
        "clamp",
        "∂C/∂x = g where a ≤ x ≤ b, else 0; ∂C/∂a = g where x < a, ∂C/∂b = g where x > b",
        (
            Sample((_x, -0.5, 1), axes="rows columns, , "),
            Sample((_x, _low, _high), axes="rows columns, rows columns, columns"),
            Sample((_x, None, _high), axes="rows columns, , columns"),
        ),
        _COMPLEX,
        ErrorInput((_x,), RuntimeError, "At least one"),
        ErrorInput((_x, 0.0, _high), TypeError, "both numbers or both Tensors"),
        ErrorInput((_x, _draw(2)), RuntimeError, "size of tensor a"),
        kinks=(Kink((-1,), 1, {"min": -1}), Kink((2,), 1, {"min": 0, "max": 2})),
    ),
)
