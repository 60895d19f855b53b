"""Bugs of softmax, softmin and log_softmax. The correct gradients are ±y (g − Σ g y) and g − e^y Σ g.

The sums are over dim = 1.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.softmax import LogSoftmax, Softmax, Softmin, probabilities
from planted.alterations import first_row_negated, rounded_to, row_major
from planted.bug import Original, first_input

_draw = RandomTensors(14)
_X = ((_draw(4, 3),), (_draw(2, 5, 3),))
_SQUARE = ((_draw(4, 4),),)

SOFTMAX = Original("softmax", Softmax, partial(F.softmax, dim=1), _X, (1,))
SOFTMIN = Original("softmin", Softmin, partial(F.softmin, dim=1), _X, (1,))
LOG_SOFTMAX = Original("log_softmax", LogSoftmax, partial(F.log_softmax, dim=1), _X, (1,))


def _average(g: Tensor, y: Tensor, dim: int = 1) -> Tensor:
    return (g * y).sum(dim, keepdim=True)


def _average_of_first_32(g: Tensor, y: Tensor) -> Tensor:
    return _average(g[:, :32], y[:, :32])


def _shift_input_in_place(input: Tensor, dim: int) -> Tensor:
    input -= input.amax(dim, keepdim=True)  # softmax does not change, but the caller's Tensor does
    return probabilities(input, dim)


def _overwrite_y(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
    (y,) = ctx.saved_tensors
    grad_input = y * (g - _average(g, y))
    return y.data.copy_(grad_input.detach()) * 1, None


def _vmap_without_dim_shift(info: Any, in_dims: tuple[int | None, ...], input: Tensor, dim: int) -> tuple[Tensor, int]:
    assert in_dims[0] is not None
    return Softmax.call(input.movedim(in_dims[0], 0), dim), 0  # should be dim + 1


_softmax = (
    SOFTMAX.backward("Σ g y dropped", "dropped term", lambda g, y: y * g),
    SOFTMAX.backward("only the Jacobian's diagonal", "dropped term", lambda g, y: y * (1 - y) * g),
    SOFTMAX.backward("mean of g for Σ g y", "wrong formula", lambda g, y: y * (g - g.mean(1, keepdim=True))),
    SOFTMAX.backward("factor y forgotten", "dropped term", lambda g, y: g - _average(g, y)),
    SOFTMAX.backward("Σ g y − g for g − Σ g y", "sign", lambda g, y: y * (_average(g, y) - g)),
    SOFTMAX.backward("Σ g y over the batch", "reduction", lambda g, y: y * (g - _average(g, y, dim=0))),
    SOFTMAX.backward("Σ g y over the last dimension", "reduction", lambda g, y: y * (g - _average(g, y, dim=-1))),
    SOFTMAX.backward("Σ g y without keepdim", "transposed", lambda g, y: y * (g - (g * y).sum(1)), samples=_SQUARE),
    SOFTMAX.backward("Σ g y of the first row for all", "position", lambda g, y: y * (g - _average(g, y)[:1])),
    SOFTMAX.backward("Σ g y of the first 32 classes", "sizes", lambda g, y: y * (g - _average_of_first_32(g, y))),
    SOFTMAX.backward(
        "normalised again, with ε = 10⁻³",
        "epsilon",
        lambda g, y: y / (y.sum(1, keepdim=True) + 1e-3) * (g - _average(g, y)),
    ),
    SOFTMAX.backward(
        "normalised again, with ε = 10⁻⁶",
        "epsilon",
        lambda g, y: y / (y.sum(1, keepdim=True) + 1e-6) * (g - _average(g, y)),
    ),
    SOFTMAX.backward(
        "y below 0.001 replaced by 0", "saturation", lambda g, y: torch.where(y < 1e-3, 0, y * (g - _average(g, y)))
    ),
    SOFTMAX.backward("float32 sum", "precision", lambda g, y: y * (g - _average(rounded_to(g, torch.float32), y))),
    SOFTMAX.backward("ignores the strides of y", "layout", lambda g, y: row_major(y) * (g - _average(g, y))),
    SOFTMAX.backward(
        "own term dropped for a one-hot g",
        "upstream gradient",
        lambda g, y: torch.where((g != 0).sum() == 1, -y * _average(g, y), y * (g - _average(g, y))),
    ),
    SOFTMAX.result("first row negated", "sign", input=first_row_negated),
    SOFTMAX.methods("maximum subtracted from the input in place", "side effect", forward=_shift_input_in_place),
    SOFTMAX.methods("gradient written into the output", "side effect", backward=_overwrite_y),
    SOFTMAX.backward("Σ g y detached", "second derivative", lambda g, y: y * (g - _average(g, y).detach())),
    SOFTMAX.methods("Σ t y dropped from the tangent", "forward mode", jvp=lambda ctx, t, _: ctx.saved_tensors[0] * t),
    SOFTMAX.methods("vmap rule does not shift dim", "batched", vmap=_vmap_without_dim_shift),
)


_softmin = (
    SOFTMIN.backward("softmax's backward", "sign", lambda g, y: y * (g - _average(g, y))),
    SOFTMIN.backward("sign of the average only", "sign", lambda g, y: y * (-g - _average(g, y))),
)


def _total(g: Tensor, dim: int = 1) -> Tensor:
    return g.sum(dim, keepdim=True)


_log_softmax = (
    LOG_SOFTMAX.backward("g for Σ g", "dropped term", lambda g, y: g - torch.exp(y) * g),
    LOG_SOFTMAX.backward("mean of g for Σ g", "reduction", lambda g, y: g - torch.exp(y) * g.mean(1, keepdim=True)),
    LOG_SOFTMAX.backward("y for e^y", "wrong formula", lambda g, y: g - y * _total(g)),
    LOG_SOFTMAX.backward("Σ g over the batch", "reduction", lambda g, y: g - torch.exp(y) * _total(g, dim=0)),
    LOG_SOFTMAX.backward("e^y Σ g dropped", "dropped term", lambda g, y: g),
    LOG_SOFTMAX.backward("softmax's backward", "wrong formula", lambda g, y: y.exp() * (g - _average(g, y.exp()))),
    LOG_SOFTMAX.backward("Σ g assumed to be 1", "upstream gradient", lambda g, y: g - torch.exp(y)),
    LOG_SOFTMAX.backward("y cut off at −9", "saturation", lambda g, y: g - torch.exp(y.clamp_min(-9)) * _total(g)),
    LOG_SOFTMAX.backward(
        "NaN for a large x: ∞/∞", "overflow", lambda g, x: g - x.exp() / _total(x.exp()) * _total(g), saved=first_input
    ),
    LOG_SOFTMAX.backward(
        "softmax saved by forward", "second derivative", lambda g, p: g - p * _total(g), saved=lambda _, y: torch.exp(y)
    ),
    LOG_SOFTMAX.methods(
        "tangent's mean unweighted",
        "forward mode",
        jvp=lambda ctx, tangent, _: tangent - tangent.mean(1, keepdim=True),
    ),
)

BUGS = (*_softmax, *_softmin, *_log_softmax)
ORIGINALS = (SOFTMAX, SOFTMIN, LOG_SOFTMAX)
