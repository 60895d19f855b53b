"""Entries of the activations: the elementwise ones, softmax and log_softmax."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, Kink, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(2)


def _samples(**options: Any) -> tuple[Sample, ...]:
    """Inputs of every shape and range, without and with the options."""
    signs = _draw(4).sign()
    inputs = (*_draw.inputs(large=6), _draw(1), 60 * signs, 1000 * signs)  # the last two saturate or overflow
    return tuple(Sample((x,)) for x in inputs) + tuple(Sample((x,), options) for x in inputs if options)


def _inputs_and_dims() -> list[tuple[Tensor, int]]:
    others = ((_draw(4, 3), 0), (_draw(4, 3), -1), (_draw(2, 0), 1), (_draw(4, 1), 1))
    near_the_largest_float32 = (_draw(4, 3) + 80, 1)  # e⁸⁰
    return [*((x, 1 if x.dim() > 1 else 0) for x in _draw.inputs(large=20)), *others, near_the_largest_float32]


_LIST = ErrorInput(([1.0],), TypeError, "'input'")
_COMPLEX = ErrorInput((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "'input' .* torch.complex64")
_ERROR_INPUTS = (_LIST, ErrorInput((torch.arange(3),), NotImplementedError, "'input' .* torch.int64"), _COMPLEX)
_ERROR_INPUTS_ALONG_DIM = (
    ErrorInput((_draw(2, 3), 2), IndexError, "dim 2"),
    ErrorInput((torch.ones(2, 3, dtype=torch.int64), 1), NotImplementedError, "'input' .* torch.int64"),
    ErrorInput((torch.ones(2, 3, dtype=torch.complex64), 1), NotImplementedError, "'input' .* torch.complex64"),
)
_BOOLEAN = ErrorInput((torch.tensor([True]),), RuntimeError, "'input'")
_UNKNOWN_APPROXIMATION = ErrorInput((_draw(3),), RuntimeError, "approximate", {"approximate": "erf"})

OP_INFOS = (
    op_info("sigmoid", "∂C/∂x = g · y (1 − y)", _samples(), reference=torch.sigmoid),
    op_info("tanh", "∂C/∂x = g · (1 − y²)", _samples(), reference=torch.tanh),
    op_info("relu", "∂C/∂x = g where x > 0, else 0", _samples(), _LIST, _BOOLEAN, _COMPLEX, kinks=(Kink((0,), 0),)),
    op_info(
        "leaky_relu",
        "∂C/∂x = g where x > 0, else s g",
        _samples(negative_slope=0.3),
        *_ERROR_INPUTS,
        kinks=(Kink((0,), 0.01),),
    ),
    op_info(
        "elu",
        "∂C/∂x = g where x > 0, else g · α eˣ",
        _samples(alpha=0.5),
        *_ERROR_INPUTS,
        kinks=(Kink((0,), 0.5, {"alpha": 0.5}),),
    ),
    op_info(
        "softplus", "∂C/∂x = g · σ(βx), or g beyond the threshold", _samples(beta=2.0, threshold=5.0), *_ERROR_INPUTS
    ),
    op_info("silu", "∂C/∂x = g · σ(x) (1 + x (1 − σ(x)))", _samples(), *_ERROR_INPUTS),
    op_info(
        "gelu",
        "∂C/∂x = g · (Φ(x) + x φ(x)); see `GELUTanh` for its tanh form",
        _samples(approximate="tanh"),
        *_ERROR_INPUTS,
        _UNKNOWN_APPROXIMATION,
    ),
    op_info("softmax", "∂C/∂xᵢ = yᵢ (gᵢ − Σⱼ gⱼ yⱼ)", _inputs_and_dims(), *_ERROR_INPUTS_ALONG_DIM),
    op_info("log_softmax", "∂C/∂xᵢ = gᵢ − e^(yᵢ) Σⱼ gⱼ", _inputs_and_dims(), *_ERROR_INPUTS_ALONG_DIM),
)
