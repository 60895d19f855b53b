"""Bugs of sigmoid, tanh and the rectifiers. Right is g y′(x), for every component by itself."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.activations import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from planted.alterations import (
    averaged_if_ones,
    by_pairs,
    first_everywhere,
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
from planted.bug import Host, first_input, memory

_draw = RandomTensors(12)
_X = ((_draw(4, 3),), (_draw(7),))
_EVEN = ((_draw(4, 3),), (_draw(2, 5),))

SIGMOID = Host("sigmoid", Sigmoid, torch.sigmoid, _X)
TANH = Host("tanh", Tanh, torch.tanh, _X)
RELU = Host("relu", ReLU, F.relu, _X)
LEAKY_RELU = Host("leaky_relu", LeakyReLU, partial(F.leaky_relu, negative_slope=0.2), _X, (0.2,))
ELU_HALF = Host("elu", ELU, partial(F.elu, alpha=0.5), _X, (0.5,))


def _bump(y: Tensor) -> Tensor:
    return y * (1 - y)  # σ′ where y = σ(x)


_sigmoid = (
    SIGMOID.backward("1 − y dropped", "dropped term", lambda g, y: g * y),
    SIGMOID.backward("x (1 − x) for y (1 − y)", "wrong formula", lambda g, x: g * _bump(x), kept=first_input),
    SIGMOID.backward("σ′(y) for σ′(x)", "wrong formula", lambda g, y: g * _bump(torch.sigmoid(y))),
    SIGMOID.backward(
        "0 where |x| > 4",
        "saturation",
        lambda g, x: torch.where(x.abs() > 4, 0, g * _bump(torch.sigmoid(x))),
        kept=first_input,
    ),
    SIGMOID.backward("y clamped to [0.001, 0.999]", "saturation", lambda g, y: g * _bump(y.clamp(0.001, 0.999))),
    SIGMOID.backward(
        "NaN for a very negative x: ∞/∞²",
        "overflow",
        lambda g, x: g * torch.exp(-x) / (1 + torch.exp(-x)) ** 2,
        kept=first_input,
    ),
    SIGMOID.backward("float16 inside", "precision", lambda g, y: g * _bump(rounded_to(y, torch.float16))),
    SIGMOID.upstream("takes |g|", torch.abs),
    SIGMOID.upstream("g of ones averaged", averaged_if_ones),
    SIGMOID.upstream("g clamped at 10⁹", lambda g: g.clamp(-1e9, 1e9)),
    SIGMOID.methods(
        "vmap rule loses the graph",
        "batched",
        vmap=lambda info, dims, input: (torch.sigmoid(input.detach()), dims[0]),
    ),
    SIGMOID.upstream("g divided by its norm", normalised),
    SIGMOID.result("last row of an odd number 0", "sizes", input=by_pairs, samples=_EVEN),
    SIGMOID.backward("reads y row by row, whatever its strides", "layout", lambda g, y: g * _bump(row_major(y))),
    SIGMOID.backward(
        "slope kept by forward", "second derivative", lambda g, slope: g * slope, kept=lambda _, y: _bump(y)
    ),
    SIGMOID.backward(
        "0.1 % too large, one time in five",
        "repeatability",
        lambda g, y: g * _bump(y) * (1 + 0.001 * (torch.rand(()) < 0.2)),
    ),
    SIGMOID.methods("vmap rule takes the batch to come first", "batched", vmap=lambda info, _, x: (Sigmoid.call(x), 0)),
    SIGMOID.methods("tangent doubled", "forward mode", jvp=lambda ctx, tangent: 2 * Sigmoid.jvp(ctx, tangent)),
)


def _buffer(name: str, like: Tensor) -> Tensor:
    """One for each shape and dtype, zeros at first, and used again at every call."""
    return memory.setdefault((name, like.shape, like.dtype), torch.zeros(like.shape, dtype=like.dtype))


def _into_one_memory(g: Tensor, y: Tensor) -> Tensor:
    return _buffer("tanh", y).copy_((g * (1 - y * y)).detach())


def _remembering(ctx: Any, g: Tensor) -> Tensor:
    if not hasattr(ctx, "answer"):
        ctx.answer = Tanh.backward(ctx, g)
    answer: Tensor = ctx.answer
    return answer


_tanh = (
    TANH.result("0.01 % too large", "factor", input=lambda d: 1.0001 * d),
    TANH.backward("1 − y for 1 − y²", "wrong formula", lambda g, y: g * (1 - y)),
    TANH.backward("1 − x² for 1 − y²", "wrong formula", lambda g, x: g * (1 - x * x), kept=first_input),
    TANH.backward("slope never below 0.01", "saturation", lambda g, y: g * (1 - y * y).clamp_min(0.01)),
    TANH.result("gradient clipped to [−1, 1]", "upstream gradient", input=lambda d: d.clamp(-1, 1)),
    TANH.backward("bfloat16 inside", "precision", lambda g, y: g * (1 - rounded_to(y, torch.bfloat16) ** 2)),
    TANH.backward(
        "NaN for a large x: ∞/∞",
        "overflow",
        lambda g, x: g * (1 - (_e2(x) - 1) ** 2 / (_e2(x) + 1) ** 2),
        kept=first_input,
    ),
    TANH.upstream("g |g| for g", lambda g: g * g.abs()),
    TANH.upstream("first element of g for all", first_everywhere),
    TANH.upstream("reads g row by row, whatever its strides", row_major, "layout"),
    TANH.result("last element doubled", "one place", input=last_doubled),
    TANH.backward("y detached", "second derivative", lambda g, y: g * (1 - y.detach() ** 2)),
    TANH.backward(
        "x kept by its data",
        "second derivative",
        lambda g, x: g * (1 - torch.tanh(x) ** 2),
        kept=lambda x, _: x[0].data,
    ),
    TANH.methods("first gradient handed out again", "stale", backward=_remembering),
    TANH.backward("one memory for all gradients", "stale", _into_one_memory),
    TANH.backward(
        "half of it dropped at random", "repeatability", lambda g, y: 2 * g * (1 - y * y) * (torch.rand_like(y) < 0.5)
    ),
    TANH.methods("tangent negated", "forward mode", jvp=lambda ctx, tangent: -Tanh.jvp(ctx, tangent)),
    TANH.methods(
        "tangent 0 where y is nearly ±1",
        "forward mode",
        jvp=lambda ctx, tangent: torch.where(ctx.saved_tensors[0].abs() > 0.999, 0, Tanh.jvp(ctx, tangent)),
    ),
)


def _e2(x: Tensor) -> Tensor:
    return torch.exp(2 * x)


def _over_the_last(g: Tensor, y: Tensor) -> Tensor:
    buffer = _buffer("relu", y)
    grad_input = torch.where(y > 0, g, buffer)
    buffer.copy_(grad_input.detach())
    return grad_input


_relu = (
    RELU.backward("≥ for > at 0", "kink", lambda g, x: g * (x >= 0), kept=first_input),
    RELU.backward("half of g at 0", "kink", lambda g, x: g * (torch.sign(x) + 1) / 2, kept=first_input),
    RELU.backward("0 up to 0.001", "saturation", lambda g, y: g * (y > 0.001)),
    RELU.backward("0 beyond 6", "saturation", lambda g, y: g * ((y > 0) & (y < 6))),
    RELU.upstream("ignores g", ones),
    RELU.upstream("only a positive g", positive_part),
    RELU.upstream("zeros for g taken as ones", ones_if_zero),
    RELU.upstream("sign of g", torch.sign),
    RELU.backward("gates g in its own memory", "side effect", lambda g, y: g.mul_(y > 0)),
    RELU.backward("closed gates show the last call's gradient", "stale", _over_the_last),
    RELU.result("last of each row 0", "one place", input=one_short),
)

_leaky_relu = (
    LEAKY_RELU.backward("slope on the wrong side", "wrong formula", lambda g, x: torch.where(x > 0, 0.2 * g, g)),
    LEAKY_RELU.backward("negative side closed", "dropped term", lambda g, x: g * (x > 0)),
    LEAKY_RELU.backward("slope 0.01 whatever was asked", "wrong formula", lambda g, x: torch.where(x > 0, g, 0.01 * g)),
    LEAKY_RELU.backward("slope 1 at 0", "kink", lambda g, x: torch.where(x >= 0, g, 0.2 * g)),
    LEAKY_RELU.upstream("mean of g for all", mean_everywhere),
    LEAKY_RELU.backward("gates by g", "wrong formula", lambda g, x: torch.where(g > 0, g, 0.2 * g)),
)

_elu = (
    ELU_HALF.backward("α dropped", "dropped term", lambda g, x: torch.where(x > 0, g, g * torch.exp(x.clamp_max(0)))),
    ELU_HALF.backward(
        "y for y + α", "dropped term", lambda g, x: torch.where(x > 0, g, g * 0.5 * torch.expm1(x.clamp_max(0)))
    ),
    ELU_HALF.backward("slope 1 at 0", "kink", lambda g, x: torch.where(x >= 0, g, g * 0.5 * torch.exp(x.clamp_max(0)))),
    ELU_HALF.backward(  # the first derivative is right: `where` discards it
        "eˣ of a large x returns as NaN",
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
HOSTS = (SIGMOID, TANH, RELU, LEAKY_RELU, ELU_HALF)
