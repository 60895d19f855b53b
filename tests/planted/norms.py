"""Bugs of rms_norm, local_response_norm and normalize.

The correct gradients are (δ − x̂ mean(δ x̂)) / ρ with δ = γ g for rms_norm, gᵢ sᵢ^(−β) − 2αβ/n xᵢ Σⱼ gⱼ xⱼ sⱼ^(−β−1) for
local_response_norm, and (g − s Σ g y) / d for normalize.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.norms import LocalResponseNorm, LpNormalize, RMSNorm, norm_slope, window_sum
from planted.bug import Original

_draw = RandomTensors(20)
_EPS = 1e-3
_SIZE, _ALPHA, _BETA, _K = 4, 0.8, 0.75, 1.5
_LARGEST = 1.5

RMS = Original(
    "rms_norm",
    RMSNorm,
    lambda x, w: F.rms_norm(x, (3,), w, _EPS),
    ((_draw(5, 3), _draw(3)), (_draw(2, 3, 3), _draw(3))),
    ((3,), _EPS),
)
RESPONSE = Original(
    "local_response_norm",
    LocalResponseNorm,
    lambda x: F.local_response_norm(x, _SIZE, _ALPHA, _BETA, _K),
    ((_draw(2, 6, 2),), (_draw(2, 3, 2, 2),)),
    (_SIZE, _ALPHA, _BETA, _K),
)
NORMALIZE = Original("normalize", LpNormalize, F.normalize, ((_draw(4, 3),), (_draw(2, 3, 2),)), (2.0, 1, 1e-12))
CUBIC = Original("normalize with p = 3", LpNormalize, partial(F.normalize, p=3.0), NORMALIZE.samples, (3.0, 1, 1e-12))
BOUNDED = Original(  # for some rows, ε is larger than the norm
    "normalize with a large ε", LpNormalize, partial(F.normalize, eps=_LARGEST), NORMALIZE.samples, (2.0, 1, _LARGEST)
)


def _rms(terms: Callable[..., Tensor], mean_of: Callable[[Tensor], Tensor] = torch.square) -> Callable[..., Any]:
    """(δ, x̂, 1/ρ) -> ∂C/∂x, with ρ² = mean_of(x) averaged + ε."""

    def equation(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        r = torch.rsqrt(mean_of(x).mean(-1, keepdim=True) + _EPS)
        return terms(g * weight, x * r, r), (g * x * r).flatten(0, -2).sum(0)

    return equation


def _mean(x: Tensor) -> Tensor:
    return x.mean(-1, keepdim=True)


def _correct_rms(delta: Tensor, x_hat: Tensor, r: Tensor) -> Tensor:
    return (delta - x_hat * _mean(delta * x_hat)) * r


_rms_norm = (
    RMS.backward("projection dropped", "dropped term", _rms(lambda d, x, r: d * r)),
    RMS.backward(
        "layer_norm's mean(δ) too", "wrong formula", _rms(lambda d, x, r: _correct_rms(d, x, r) - _mean(d) * r)
    ),
    RMS.backward("sum for mean(δ x̂)", "reduction", _rms(lambda d, x, r: (d - x * (d * x).sum(-1, True)) * r)),
    RMS.backward("x for x̂ in the projection", "wrong formula", _rms(lambda d, x, r: (d - x / r * _mean(d * x)) * r)),
    RMS.backward("1/ρ² for 1/ρ", "wrong formula", _rms(lambda d, x, r: _correct_rms(d, x, r) * r)),
    RMS.backward("variance for the mean square", "wrong formula", _rms(_correct_rms, lambda x: (x - _mean(x)) ** 2)),
    RMS.backward("ε forgotten", "epsilon", _rms(_correct_rms, lambda x: x * x - _EPS)),
    RMS.backward(
        "ρ detached in the backward", "second derivative", _rms(lambda d, x, r: _correct_rms(d, x, r.detach()))
    ),
    RMS.backward(
        "x for x̂ in γ's gradient",
        "wrong formula",
        lambda g, x, w: (_rms(_correct_rms)(g, x, w)[0], (g * x).flatten(0, -2).sum(0)),
    ),
)


def _response(
    *, before: int = (_SIZE - 1) // 2, factor: float = 2 * _ALPHA * _BETA / _SIZE, power: float = -_BETA - 1
) -> Callable[[Tensor, Tensor], Tensor]:
    """The equation with another window, factor or power in its second term."""

    def equation(g: Tensor, x: Tensor) -> Tensor:
        s = _K + _ALPHA / _SIZE * window_sum(x * x, _SIZE // 2, _SIZE)
        return g * s**-_BETA - factor * x * window_sum(g * x * s**power, before, _SIZE)

    return equation


def _own_channel(g: Tensor, x: Tensor) -> Tensor:
    s = _K + _ALPHA / _SIZE * window_sum(x * x, _SIZE // 2, _SIZE)
    return g * s**-_BETA - 2 * _ALPHA * _BETA / _SIZE * g * x * x * s ** (-_BETA - 1)


_local_response_norm = (
    RESPONSE.backward("s taken for a constant", "dropped term", _response(factor=0.0)),
    RESPONSE.backward("window not mirrored", "position", _response(before=_SIZE // 2)),
    RESPONSE.backward("own channel only", "dropped term", _own_channel),
    RESPONSE.backward("factor 2 forgotten", "factor", _response(factor=_ALPHA * _BETA / _SIZE)),
    RESPONSE.backward("α not divided by n", "reduction", _response(factor=2 * _ALPHA * _BETA)),
    RESPONSE.backward("β forgotten", "factor", _response(factor=2 * _ALPHA / _SIZE)),
    RESPONSE.backward("power −β for −β − 1", "wrong formula", _response(power=-_BETA)),
    RESPONSE.backward("+ for −", "sign", _response(factor=-2 * _ALPHA * _BETA / _SIZE)),
)


def _normalized(
    slope_of: Callable[[Tensor, Tensor], Tensor], *, eps: float = 1e-12, p: float = 2.0, dim: int = 1
) -> Callable[[Tensor, Tensor], Tensor]:
    """The equation with another slope of the norm, or a projection along another axis."""

    def equation(g: Tensor, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, p, 1, keepdim=True)
        divisor = norm.clamp_min(eps)
        return (g - slope_of(x, norm) * (g * x / divisor).sum(dim, keepdim=True)) / divisor

    return equation


def _euclidean(x: Tensor, norm: Tensor) -> Tensor:
    return x / norm.clamp_min(1e-12)


_normalize = (
    NORMALIZE.backward("projection dropped", "dropped term", _normalized(lambda x, norm: 0 * x)),
    NORMALIZE.backward("x for y in the projection", "wrong formula", _normalized(lambda x, norm: x)),
    NORMALIZE.backward("projection along the batch", "reduction", _normalized(_euclidean, dim=0)),
    NORMALIZE.backward("sign of x lost", "sign", _normalized(lambda x, norm: _euclidean(x, norm).abs())),
    NORMALIZE.backward("NaN at a row of zeros", "overflow", _normalized(lambda x, norm: x / norm)),
    NORMALIZE.backward("norm detached", "second derivative", _normalized(lambda x, norm: _euclidean(x, norm.detach()))),
    NORMALIZE.upstream("g normalised too", lambda g: g / torch.linalg.vector_norm(g, dim=1, keepdim=True)),
    CUBIC.backward("slope of the Euclidean norm", "wrong formula", _normalized(_euclidean, p=3.0)),
    CUBIC.backward(
        "power p for p − 1", "wrong formula", _normalized(lambda x, norm: norm_slope(x, norm, 4.0, 1), p=3.0)
    ),
    CUBIC.backward("x² for x |x|", "sign", _normalized(lambda x, norm: (x / norm.clamp_min(1e-12)) ** 2, p=3.0)),
    BOUNDED.backward("projection below ε too", "wrong formula", _normalized(_euclidean, eps=_LARGEST)),
    BOUNDED.backward("ε forgotten", "epsilon", _normalized(_euclidean)),
    BOUNDED.backward("projection nowhere", "dropped term", _normalized(lambda x, norm: 0 * x, eps=_LARGEST)),
)

BUGS = (*_rms_norm, *_local_response_norm, *_normalize)
ORIGINALS = (RMS, RESPONSE, NORMALIZE, CUBIC, BOUNDED)
