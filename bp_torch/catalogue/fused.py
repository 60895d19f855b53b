"""Entries of functions that Transformers compute as one, and of the rotary position embedding.

Except for linear_cross_entropy, PyTorch has no such functions; the references are compositions of its own.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(31)
_op_info = partial(op_info, rejects_lists=True)
_A, _B = _draw(3, 4), _draw(3, 4)
_PAIR = "rows columns, rows columns"


def _rotary(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """As in transformers' Llama; interleaved, with a matrix for each angle."""
    half = torch.clone(input).shape[-1] // 2
    if 2 * half != input.shape[-1] or not half == cos.shape[-1] == sin.shape[-1]:
        raise ValueError("the width of the input must be even, and that of cos and sin its half")
    if interleaved:
        rotation = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)  # (*, D/2, 2, 2)
        pairs = torch.unflatten(input, -1, (half, 1, 2))
        return (rotation * pairs).sum(-1).flatten(-2)
    rotated = torch.cat((-input[..., half:], input[..., :half]), -1)
    return input * torch.cat((cos, cos), -1) + rotated * torch.cat((sin, sin), -1)


def _angles(*shape: int) -> tuple[Tensor, Tensor]:
    angles = 3 * _draw(*shape)
    return angles.cos(), angles.sin()


def _lora(input: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float = 1.0) -> Tensor:
    return F.linear(input, weight, bias) + scaling * F.linear(F.linear(input, a), b)


def _linear_cross_entropy(*args: Any, options: Any = None, **others: Any) -> Tensor:
    """Without the options of PyTorch's other kernel, whose second derivatives are wrong."""
    return F.linear_cross_entropy(*args, **others)


def _classes(*shape: int, classes: int = 3, features: int = 2, **options: Any) -> Sample:
    """A sample of linear_cross_entropy for class indices."""
    target = _draw.classes(*shape, below=classes)
    axes = "batch features, _ features, batch" if shape else "features, _ features, "
    return Sample((_draw(*shape, features), _draw(classes, features), target), options, axes)


_x, _w, _t = _draw(4, 2), _draw(3, 2), torch.tensor([2, 0, 1, 0])

OP_INFOS = (
    _op_info(
        "rotary_embedding",
        "∂C/∂x = R(−θ) g, pair by pair",
        (
            Sample((_draw(2, 3, 4), *_angles(3, 2)), axes="batch length 2*pairs, length pairs, length pairs"),
            Sample((_draw(2, 3, 2, 4), *_angles(3, 1, 2), True)),
            Sample((_draw(4), *_angles(2)), {"interleaved": True}, "2*pairs, pairs, pairs"),
        ),
        ErrorInput((_draw(2, 3), *_angles(2, 1)), ValueError, r"even length, got input \(2, 3\)"),
        ErrorInput((_draw(2, 4), *_angles(2, 4)), ValueError, r"each pair .*cos \(2, 4\)"),
        ErrorInput((_draw(2, 4), *_angles(3, 2)), RuntimeError, "size"),
        reference=_rotary,
    ),
    _op_info(
        "swiglu",
        "∂C/∂a = g b silu′(a), ∂C/∂b = g silu(a)",
        (Sample((_A, _B), axes=_PAIR), Sample((_draw(2, 1, 3), _draw(2, 3)))),
        ErrorInput((_draw(2, 3), _draw(2, 4)), RuntimeError, "size"),
        reference=lambda gate, up: F.silu(gate) * up,
    ),
    _op_info(
        "geglu",
        "∂C/∂a = g b gelu′(a), ∂C/∂b = g gelu(a)",
        (Sample((_A, _B), axes=_PAIR), Sample((_draw(2, 1, 3), _draw(2, 3)), {"approximate": "tanh"})),
        ErrorInput((_A, _B), RuntimeError, "approximate", {"approximate": "erf"}),
        reference=lambda gate, up, approximate="none": F.gelu(gate, approximate=approximate) * up,
    ),
    _op_info(
        "lora_linear",
        "∂C/∂A = s (δ B)ᵀ x, ∂C/∂B = s δᵀ x Aᵀ, ∂C/∂x = δ W + s δ B A",
        (
            Sample(
                (_draw(4, 3), _draw(2, 3), _draw(2), _draw(2, 3), _draw(2, 2), 0.5),
                axes="batch in, out in, out, rank in, out rank, ",
            ),
            Sample(
                (_draw(2, 2, 3), _draw(4, 3), None, _draw(1, 3), _draw(4, 1)),
                axes="batch length in, out in, , rank in, out rank",
            ),
        ),
        ErrorInput((_x, _w, None, _draw(1, 3), _draw(3, 1)), RuntimeError, r"a \(rank, in\) .* \(1, 3\) and \(3, 1\)"),
        ErrorInput((_x, _w, None, _draw(2, 2), _draw(3, 1)), RuntimeError, "rank"),
        ErrorInput((_draw(4, 3), _w, None, _draw(1, 2), _draw(3, 1)), RuntimeError, r"\(4, 3\)"),
        reference=_lora,
    ),
    op_info(
        "linear_cross_entropy",
        "δ = (softmax − onehot) / N, ∂C/∂x = δ W, ∂C/∂W = δᵀ x",
        (
            _classes(5, linear_bias=_draw(3), weight=_draw(3).exp(), ignore_index=1),
            _classes(4, reduction="none", label_smoothing=0.2, weight=_draw(3).exp()),
            _classes(5, reduction="sum", options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2)),
            _classes(reduction="none"),
            Sample((_draw(3, 2), _draw(3, 2), _draw.probabilities(3, 3))),
            Sample((_draw(2, 2), _draw(3, 2, 2), _draw.classes(2, 2, below=3))),
        ),
        ErrorInput((_x, _w, torch.tensor([0, 3, 0, 0])), IndexError, "Target 3 is out of bounds"),
        ErrorInput((_x, _w, torch.tensor([0, 1])), ValueError, r"batch_size \(4\)"),
        ErrorInput((_x, _w, _t.double()), RuntimeError, "target .* torch.float64"),
        ErrorInput((_draw(4, 3), _w, _t), RuntimeError, r"input \(4, 3\) and linear_weight \(3, 2\)"),
        ErrorInput((_x, _w, _t), RuntimeError, r"linear_bias \(2,\)", {"linear_bias": _draw(2)}),
        ErrorInput((_x, _w, _t), RuntimeError, r"weight \(2,\)", {"weight": _draw(2)}),
        ErrorInput((_x, _w, _t), RuntimeError, "label_smoothing", {"label_smoothing": 2.0}),
        ErrorInput((_x, _w, _t), ValueError, "reduction", {"reduction": "average"}),
        ErrorInput((_x, _w, _draw(4, 3)), RuntimeError, "ignore_index", {"ignore_index": 0}),
        reference=_linear_cross_entropy,
    ),
)
