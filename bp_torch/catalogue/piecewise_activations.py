"""Entries of the piecewise activations: clipping, thresholds, shrinkage, rectifiers with a scale or given slopes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.activations import ERROR_INPUTS, few
from bp_torch.catalogue.op_info import ErrorInput, Kink, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(18)
_SLOPE = (1 / 8 + 1 / 3) / 2
_LIST, _, _COMPLEX = ERROR_INPUTS
_BOOLEAN = ErrorInput((torch.tensor([True]),), RuntimeError, "Bool")


def _hardsigmoid(input: Tensor) -> Tensor:
    """PyTorch's hardsigmoid; in float64 its backward has 1/6 rounded to float32."""
    return F.relu6(input + 3) / 6 if getattr(input, "dtype", None) == torch.float64 else F.hardsigmoid(input)


def _rrelu(input: Tensor, *args: Any, **options: Any) -> Tensor:
    """PyTorch's rrelu; in training it does not support float16 on a CPU."""
    if getattr(input, "dtype", None) == torch.float16:
        return F.rrelu(input.float(), *args, **options).half()
    return F.rrelu(input, *args, **options)


OP_INFOS = (
    op_info(
        "hardtanh",
        "∂C/∂x = g where a < x < b, else 0",
        few(min_val=-0.4, max_val=1.3),
        _LIST,
        _COMPLEX,
        _BOOLEAN,
        ErrorInput((_draw(3), 2, 1), ValueError, "min_val 2"),
        kinks=(Kink((-1,), 0), Kink((1,), 0)),
    ),
    op_info(
        "relu6",
        "∂C/∂x = g where 0 < x < 6, else 0",
        few(),
        _LIST,
        _COMPLEX,
        _BOOLEAN,
        kinks=(Kink((0,), 0), Kink((6,), 0)),
    ),
    op_info(
        "hardsigmoid",
        "∂C/∂x = g / 6 where −3 < x < 3, else 0",
        few(),
        *ERROR_INPUTS,
        reference=_hardsigmoid,
        kinks=(Kink((-3,), 0), Kink((3,), 0)),
    ),
    op_info(
        "hardswish",
        "∂C/∂x = 0 where x ≤ −3, g (2x + 3) / 6 up to 3, then g",
        few(),
        *ERROR_INPUTS,
        kinks=(Kink((-3,), 0), Kink((3,), 1)),
    ),
    op_info(
        "threshold",
        "∂C/∂x = g where x > θ, else 0",
        few(0.3, 20.0),
        ErrorInput(([1.0], 0.3, 20.0), TypeError, "'input'"),
        ErrorInput((torch.zeros(3, dtype=torch.complex64), 0.3, 20.0), NotImplementedError, "complex64"),
        kinks=(Kink((1,), 0, {"threshold": 1.0, "value": 20.0}),),
    ),
    op_info(
        "hardshrink",
        "∂C/∂x = g where |x| > λ, else 0",
        few(lambd=0.3),
        *ERROR_INPUTS,
        kinks=(Kink((-0.5,), 0), Kink((0.5,), 0)),
    ),
    op_info(
        "softshrink",
        "∂C/∂x = g where |x| > λ, else 0",
        few(lambd=0.3),
        *ERROR_INPUTS,
        ErrorInput((_draw(3), -0.3), RuntimeError, "lambda"),
        kinks=(Kink((-0.5,), 0), Kink((0.5,), 0)),
    ),
    op_info(
        "selu",
        "∂C/∂x = λ g where x > 0, else g · λ α eˣ",
        few(),
        *ERROR_INPUTS,
        kinks=(Kink((0,), 1.7580993408473766),),
    ),
    op_info(
        "celu",
        "∂C/∂x = g · e^(min(x, 0)/α)",
        few(alpha=0.5),  # PyTorch's backward rounds 1/α to float32
        *ERROR_INPUTS,
        ErrorInput((_draw(3), 0.0), RuntimeError, "alpha cannot be 0"),
    ),
    op_info(
        "prelu",
        "∂C/∂x = g where x > 0, else w g; ∂C/∂w = Σ g min(x, 0)",
        (
            Sample((_draw(4, 3), _draw(3)), axes="batch channels, channels"),
            Sample((_draw(2, 3, 2, 2), _draw(3)), axes="batch channels height width, channels"),
            Sample((_draw(2, 3, 4), _draw(1)), axes="batch channels length, 1"),
            Sample((_draw(5), _draw(1)), axes="length, 1"),
            Sample((_draw(), _draw()), axes=","),
            Sample((_draw(0, 3), _draw(3)), axes="0 channels, channels"),
        ),
        ErrorInput((_draw(2, 3), _draw(2)), RuntimeError, "parameter numbers = 2 and channel size = 3"),
        ErrorInput((_draw(2, 2), _draw(1, 2)), RuntimeError, "weight"),
        ErrorInput((_draw(2, 2), _draw(2).float()), RuntimeError, "weight is torch.float32"),
        ErrorInput((_draw(2, 2), 0.3), TypeError, "'weight'"),
        rejects_lists=True,
        kinks=(Kink((0, 0.25), 0.25),),
    ),
    op_info(
        "rrelu",
        "∂C/∂x = g s with random slopes s where x ≤ 0, else g; without training s is their mean",
        (
            *few()[:4],
            Sample((_draw(3, 4),), {"training": True}, axes="rows columns", seed=1),
            Sample((_draw(2, 3, 2),), {"lower": 0.1, "upper": 0.6, "training": True}, axes="a b c", seed=2),
        ),
        *ERROR_INPUTS,
        ErrorInput((_draw(3), 0.5, 0.1), RuntimeError, "lower 0.5"),
        reference=_rrelu,
        kinks=(Kink((0,), _SLOPE),),
    ),
)
