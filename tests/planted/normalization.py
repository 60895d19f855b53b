"""Bugs of batch normalization, and of its running statistics."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.normalization import builtin_batch_norm
from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.normalization import BatchNorm, InstanceNorm, WithRunningStatistics
from bp_torch.functional.standardize import summed
from bp_torch.sample import Sample
from planted.alterations import first_row_negated, ones, rounded_to, row_major
from planted.bug import Bug, Original
from planted.standardized import (
    EPS,
    by_inverse,
    correct_terms,
    correctly,
    detached_mean,
    detached_sigma,
    detached_x_hat,
    equation_of,
    from_squares,
    unbiased,
)

_draw = RandomTensors(19)
_RUNNING = _draw(3), _draw(3).square() + 0.5
_OUTPUTS = (_draw(5, 3), _draw(3), _draw(3))
_IMAGES = (_draw(3, 2, 2, 2), _draw(2), _draw(2))


def _batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return builtin_batch_norm(x, None, None, weight, bias, training=True, eps=EPS)


def _evaluated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return builtin_batch_norm(x, *(each.to(x.dtype) for each in _RUNNING), weight, bias, eps=EPS)


BATCH = Original("batch_norm", BatchNorm, _batch_norm, (_OUTPUTS, _IMAGES), (None, None, 0.0, EPS, None))
TRACKING = Original(
    "batch_norm with running statistics", BatchNorm, _batch_norm, (_OUTPUTS,), (*_RUNNING, 0.0, EPS, None)
)
EVALUATION = Original(
    "batch_norm in evaluation",
    WithRunningStatistics,
    _evaluated,
    (_OUTPUTS, (_draw(2, 3, 2), _draw(3), _draw(3))),
    (*_RUNNING, EPS),
)
FAR = replace(
    BATCH,
    name="batch_norm of a large mean",
    samples=(Sample((_draw(5, 3) + 300, _draw(3), _draw(3)), axes="5 3, 3, 3"),),
)

_BATCH = BatchNorm.layout
_of_batch = partial(equation_of, _BATCH)


def _tangent_of_direct_term(ctx: Any, t: Tensor, *_: Any) -> Tensor:
    x, weight = ctx.saved_tensors
    _, r = correctly(x, partial(torch.mean, dim=_BATCH(x.shape).axes, keepdim=True))
    return t * r * _BATCH(x.shape).view_affine(weight)


def _sum_of(pick: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """The correct input gradient, but γ's from a part of g x̂."""

    def equation(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        grad_input, _, grad_bias = _of_batch()(g, x, weight)
        x_hat, _ = correctly(x, partial(torch.mean, dim=_BATCH(x.shape).axes, keepdim=True))
        return grad_input, pick(g * x_hat), grad_bias

    return equation


_batch = (
    BATCH.backward("mean(δ) dropped", "dropped term", _of_batch(lambda d, x, r, mean: (d - x * mean(d * x)) * r)),
    BATCH.backward("x̂ mean(δ x̂) dropped", "dropped term", _of_batch(lambda d, x, r, mean: (d - mean(d)) * r)),
    BATCH.backward("statistics taken for constants", "dropped term", _of_batch(lambda d, x, r, mean: d * r)),
    BATCH.backward("+ for − x̂ mean(δ x̂)", "sign", _of_batch(lambda d, x, r, mean: (d - mean(d) + x * mean(d * x)) * r)),
    BATCH.backward(
        "x − μ for x̂ in the projection",
        "wrong formula",
        _of_batch(lambda d, x, r, mean: (d - mean(d) - x / r * mean(d * x)) * r),
    ),
    BATCH.backward(
        "mean(δ) mean(x̂) for mean(δ x̂)",
        "wrong formula",
        _of_batch(lambda d, x, r, mean: (d - mean(d) - x * mean(d) * mean(x)) * r),
    ),
    BATCH.backward(
        "sums for means",
        "reduction",
        _of_batch(lambda d, x, r, mean: (d - (mean(d) + x * mean(d * x)) * d.numel() / mean(d).numel()) * r),
    ),
    BATCH.backward(
        "n − 1 for n in the means",
        "reduction",
        _of_batch(lambda d, x, r, mean: (d - (mean(d) + x * mean(d * x)) / (1 - mean(d).numel() / d.numel())) * r),
    ),
    BATCH.backward("1/σ³ for 1/σ", "wrong formula", _of_batch(lambda *terms: correct_terms(*terms) * terms[2] ** 2)),
    BATCH.backward("σ for 1/σ", "wrong formula", _of_batch(lambda *terms: correct_terms(*terms) / terms[2] ** 2)),
    BATCH.backward("unbiased variance", "reduction", _of_batch(standardized=unbiased)),
    BATCH.backward(
        "σ + ε for √(variance + ε)", "epsilon", _of_batch(standardized=by_inverse(lambda v: 1 / (v.sqrt() + EPS)))
    ),
    BATCH.backward("ε forgotten", "epsilon", _of_batch(standardized=by_inverse(torch.rsqrt))),
    BATCH.backward("statistics of each image", "reduction", equation_of(InstanceNorm.layout), samples=(_IMAGES,)),
    BATCH.backward("statistics over the batch only", "reduction", _of_batch(axes=(0,)), samples=(_IMAGES,)),
    BATCH.backward("statistics of all channels", "reduction", _of_batch(axes=(0, 1)), samples=(_OUTPUTS,)),
    BATCH.backward(
        "mean(δ x̂) over the channels",
        "reduction",
        _of_batch(lambda d, x, r, mean: (d - mean(d) - x * (d * x).mean(1, keepdim=True)) * r),
    ),
    BATCH.backward(
        "float32 mean of δ",
        "precision",
        _of_batch(lambda d, x, r, mean: correct_terms(d, x, r, lambda v: rounded_to(mean(v), torch.float32))),
    ),
    FAR.backward("E[x²] − E[x]²", "cancellation", _of_batch(standardized=from_squares)),
    BATCH.backward(
        "γ forgotten",
        "dropped term",
        lambda g, x, w: (*_of_batch()(g, x, torch.ones_like(w))[:1], *_of_batch()(g, x, w)[1:]),
    ),
    BATCH.backward(
        "γ squared", "wrong formula", lambda g, x, w: (*_of_batch()(g, x, w * w)[:1], *_of_batch()(g, x, w)[1:])
    ),
    BATCH.backward(
        "γ's gradient of the first position",
        "position",
        _sum_of(lambda p: p.flatten(2)[..., 0].sum(0)),
        samples=(_IMAGES,),
    ),
    BATCH.backward(
        "γ's gradient of the first example", "position", _sum_of(lambda p: p[0].reshape(p.shape[1], -1).sum(1))
    ),
    BATCH.backward("γ's gradient averaged", "reduction", _sum_of(lambda p: p.mean(_BATCH(p.shape).axes))),
    BATCH.backward(
        "x for x̂ in γ's gradient",
        "wrong formula",
        lambda g, x, w: (
            _of_batch()(g, x, w)[0],
            summed(g * x, _BATCH(x.shape).axes).reshape(w.shape),
            _of_batch()(g, x, w)[2],
        ),
    ),
    BATCH.result("β's gradient averaged over the channels", "reduction", bias=lambda d: d.mean().expand_as(d)),
    BATCH.result("β's gradient halved", "factor", bias=lambda d: d / 2),
    BATCH.result("first row negated", "sign", input=first_row_negated),
    BATCH.upstream("ones for g", ones),
    BATCH.backward("reads x without its strides", "layout", lambda g, x, w: _of_batch()(g, row_major(x), w)),
    BATCH.backward("x̂ saved by forward", "second derivative", _of_batch(standardized=detached_x_hat)),
    BATCH.backward("μ detached in the backward", "second derivative", _of_batch(standardized=detached_mean)),
    BATCH.backward("σ detached in the backward", "second derivative", _of_batch(standardized=detached_sigma)),
    BATCH.methods("tangent without the terms through μ and σ", "forward mode", jvp=_tangent_of_direct_term),
)


def _from_constants(g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor, eps: float = EPS) -> Any:
    """The gradients in evaluation."""
    layout = _BATCH(x.shape)
    r = torch.rsqrt(layout.view_affine(var) + eps)
    x_hat = (x - layout.view_affine(mean)) * r
    sums = (summed(each, layout.axes).reshape(weight.shape) for each in (g * x_hat, g))
    return g * layout.view_affine(weight) * r, *sums


_running = (
    TRACKING.backward(
        "running statistics for the batch's",
        "wrong formula",
        _from_constants,
        saved=lambda inputs, _: (*inputs[:2], *_RUNNING),
    ),
    TRACKING.backward(
        "the batch's mean, but the running variance",
        "wrong formula",
        lambda g, x, w: _of_batch(standardized=by_inverse(lambda v: torch.rsqrt(_RUNNING[1] + EPS + 0 * v)))(g, x, w),
    ),
    EVALUATION.backward(
        "the three terms of training",
        "wrong formula",
        lambda g, x, w, *_: _of_batch(standardized=lambda v, _: _with_running_statistics(v))(g, x, w),
    ),
    EVALUATION.backward("the batch's statistics", "wrong formula", lambda g, x, w, *_: _of_batch()(g, x, w)),
    EVALUATION.backward("ε forgotten", "epsilon", partial(_from_constants, eps=0.0)),
    EVALUATION.backward(
        "1/σ² for 1/σ", "wrong formula", lambda g, x, w, m, v: _from_constants(g, x, w, m, (v + EPS) ** 2 - EPS)
    ),
    EVALUATION.backward(
        "running mean ignored", "dropped term", lambda g, x, w, m, v: _from_constants(g, x, w, 0 * m, v)
    ),
    EVALUATION.backward(
        "γ forgotten",
        "dropped term",
        lambda g, x, w, m, v: (_from_constants(g, x, 0 * w + 1, m, v)[0], *_from_constants(g, x, w, m, v)[1:]),
    ),
)


def _with_running_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean, var = map(_BATCH(x.shape).view_affine, _RUNNING)
    r = torch.rsqrt(var + EPS)
    return (x - mean) * r, r


Update = Callable[[Tensor, Tensor, Tensor, Tensor], None]
_TRACKED = Sample((_draw(5, 3), *_RUNNING, _draw(3), _draw(3)), buffers=("running_mean", "running_var"))


def _updating(name: str, kind: str, update: Update) -> Bug:
    """A correct gradient, but `update(running_mean, running_var, mean, variance)` for the running statistics."""

    def batch_norm(x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        update(running_mean, running_var, x.detach().mean(0), x.detach().var(0))
        return BatchNorm.call(x, weight, bias, None, None, 0.0, EPS, None)

    return Bug(f"batch_norm: {name}", kind, batch_norm, _tracking, (_TRACKED,))


def _tracking(x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return builtin_batch_norm(x, running_mean, running_var, weight, bias, training=True, momentum=0.1, eps=EPS)


_buffers = (
    _updating(
        "momentum the wrong way round", "wrong formula", lambda m, v, mean, var: (m.lerp_(mean, 0.9), v.lerp_(var, 0.9))
    ),
    _updating(
        "running variance biased", "reduction", lambda m, v, mean, var: (m.lerp_(mean, 0.1), v.lerp_(var * 4 / 5, 0.1))
    ),
    _updating(
        "running standard deviation",
        "wrong formula",
        lambda m, v, mean, var: (m.lerp_(mean, 0.1), v.lerp_(var.sqrt(), 0.1)),
    ),
    _updating("running mean not updated", "stale", lambda m, v, mean, var: v.lerp_(var, 0.1)),
    _updating(
        "running statistics of the last batch", "wrong formula", lambda m, v, mean, var: (m.copy_(mean), v.copy_(var))
    ),
)


BUGS = (*_batch, *_running, *_buffers)
ORIGINALS = (BATCH, FAR, TRACKING, EVALUATION)
