"""Bugs of the smooth activations, softsign and tanhshrink. The correct gradient is g y′(x), elementwise."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.activations import Softsign, Tanhshrink
from bp_torch.functional.smooth_activations import GELU, GLU, GELUTanh, LogSigmoid, Mish, SiLU, Softplus
from planted.alterations import channels_first, rounded_to, row_major, without_offset, without_small
from planted.bug import Original

_draw = RandomTensors(13)
_X = ((_draw(3, 5),), (_draw(6),))

SOFTPLUS = Original("softplus", Softplus, partial(F.softplus, beta=2.0), _X, (2.0, 20.0))
SILU = Original("silu", SiLU, F.silu, _X)
GELU_ERF = Original("gelu", GELU, F.gelu, _X)
GELU_TANH = Original("gelu tanh", GELUTanh, partial(F.gelu, approximate="tanh"), _X)
MISH = Original("mish", Mish, lambda x: x * torch.tanh(F.softplus(x)), _X)
LOGSIGMOID = Original("logsigmoid", LogSigmoid, F.logsigmoid, _X)
SOFTSIGN = Original("softsign", Softsign, F.softsign, _X)
TANHSHRINK = Original("tanhshrink", Tanhshrink, F.tanhshrink, _X)
GLU_ROWS = Original("glu", GLU, partial(F.glu, dim=1), ((_draw(3, 4),), (_draw(2, 6),)), (1,))


def _softplus_slope(x: Tensor, threshold: float = 20) -> Tensor:
    return torch.where(2 * x > threshold, 1, torch.sigmoid(2 * x))


_softplus = (
    SOFTPLUS.backward("β applied twice", "factor", lambda g, x: 2 * g * _softplus_slope(x)),
    SOFTPLUS.backward("β forgotten", "dropped term", lambda g, x: g * torch.sigmoid(x)),
    SOFTPLUS.backward("σ(−βx) for σ(βx)", "sign", lambda g, x: g * torch.sigmoid(-2 * x)),
    SOFTPLUS.backward("linear beyond βx > 8", "saturation", lambda g, x: g * _softplus_slope(x, threshold=8)),
    SOFTPLUS.backward("NaN for a large x: ∞/∞", "overflow", lambda g, x: g * torch.exp(2 * x) / (1 + torch.exp(2 * x))),
    SOFTPLUS.backward("0 below −5", "saturation", lambda g, x: torch.where(x < -5, 0, g * _softplus_slope(x))),
)


def _silu_slope(x: Tensor, gate: Tensor) -> Tensor:
    return gate * (1 + x * (1 - gate))


def _wrong_under_create_graph(ctx: Any, g: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # under create_graph
        return g * torch.sigmoid(x)
    return g * _silu_slope(x, torch.sigmoid(x))


def _silu_tangent(ctx: Any, tangent: Tensor) -> Tensor:
    return tangent * torch.sigmoid(ctx.saved_tensors[0])


_silu = (
    SILU.backward("x σ′ dropped", "dropped term", lambda g, x: g * torch.sigmoid(x)),
    SILU.backward("σ dropped", "dropped term", lambda g, x: g * (_silu_slope(x, torch.sigmoid(x)) - torch.sigmoid(x))),
    SILU.backward(
        "NaN for a very negative x: ∞/∞",
        "overflow",
        lambda g, x: g * (1 + torch.exp(-x) * (1 + x)) / (1 + torch.exp(-x)) ** 2,
    ),
    SILU.backward("σ of clamped x", "saturation", lambda g, x: g * _silu_slope(x, torch.sigmoid(x.clamp(-6, 6)))),
    SILU.backward("overwrites the input", "side effect", lambda g, x: _overwriting(x, g)),
    SILU.backward(
        "float32 inside", "precision", lambda g, x: g * _silu_slope(x, torch.sigmoid(rounded_to(x, torch.float32)))
    ),
    SILU.upstream("small g replaced by 0", without_small),
    SILU.methods("x σ′ dropped under create_graph", "second derivative", backward=_wrong_under_create_graph),
    SILU.backward(  # y / x = σ(x) saves an exponential
        "NaN at 0: 0/0", "overflow", lambda g, x, y: g * _silu_slope(x, y / x), saved=lambda inputs, y: (inputs[0], y)
    ),
    SILU.methods("x σ′ dropped from the tangent", "forward mode", jvp=_silu_tangent),
)


def _overwriting(x: Tensor, g: Tensor) -> Tensor:
    slope = _silu_slope(x, torch.sigmoid(x))
    return g * x.data.copy_(slope.data)


def _cumulative(x: Tensor, root: float = math.sqrt(0.5)) -> Tensor:
    return 0.5 * torch.erfc(-root * x)


def _density(x: Tensor, height: float = 1 / math.sqrt(2 * math.pi)) -> Tensor:
    return height * torch.exp(-0.5 * x * x)


def _tanh_slope(x: Tensor, root: float = math.sqrt(2 / math.pi), kappa: float = 0.044715, cubic: float = 3) -> Tensor:
    t = torch.tanh(root * (x + kappa * x * x * x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + cubic * kappa * x * x)


_gelu = (
    GELU_ERF.backward("x φ dropped", "dropped term", lambda g, x: g * _cumulative(x)),
    GELU_ERF.backward("φ for x φ", "dropped term", lambda g, x: g * (_cumulative(x) + _density(x))),
    GELU_ERF.backward(
        "√½ forgotten in Φ", "wrong formula", lambda g, x: g * (_cumulative(x, root=1) + x * _density(x))
    ),
    GELU_ERF.backward("slope of the tanh form", "wrong formula", lambda g, x: g * _tanh_slope(x)),
    GELU_ERF.backward("slope of the sigmoid form", "wrong formula", lambda g, x: g * _sigmoid_form_slope(x)),
    GELU_ERF.backward("√½ ≈ 0.7071", "precision", lambda g, x: g * (_cumulative(x, root=0.7071) + x * _density(x))),
    GELU_ERF.backward(
        "1/√2π ≈ 0.3989423", "precision", lambda g, x: g * (_cumulative(x) + x * _density(x, height=0.3989423))
    ),
    GELU_ERF.backward(
        "0 below −3, identity above 3",
        "saturation",
        lambda g, x: g * torch.where(x.abs() > 3, (x > 0).to(x), _gelu_slope(x)),
    ),
    GELU_ERF.backward(
        "density detached", "second derivative", lambda g, x: g * (_cumulative(x) + x * _density(x).detach())
    ),
    GELU_ERF.backward(
        "ignores the stride of a vector",
        "layout",
        lambda g, x: g * _gelu_slope(row_major(x)),
        samples=((_draw(6),), (_draw(9),)),
    ),
    GELU_ERF.backward("ignores the storage offset of x", "layout", lambda g, x: g * _gelu_slope(without_offset(x))),
    GELU_ERF.backward(
        "ignores channels-last strides",
        "layout",
        lambda g, x: g * _gelu_slope(channels_first(x)),
        samples=((_draw(2, 3, 4, 4),),),
    ),
    GELU_ERF.backward(
        "slope of the tanh form below float64", "precision", lambda g, x: g * _tanh_slope_below_float64(x)
    ),
    GELU_ERF.methods(
        "tangent 0.01 % too large", "forward mode", jvp=lambda ctx, tangent: 1.0001 * GELU.jvp(ctx, tangent)
    ),
)


def _gelu_slope(x: Tensor) -> Tensor:
    return _cumulative(x) + x * _density(x)


def _sigmoid_form_slope(x: Tensor) -> Tensor:
    return _silu_slope(1.702 * x, torch.sigmoid(1.702 * x))  # of x σ(1.702 x)


def _tanh_slope_below_float64(x: Tensor) -> Tensor:
    return _gelu_slope(x) if x.dtype == torch.float64 else _tanh_slope(x)


_gelu_tanh = (
    GELU_TANH.backward("3 of x³'s derivative forgotten", "dropped term", lambda g, x: g * _tanh_slope(x, cubic=1)),
    GELU_TANH.backward("κ ≈ 0.0447", "precision", lambda g, x: g * _tanh_slope(x, kappa=0.0447)),
    GELU_TANH.backward("√(2/π) ≈ 0.79788456", "precision", lambda g, x: g * _tanh_slope(x, root=0.79788456)),
    GELU_TANH.backward("slope of the exact form", "wrong formula", lambda g, x: g * _gelu_slope(x)),
)


def _t(x: Tensor) -> Tensor:
    return torch.tanh(F.softplus(x))


def _mish_by_exponentials(g: Tensor, x: Tensor) -> Tensor:
    """The formula of the paper."""
    e = torch.exp(x)
    return g * e * (4 * (x + 1) + 4 * e**2 + e**3 + e * (4 * x + 6)) / (2 * e + e**2 + 2) ** 2


_mish = (
    MISH.backward("x sech² dropped", "dropped term", lambda g, x: g * _t(x)),
    MISH.backward("σ of softplus′ dropped", "dropped term", lambda g, x: g * (_t(x) + x * (1 - _t(x) ** 2))),
    MISH.backward("1 − t for 1 − t²", "wrong formula", lambda g, x: g * (_t(x) + x * torch.sigmoid(x) * (1 - _t(x)))),
    MISH.backward("NaN for a large x: ∞/∞", "overflow", _mish_by_exponentials),
    MISH.backward("slope of SiLU", "wrong formula", lambda g, x: g * _silu_slope(x, torch.sigmoid(x))),
)

_logsigmoid = (
    LOGSIGMOID.backward("σ(x) for σ(−x)", "sign", lambda g, x: g * torch.sigmoid(x)),
    LOGSIGMOID.backward("σ′ for σ′/σ", "dropped term", lambda g, x: g * torch.sigmoid(x) * torch.sigmoid(-x)),
    LOGSIGMOID.backward(
        "NaN for a very negative x: ∞/∞", "overflow", lambda g, x: g * torch.exp(-x) / (1 + torch.exp(-x))
    ),
    LOGSIGMOID.backward("y for e^y", "wrong formula", lambda g, y: g * (1 - y), saved=lambda _, y: y),
)

_softsign = (
    SOFTSIGN.backward("(1 + x)² without |·|", "wrong formula", lambda g, x: g / (1 + x) ** 2),
    SOFTSIGN.backward("not squared", "dropped term", lambda g, x: g / (1 + x.abs())),
    SOFTSIGN.backward("1 + x² for (1 + |x|)²", "wrong formula", lambda g, x: g / (1 + x * x)),
    SOFTSIGN.backward("|x| detached", "second derivative", lambda g, x: g / (1 + x.detach().abs()) ** 2),
)

_tanhshrink = (
    TANHSHRINK.backward("slope of tanh", "wrong formula", lambda g, x: g * (1 - torch.tanh(x) ** 2)),
    TANHSHRINK.backward("tanh for tanh²", "dropped term", lambda g, x: g * torch.tanh(x)),
    TANHSHRINK.backward("tanh² of y", "wrong formula", lambda g, y: g * torch.tanh(y) ** 2, saved=lambda _, y: y),
)


def _by_halves(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = x.chunk(2, 1)
    return a, b, torch.sigmoid(b)


def _glu(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    a, _, gate = _by_halves(x)
    return g * gate, g * a * _slope(gate)


def _slope(gate: Tensor) -> Tensor:
    return gate * (1 - gate)


def _glu_tangent(ctx: Any, tangent: Tensor, _: None) -> Tensor:
    return tangent.chunk(2, 1)[0] * _by_halves(ctx.saved_tensors[0])[2]


_gated = (
    GLU_ROWS.backward("halves exchanged", "position", lambda g, x: torch.cat(_glu(g, x)[::-1], 1)),
    GLU_ROWS.backward(
        "gate of the first half", "wrong formula", lambda g, x: torch.cat(_glu(g, x.roll(x.shape[1] // 2, 1)), 1)
    ),
    GLU_ROWS.backward("σ′ forgotten", "dropped term", lambda g, x: torch.cat([_glu(g, x)[0], g * _by_halves(x)[0]], 1)),
    GLU_ROWS.backward(
        "1 − σ forgotten",
        "dropped term",
        lambda g, x: torch.cat([_glu(g, x)[0], g * _by_halves(x)[0] * _by_halves(x)[2]], 1),
    ),
    GLU_ROWS.backward(
        "a forgotten", "dropped term", lambda g, x: torch.cat([_glu(g, x)[0], g * _slope(_by_halves(x)[2])], 1)
    ),
    GLU_ROWS.backward("gate without a gradient", "dropped term", lambda g, x: torch.cat([_glu(g, x)[0], 0 * g], 1)),
    GLU_ROWS.methods("tangent of the gate dropped", "forward mode", jvp=_glu_tangent),
)

BUGS = (*_softplus, *_silu, *_gelu, *_gelu_tanh, *_mish, *_logsigmoid, *_softsign, *_tanhshrink, *_gated)
ORIGINALS = (SOFTPLUS, SILU, GELU_ERF, GELU_TANH, MISH, LOGSIGMOID, SOFTSIGN, TANHSHRINK, GLU_ROWS)
