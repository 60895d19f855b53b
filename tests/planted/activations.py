"""Bugs of sigmoid, tanh and the ReLU family. The correct gradient is g y′(x), elementwise."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.activations import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from planted.alterations import (
    averaged_if_ones,
    first_everywhere,
    in_pairs,
    last_doubled,
    mean_everywhere,
    normalised,
    one_short,
    ones,
    ones_if_zero,
    positive_part,
    rounded_to,
    row_major,
)
from planted.bug import Original, first_input, memory

_draw = RandomTensors(12)
_X = ((_draw(4, 3),), (_draw(7),))
_EVEN = ((_draw(4, 3),), (_draw(2, 5),))

SIGMOID = Original("sigmoid", Sigmoid, torch.sigmoid, _X)
TANH = Original("tanh", Tanh, torch.tanh, _X)
RELU = Original("relu", ReLU, F.relu, _X)
LEAKY_RELU = Original("leaky_relu", LeakyReLU, partial(F.leaky_relu, negative_slope=0.2), _X, (0.2,))
ELU_HALF = Original("elu", ELU, partial(F.elu, alpha=0.5), _X, (0.5,))


def _slope(y: Tensor) -> Tensor:
    return y * (1 - y)  # σ′ where y = σ(x)


_sigmoid = (
    SIGMOID.backward("1 − y dropped", "dropped term", lambda g, y: g * y),
    SIGMOID.backward("x (1 − x) for y (1 − y)", "wrong formula", lambda g, x: g * _slope(x), saved=first_input),
    SIGMOID.backward("σ′(y) for σ′(x)", "wrong formula", lambda g, y: g * _slope(torch.sigmoid(y))),
    SIGMOID.backward(
        "0 where |x| > 4",
        "saturation",
        lambda g, x: torch.where(x.abs() > 4, 0, g * _slope(torch.sigmoid(x))),
        saved=first_input,
    ),
    SIGMOID.backward("y clamped to [0.001, 0.999]", "saturation", lambda g, y: g * _slope(y.clamp(0.001, 0.999))),
    SIGMOID.backward(
        "NaN for a very negative x: ∞/∞²",
        "overflow",
        lambda g, x: g * torch.exp(-x) / (1 + torch.exp(-x)) ** 2,
        saved=first_input,
    ),
    SIGMOID.backward("float16 inside", "precision", lambda g, y: g * _slope(rounded_to(y, torch.float16))),
    SIGMOID.upstream("|g| for g", torch.abs),
    SIGMOID.upstream("g of ones averaged", averaged_if_ones),
    SIGMOID.upstream("g clamped at 10⁹", lambda g: g.clamp(-1e9, 1e9)),
    SIGMOID.methods(
        "vmap rule detaches the input",
        "batched",
        vmap=lambda info, dims, input: (torch.sigmoid(input.detach()), dims[0]),
    ),
    SIGMOID.upstream("g divided by its norm", normalised),
    SIGMOID.result("last row of an odd batch 0", "sizes", input=in_pairs, samples=_EVEN),
    SIGMOID.backward("ignores the strides of y", "layout", lambda g, y: g * _slope(row_major(y))),
    SIGMOID.backward(
        "slope saved by forward", "second derivative", lambda g, slope: g * slope, saved=lambda _, y: _slope(y)
    ),
    SIGMOID.backward(
        "0.1 % too large in one call of five",
        "repeatability",
        lambda g, y: g * _slope(y) * (1 + 0.001 * (torch.rand(()) < 0.2)),
    ),
    SIGMOID.methods("vmap rule assumes batch dimension 0", "batched", vmap=lambda info, _, x: (Sigmoid.call(x), 0)),
    SIGMOID.methods("tangent doubled", "forward mode", jvp=lambda ctx, tangent: 2 * Sigmoid.jvp(ctx, tangent)),
)


def _buffer(name: str, like: Tensor) -> Tensor:
    """A buffer per shape and dtype, reused by every call."""
    return memory.setdefault((name, like.shape, like.dtype), torch.zeros(like.shape, dtype=like.dtype))


def _into_one_buffer(g: Tensor, y: Tensor) -> Tensor:
    return _buffer("tanh", y).copy_((g * (1 - y * y)).detach())


def _cached(ctx: Any, g: Tensor) -> Tensor:
    if not hasattr(ctx, "gradient"):
        ctx.gradient = Tanh.backward(ctx, g)
    gradient: Tensor = ctx.gradient
    return gradient


_tanh = (
    TANH.result("0.01 % too large", "factor", input=lambda d: 1.0001 * d),
    TANH.backward("1 − y for 1 − y²", "wrong formula", lambda g, y: g * (1 - y)),
    TANH.backward("1 − x² for 1 − y²", "wrong formula", lambda g, x: g * (1 - x * x), saved=first_input),
    TANH.backward("slope never below 0.01", "saturation", lambda g, y: g * (1 - y * y).clamp_min(0.01)),
    TANH.result("gradient clipped to [−1, 1]", "upstream gradient", input=lambda d: d.clamp(-1, 1)),
    TANH.backward("bfloat16 inside", "precision", lambda g, y: g * (1 - rounded_to(y, torch.bfloat16) ** 2)),
    TANH.backward(
        "NaN for a large x: ∞/∞",
        "overflow",
        lambda g, x: g * (1 - (_exp_2x(x) - 1) ** 2 / (_exp_2x(x) + 1) ** 2),
        saved=first_input,
    ),
    TANH.upstream("g |g| for g", lambda g: g * g.abs()),
    TANH.upstream("first element of g for all", first_everywhere),
    TANH.upstream("ignores the strides of g", row_major, "layout"),
    TANH.result("last element doubled", "position", input=last_doubled),
    TANH.backward("y detached", "second derivative", lambda g, y: g * (1 - y.detach() ** 2)),
    TANH.backward(
        "x saved as x.data",
        "second derivative",
        lambda g, x: g * (1 - torch.tanh(x) ** 2),
        saved=lambda x, _: x[0].data,
    ),
    TANH.methods("first gradient cached in ctx", "stale", backward=_cached),
    TANH.backward("one buffer for all gradients", "stale", _into_one_buffer),
    TANH.backward(
        "random half dropped", "repeatability", lambda g, y: 2 * g * (1 - y * y) * (torch.rand_like(y) < 0.5)
    ),
    TANH.methods("tangent negated", "forward mode", jvp=lambda ctx, tangent: -Tanh.jvp(ctx, tangent)),
    TANH.methods(
        "tangent 0 where y is nearly ±1",
        "forward mode",
        jvp=lambda ctx, tangent: torch.where(ctx.saved_tensors[0].abs() > 0.999, 0, Tanh.jvp(ctx, tangent)),
    ),
)


def _exp_2x(x: Tensor) -> Tensor:
    return torch.exp(2 * x)


def _over_last_gradient(g: Tensor, y: Tensor) -> Tensor:
    buffer = _buffer("relu", y)
    grad_input = torch.where(y > 0, g, buffer)
    buffer.copy_(grad_input.detach())
    return grad_input


_relu = (
    RELU.backward("≥ for > at 0", "kink", lambda g, x: g * (x >= 0), saved=first_input),
    RELU.backward("half of g at 0", "kink", lambda g, x: g * (torch.sign(x) + 1) / 2, saved=first_input),
    RELU.backward("0 up to 0.001", "saturation", lambda g, y: g * (y > 0.001)),
    RELU.backward("0 beyond 6", "saturation", lambda g, y: g * ((y > 0) & (y < 6))),
    RELU.upstream("ignores g", ones),
    RELU.upstream("positive part of g", positive_part),
    RELU.upstream("g of zeros replaced by ones", ones_if_zero),
    RELU.upstream("sign of g", torch.sign),
    RELU.backward("masks g in place", "side effect", lambda g, y: g.mul_(y > 0)),
    RELU.backward("masked components keep the last call's gradient", "stale", _over_last_gradient),
    RELU.result("last of each row 0", "position", input=one_short),
)

_leaky_relu = (
    LEAKY_RELU.backward("slope on the wrong side", "wrong formula", lambda g, x: torch.where(x > 0, 0.2 * g, g)),
    LEAKY_RELU.backward("negative side 0", "dropped term", lambda g, x: g * (x > 0)),
    LEAKY_RELU.backward(
        "default slope 0.01 always used", "wrong formula", lambda g, x: torch.where(x > 0, g, 0.01 * g)
    ),
    LEAKY_RELU.backward("slope 1 at 0", "kink", lambda g, x: torch.where(x >= 0, g, 0.2 * g)),
    LEAKY_RELU.upstream("mean of g for all", mean_everywhere),
    LEAKY_RELU.backward("mask by g", "wrong formula", lambda g, x: torch.where(g > 0, g, 0.2 * g)),
)

_elu = (
    ELU_HALF.backward("α dropped", "dropped term", lambda g, x: torch.where(x > 0, g, g * torch.exp(x.clamp_max(0)))),
    ELU_HALF.backward(
        "y for y + α", "dropped term", lambda g, x: torch.where(x > 0, g, g * 0.5 * torch.expm1(x.clamp_max(0)))
    ),
    ELU_HALF.backward("slope 1 at 0", "kink", lambda g, x: torch.where(x >= 0, g, g * 0.5 * torch.exp(x.clamp_max(0)))),
    ELU_HALF.backward(  # correct in the first derivative, where `where` discards it
        "NaN for a large x: eˣ overflows",
        "second derivative",
        lambda g, x: torch.where(x > 0, g, g * 0.5 * torch.exp(x)),
    ),
    ELU_HALF.backward(
        "exponential cut off below −5",
        "saturation",
        lambda g, x: torch.where(x > 0, g, g * 0.5 * torch.exp(x.clamp(-5, 0))),
    ),
)

BUGS = (*_sigmoid, *_tanh, *_relu, *_leaky_relu, *_elu)
ORIGINALS = (SIGMOID, TANH, RELU, LEAKY_RELU, ELU_HALF)
