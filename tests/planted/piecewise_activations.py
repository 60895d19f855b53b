"""Bugs of clipping, shrinkage, piecewise gates and the further rectifiers. The correct gradient is g y′(x)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.piecewise_activations import (
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    Softshrink,
    Threshold,
)
from bp_torch.functional.rectifiers import CELU, SELU, SELU_ALPHA, SELU_SCALE, PReLU
from planted.bug import Original

_draw = RandomTensors(19)
_X = ((_draw(4, 3, scale=2),), (_draw(7, scale=2),))

HARDTANH = Original("hardtanh", Hardtanh, F.hardtanh, _X, (-1.0, 1.0))
RELU6 = Original("relu6", Hardtanh, F.relu6, _X, (0, 6))
THRESHOLD = Original("threshold", Threshold, partial(F.threshold, threshold=0.5, value=2.0), _X, (0.5, 2.0))
HARDSHRINK = Original("hardshrink", Hardshrink, partial(F.hardshrink, lambd=0.8), _X, (0.8,))
SOFTSHRINK = Original("softshrink", Softshrink, partial(F.softshrink, lambd=0.8), _X, (0.8,))
HARDSIGMOID = Original("hardsigmoid", Hardsigmoid, lambda x: F.relu6(x + 3) / 6, _X)
HARDSWISH = Original("hardswish", Hardswish, F.hardswish, _X)
SELU_ = Original("selu", SELU, F.selu, _X)
CELU_HALF = Original("celu", CELU, partial(F.celu, alpha=0.5), _X, (0.5,))
PRELU = Original("prelu", PReLU, F.prelu, ((_draw(4, 3), _draw(3)), (_draw(3, 2, 4), _draw(2))))
_SQUARES = ((_draw(2, 3, 3), _draw(3)),)

_clipping = (
    HARDTANH.backward("0 inside, g outside", "wrong formula", lambda g, x: g * (x.abs() >= 1)),
    HARDTANH.backward("1 − y² of tanh", "wrong formula", lambda g, x: g * (1 - x.clamp(-1, 1) ** 2)),
    HARDTANH.backward("clipped above only", "dropped term", lambda g, x: g * (x < 1)),
    HARDTANH.backward("gradient clipped too", "upstream gradient", lambda g, x: g.clamp(-1, 1) * (x.abs() < 1)),
    RELU6.backward("6 forgotten", "saturation", lambda g, x: g * (x > 0)),
    RELU6.backward("slope 1 at 0", "kink", lambda g, x: g * ((x >= 0) & (x < 6))),
    THRESHOLD.backward("0 for the threshold", "wrong formula", lambda g, x: g * (x > 0)),
    THRESHOLD.backward("g times the value below", "wrong formula", lambda g, x: torch.where(x > 0.5, g, 2 * g)),
    THRESHOLD.backward("straight through", "dropped term", lambda g, x: g),
    THRESHOLD.backward("threshold on g", "upstream gradient", lambda g, x: g * (x > 0.5) * (g > 0.5)),
)

_shrinkage = (
    HARDSHRINK.backward("positive side only", "dropped term", lambda g, x: g * (x > 0.8)),
    HARDSHRINK.backward("default λ = 0.5 always used", "wrong formula", lambda g, x: g * (x.abs() > 0.5)),
    HARDSHRINK.backward("g inside, 0 outside", "wrong formula", lambda g, x: g * (x.abs() <= 0.8)),
    SOFTSHRINK.backward("sign(x) where |x| > λ", "sign", lambda g, x: g * x.sign() * (x.abs() > 0.8)),
    SOFTSHRINK.backward("y/x for 1", "wrong formula", lambda g, x: g * (1 - 0.8 / x.abs()).clamp_min(0)),
    SOFTSHRINK.backward("threshold on g", "upstream gradient", lambda g, x: g * (g.abs() > 0.8)),
)

_gates = (
    HARDSIGMOID.backward("1/6 forgotten", "factor", lambda g, x: g * (x.abs() < 3)),
    HARDSIGMOID.backward("1/6 everywhere", "saturation", lambda g, x: g / 6),
    HARDSIGMOID.backward("y (1 − y) of σ", "wrong formula", lambda g, x: g * _gate(x) * (1 - _gate(x))),
    HARDSIGMOID.backward("1/6 ≈ 0.1667", "precision", lambda g, x: g * 0.1667 * (x.abs() < 3)),
    HARDSWISH.backward("x h′ dropped", "dropped term", lambda g, x: g * _gate(x)),
    HARDSWISH.backward("h dropped", "dropped term", lambda g, x: g * x * (x.abs() < 3) / 6),
    HARDSWISH.backward("(2x + 3)/6 everywhere", "saturation", lambda g, x: g * (2 * x + 3) / 6),
    HARDSWISH.backward("0 beyond 3", "saturation", lambda g, x: g * (2 * x + 3) / 6 * (x.abs() < 3)),
    HARDSWISH.backward("h detached", "second derivative", lambda g, x: g * (_gate(x).detach() + x * (x.abs() < 3) / 6)),
)


def _gate(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


def _selu_slope(x: Tensor) -> Tensor:
    return torch.where(x > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * torch.exp(x.clamp_max(0)))


def _negative(x: Tensor, alpha: float) -> Tensor:
    return torch.exp(x.clamp_max(0) / alpha)


_scaled = (
    SELU_.backward("scale λ forgotten", "factor", lambda g, x: g * _selu_slope(x) / SELU_SCALE),
    SELU_.backward(
        "λ only where positive",
        "dropped term",
        lambda g, x: torch.where(x > 0, SELU_SCALE * g, g * SELU_ALPHA * torch.exp(x.clamp_max(0))),
    ),
    SELU_.backward("α forgotten", "dropped term", lambda g, x: g * SELU_SCALE * _negative(x, 1)),
    SELU_.backward(
        "α ≈ 1.6733",
        "precision",
        lambda g, x: torch.where(x > 0, g * SELU_SCALE, g * SELU_SCALE * 1.6733 * _negative(x, 1)),
    ),
    SELU_.backward("slope λ at 0", "kink", lambda g, x: g * torch.where(x == 0, SELU_SCALE, _selu_slope(x))),
    CELU_HALF.backward(
        "α outside: α e^(x/α)", "factor", lambda g, x: torch.where(x > 0, g, 0.5 * g * _negative(x, 0.5))
    ),
    CELU_HALF.backward("e^(x/α) / α", "factor", lambda g, x: torch.where(x > 0, g, g * _negative(x, 0.5) / 0.5)),
    CELU_HALF.backward("eˣ for e^(x/α)", "wrong formula", lambda g, x: g * _negative(x, 1)),
    CELU_HALF.backward("slope of elu", "wrong formula", lambda g, x: torch.where(x > 0, g, g * 0.5 * _negative(x, 1))),
    CELU_HALF.backward(  # correct in the first derivative, where `where` discards it
        "NaN for a large x: e^(x/α) overflows",
        "second derivative",
        lambda g, x: torch.where(x > 0, g, g * torch.exp(x / 0.5)),
    ),
)


def _grad_input(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    return torch.where(x > 0, g, PReLU.along_channels(w, x) * g)


def _per_element(g: Tensor, x: Tensor) -> Tensor:
    return g * x.clamp_max(0)  # to be summed over all dimensions but the second


def _summed(terms: Tensor) -> Tensor:
    return terms.transpose(0, 1).flatten(1).sum(1)


def _both(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return _grad_input(g, x, w), _summed(_per_element(g, x))


def _no_weight_gradient_alone(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    grad_input, grad_weight = PReLU.backward(ctx, g)
    return grad_input, grad_weight if grad_input is not None or grad_weight is None else torch.zeros_like(grad_weight)


_prelu = (
    PRELU.backward(
        "slope on the wrong side",
        "wrong formula",
        lambda g, x, w: (torch.where(x > 0, PReLU.along_channels(w, x) * g, g), _both(g, x, w)[1]),
    ),
    PRELU.backward(
        "slope of the first channel for all", "position", lambda g, x, w: (_grad_input(g, x, w[:1]), _both(g, x, w)[1])
    ),
    PRELU.backward(
        "slopes along the last dimension",
        "transposed",
        lambda g, x, w: (torch.where(x > 0, g, w * g), _both(g, x, w)[1]),
        samples=_SQUARES,
    ),
    PRELU.backward(
        "slope 1 at 0", "kink", lambda g, x, w: (torch.where(x == 0, g, _grad_input(g, x, w)), _both(g, x, w)[1])
    ),
    PRELU.backward(
        "weight gradient of the first example",
        "reduction",
        lambda g, x, w: (_grad_input(g, x, w), _summed(_per_element(g, x)[:1])),
    ),
    PRELU.backward(
        "weight gradient of the first pixel",
        "reduction",
        lambda g, x, w: (_grad_input(g, x, w), _per_element(g, x).flatten(2)[..., 0].sum(0)),
        samples=(PRELU.samples[1],),
    ),
    PRELU.backward(
        "weight gradient of x everywhere", "dropped term", lambda g, x, w: (_grad_input(g, x, w), _summed(g * x))
    ),
    PRELU.backward(
        "weight gradient of |x|", "sign", lambda g, x, w: (_grad_input(g, x, w), -_summed(_per_element(g, x)))
    ),
    PRELU.backward(
        "weight gradient times w", "factor", lambda g, x, w: (_grad_input(g, x, w), w * _summed(_per_element(g, x)))
    ),
    PRELU.result("weight gradient averaged over the batch", "reduction", weight=lambda d: d / 3),
    PRELU.methods("no weight gradient if the input is frozen", "subset", backward=_no_weight_gradient_alone),
    PRELU.methods(
        "tangent of the weight dropped",
        "forward mode",
        jvp=lambda ctx, tangent, _: PReLU.jvp(ctx, tangent, torch.zeros_like(ctx.saved_tensors[1])),
    ),
)

BUGS = (*_clipping, *_shrinkage, *_gates, *_scaled, *_prelu)
ORIGINALS = (HARDTANH, RELU6, THRESHOLD, HARDSHRINK, SOFTSHRINK, HARDSIGMOID, HARDSWISH, SELU_, CELU_HALF, PRELU)
