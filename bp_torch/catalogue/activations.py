"""Entries of the activations: sigmoid, tanh, the first rectifiers, smooth ones, and the softmax family."""

from dataclasses import replace
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


def few(*args: Any, **options: Any) -> tuple[Sample, ...]:
    """A few inputs, with further arguments for each, and two of them with the options too."""
    inputs = (_draw(4, 3, scale=2), _draw(3, 2).t(), _draw(), _draw(5, scale=60), _draw(0, 3))
    axes = ("rows columns", "rows columns", "", "length", "0 columns")
    calls = [*zip(inputs, axes, strict=True)]
    plain = [Sample((x, *args), axes=", ".join([names, *("" for _ in args)])) for x, names in calls]
    return (*plain, *(replace(sample, options=options) for sample in plain[:2] if options))


def _inputs_and_dims() -> list[tuple[Tensor, int]]:
    others = ((_draw(4, 3), 0), (_draw(4, 3), -1), (_draw(2, 0), 1), (_draw(4, 1), 1))
    near_the_largest_float32 = (_draw(4, 3) + 80, 1)  # e⁸⁰
    return [*((x, 1 if x.dim() > 1 else 0) for x in _draw.inputs(large=20)), *others, near_the_largest_float32]


_LIST = ErrorInput(([1.0],), TypeError, "'input'")
_COMPLEX = ErrorInput((torch.zeros(3, dtype=torch.complex64),), NotImplementedError, "'input' .* torch.complex64")
ERROR_INPUTS = (_LIST, ErrorInput((torch.arange(3),), NotImplementedError, "'input' .* torch.int64"), _COMPLEX)
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
        *ERROR_INPUTS,
        kinks=(Kink((0,), 0.01),),
    ),
    op_info(
        "elu",
        "∂C/∂x = g where x > 0, else g · α eˣ",
        _samples(alpha=0.5),
        *ERROR_INPUTS,
        kinks=(Kink((0,), 0.5, {"alpha": 0.5}),),
    ),
    op_info(
        "softplus", "∂C/∂x = g · σ(βx), or g beyond the threshold", _samples(beta=2.0, threshold=5.0), *ERROR_INPUTS
    ),
    op_info("silu", "∂C/∂x = g · σ(x) (1 + x (1 − σ(x)))", _samples(), *ERROR_INPUTS),
    op_info(
        "gelu",
        "∂C/∂x = g · (Φ(x) + x φ(x)); see `GELUTanh` for its tanh form",
        _samples(approximate="tanh"),
        *ERROR_INPUTS,
        _UNKNOWN_APPROXIMATION,
    ),
    op_info("mish", "∂C/∂x = g · σ(x) / (1 + r²) · (1 + r + 4 x r² / (1 + r²)), where r = σ(−x)", few(), *ERROR_INPUTS),
    op_info("logsigmoid", "∂C/∂x = g · σ(−x)", few(), *ERROR_INPUTS),
    op_info("softsign", "∂C/∂x = g / (1 + |x|)²", few(), _COMPLEX),
    op_info("tanhshrink", "∂C/∂x = g · tanh²(x)", few(), _COMPLEX),
    op_info(
        "glu",
        "∂C/∂a = g · σ(b), ∂C/∂b = g · a σ(b) (1 − σ(b)), where a and b are the halves of x",
        (
            Sample((_draw(3, 4),), axes="batch 2*half"),
            Sample((_draw(4, 3),), {"dim": 0}, axes="2*half columns"),
            Sample((_draw(2, 4, 3),), {"dim": 1}, axes="batch 2*half length"),
            Sample((20 * _draw(6),), axes="2*half"),
            Sample((_draw(0, 4),), axes="0 2*half"),
        ),
        ErrorInput((_draw(3),), RuntimeError, "even"),
        ErrorInput((_draw(),), RuntimeError, "scalar"),
        ErrorInput((_draw(4), 2), IndexError, "out of range"),
        ErrorInput((torch.arange(4),), NotImplementedError, "Long"),
        ErrorInput((torch.zeros(4, dtype=torch.complex64),), NotImplementedError, "ComplexFloat"),
    ),
    op_info("softmax", "∂C/∂xᵢ = yᵢ (gᵢ − Σⱼ gⱼ yⱼ)", _inputs_and_dims(), *_ERROR_INPUTS_ALONG_DIM),
    op_info("softmin", "∂C/∂xᵢ = yᵢ (Σⱼ gⱼ yⱼ − gᵢ)", _inputs_and_dims()[:8], *_ERROR_INPUTS_ALONG_DIM),
    op_info("log_softmax", "∂C/∂xᵢ = gᵢ − e^(yᵢ) Σⱼ gⱼ", _inputs_and_dims(), *_ERROR_INPUTS_ALONG_DIM),
)
