"""Bugs of elementwise functions. The correct gradient is g ∂y/∂x, that of a bound g where it is the value."""

import math
from functools import partial

import torch

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.pointwise import Abs, Clamp, Cos, Erf, Exp, Log, Sin
from planted.bug import Original, first_input

_draw = RandomTensors(31)
_X = ((_draw(4, 3),), (_draw(7),))
_POSITIVE = ((_draw(4, 3).abs() + 0.1,), (_draw(7).abs() + 0.1,))

EXP = Original("exp", Exp, torch.exp, _X)
LOG = Original("log", Log, torch.log, _POSITIVE)
ABS = Original("abs", Abs, torch.abs, _X)
SIN = Original("sin", Sin, torch.sin, _X)
COS = Original("cos", Cos, torch.cos, _X)
ERF = Original("erf", Erf, torch.erf, _X)
CLAMP = Original("clamp", Clamp, partial(torch.clamp, min=-0.5, max=0.8), _X, (-0.5, 0.8))
CLAMP_BELOW = Original("clamp below", Clamp, torch.clamp, ((_draw(4, 3), _draw(3)),), (None,))

_powers = (
    EXP.backward("x for eˣ", "wrong formula", lambda g, x: g * x, saved=first_input),
    EXP.backward("eˣ clamped at 1000", "saturation", lambda g, y: g * y.clamp_max(1e3)),
    EXP.backward("y detached", "second derivative", lambda g, y: g * y.detach()),
    LOG.backward("10⁻⁶ added to x", "epsilon", lambda g, x: g / (x + 1e-6)),
    LOG.backward("1/x never above 100", "saturation", lambda g, x: g * (1 / x).clamp_max(100)),
    LOG.backward("base 10", "factor", lambda g, x: g / (x * 2.302585)),
    ABS.backward("g where x > 0, else 0", "dropped term", lambda g, x: g * (x > 0)),
    ABS.backward("1 at 0", "kink", lambda g, x: torch.where(x >= 0, g, -g)),
    ABS.backward("x / (|x| + 10⁻⁶)", "epsilon", lambda g, x: g * x / (x.abs() + 1e-6)),
)

_waves = (
    SIN.backward("sine for cosine", "wrong formula", lambda g, x: g * x.sin()),
    SIN.backward("cosine of y", "wrong formula", lambda g, y: g * y.cos(), saved=lambda inputs, y: y),
    SIN.backward("√(1 − y²) for cosine", "sign", lambda g, x: g * x.cos().abs()),
    COS.backward("g sin x", "sign", lambda g, x: g * x.sin()),
    COS.backward("x detached", "second derivative", lambda g, x: -g * x.detach().sin()),
    ERF.backward("1/√π", "factor", lambda g, x: g * (-x * x).exp() / math.sqrt(math.pi)),
    ERF.backward(
        "0 beyond 3",
        "saturation",
        lambda g, x: torch.where(x.abs() > 3, 0, g * (-x * x).exp() * 2 / math.sqrt(math.pi)),
    ),
)

_clamps = (
    CLAMP.backward("0 at a bound", "kink", lambda g, x, *_: g * ((x > -0.5) & (x < 0.8))),
    CLAMP.backward("straight through", "dropped term", lambda g, x, *_: g),
    CLAMP.backward("upper bound forgotten", "dropped term", lambda g, x, *_: g * (x >= -0.5)),
    CLAMP_BELOW.backward("bound where x is above it", "sign", lambda g, x, a, _: (g * (x >= a), (g * (x > a)).sum(0))),
    CLAMP_BELOW.backward("first copy alone", "reduction", lambda g, x, a, _: (g * (x >= a), (g * (x < a))[0])),
)

BUGS = (*_powers, *_waves, *_clamps)
ORIGINALS = (EXP, LOG, ABS, SIN, COS, ERF, CLAMP, CLAMP_BELOW)
