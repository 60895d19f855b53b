"""Bugs of rounding in bfloat16 and float16: sums, saved statistics, truncation, cancellation, two roundings."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from planted.bug import Bug, as_tuple
from planted.low_precision import operations as ops
from planted.low_precision.operation import BF16, FP16, FP32, Equation, Operation, by_rows, is_low, tiles, up


def _sum_rows(terms: Tensor) -> Tensor:
    return by_rows(terms, terms.new_zeros(terms.shape[1:]))


def _sum_tiles(terms: Tensor, size: int) -> Tensor:
    """Tiles summed in float32, their sums added in the low dtype."""
    return by_rows((up(tile).sum(0) for tile in tiles(terms, size)), terms.new_zeros(terms.shape[1:]))


def _normal(x: Tensor, rstd: Tensor) -> Tensor:
    return (up(x) * rstd).to(x.dtype)


def _layer_norm_by_tiles(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Any:
    mean, rstd = ops.layer_statistics(up(x))
    normal = ((up(x) - mean) * rstd).to(x.dtype)
    return ops.LAYER_NORM.right(g, x, w, b)[0], _sum_tiles(g * normal, 8), _sum_tiles(g, 8)


def _attention_by_tiles(g: Tensor, q: Tensor, k: Tensor, v: Tensor, size: int = 4) -> Any:
    grad_k, grad_v, grad_q = torch.zeros_like(k), torch.zeros_like(v), []
    for tile, rows in zip(tiles(up(g), size), tiles(up(q), size), strict=True):
        of_q, of_k, of_v = ops.attention_gradients(tile, rows, up(k), up(v), ops.probabilities(rows, up(k)))
        grad_q.append(of_q)
        grad_k, grad_v = grad_k + of_k.to(k.dtype), grad_v + of_v.to(v.dtype)
    return torch.cat(grad_q), grad_k, grad_v


def _running_total(g: Tensor, x: Tensor) -> Tensor:
    total, totals = torch.zeros_like(g[:1]), [g[:0]]
    for row in g.flip(0):
        total = total + row
        totals.append(total)
    return torch.cat(totals).flip(0)


_accumulators = (
    ops.BIAS.bug("bias gradient summed row by row", BF16, lambda g, x, b: (g, _sum_rows(g)), shape=(2048, 4)),
    ops.BIAS.bug("bias gradient summed row by row", FP16, lambda g, x, b: (g, _sum_rows(g)), shape=(4096, 4)),
    ops.RMS_NORM.bug(
        "weight gradient summed row by row",
        BF16,
        lambda g, x, w: (ops.RMS_NORM.right(g, x, w)[0], _sum_rows(g * _normal(x, ops.rstd_of(x)))),
        shape=(1024, 8),
    ),
    ops.LAYER_NORM.bug("weight and bias gradients by tiles of 8 rows", BF16, _layer_norm_by_tiles, shape=(2048, 4)),
    ops.EMBEDDING.bug(
        "rows added one by one",
        BF16,
        lambda g, table, index: (torch.stack([_sum_rows(g[index == n]) for n in range(len(table))]), None),
        shape=(2048, 4),
    ),
    ops.ATTENTION.bug("key and value gradients by tiles of 4 queries", BF16, _attention_by_tiles, shape=(256, 8)),
    ops.CUMSUM.bug("running total in bfloat16", BF16, _running_total, shape=(512, 4)),
    ops.SOFTMAX.bug(
        "Σ g y summed column by column",
        BF16,
        lambda g, x: up(x).softmax(-1) * (g - _sum_rows((g * x.softmax(-1)).t())[:, None]),
        shape=(4, 1024),
    ),
)


def _from_rounded_lse(x: Tensor) -> Tensor:
    return torch.exp(up(x) - up(up(x).logsumexp(-1, keepdim=True).to(x.dtype)))


def _rounded(value: Tensor, like: Tensor) -> Tensor:
    """What is left of a float32 statistic saved in the dtype of `like`."""
    return up(value.to(like.dtype))


def _attention_from_rounded_lse(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Any:
    scores = up(q) @ up(k).t() * q.shape[-1] ** -0.5
    p = torch.exp(scores - _rounded(scores.logsumexp(-1, keepdim=True), q))
    return ops.attention_gradients(up(g), up(q), up(k), up(v), p)


def _layer_norm_rounded(g: Tensor, x: Tensor, w: Tensor, b: Tensor, *, which: int) -> Any:
    statistics = [_rounded(s, x) if n == which else s for n, s in enumerate(ops.layer_statistics(up(x)))]
    return ops.layer_gradients(up(g), up(x), up(w), *statistics)


_statistics = (
    ops.CROSS_ENTROPY.bug(
        "log-sum-exp saved in bfloat16",
        BF16,
        lambda g, x, target: ((_from_rounded_lse(x) - ops.one_hot(up(x), target)) * (up(g) / len(x)), None),
    ),
    ops.LOGSUMEXP.bug("rounded output used", BF16, lambda g, x: up(g)[:, None] * _from_rounded_lse(x)),
    ops.ATTENTION.bug(
        "log-sum-exp saved in bfloat16", BF16, ops.ATTENTION.in_low(_attention_from_rounded_lse), shape=(64, 16)
    ),
    ops.LAYER_NORM.bug("mean saved in bfloat16", BF16, partial(_layer_norm_rounded, which=0), float64=False),
    ops.LAYER_NORM.bug("1 / σ saved in bfloat16", BF16, partial(_layer_norm_rounded, which=1)),
    ops.RMS_NORM.bug(
        "1 / RMS saved in bfloat16",
        (BF16, FP32),
        lambda g, x, w: ops.rms_gradients(up(g), up(x), w, _rounded(ops.rstd_of(x), x)),
    ),
    ops.KL.bug(
        "log-probabilities saved in bfloat16",
        BF16,
        lambda g, x, t: ops.kl_gradients(up(g), *(_rounded(up(z).log_softmax(-1), x) for z in (x, t))),
    ),
    ops.ROTARY.bug(
        "angles in bfloat16",
        BF16,
        lambda g, a, b: ops.rotated_back(up(g), up(ops.angles(a)[0] * ops.angles(a)[1])),
        shape=(300, 4),
    ),
)


def _bits(d: Tensor, dtype: torch.dtype, added: int = 0) -> Tensor:
    """A float32 Tensor without the bits that the dtype lacks, after adding to them."""
    lost = {BF16: 0xFFFF, FP16: 0x1FFF}.get(dtype)
    if lost is None:
        return d
    return ((d.contiguous().view(torch.int32) + (lost if added else 0)) & ~lost).view(torch.float32)


def _cut(operation: Operation, added: int = 0) -> Equation:
    """Each gradient rounded toward zero, or away from it."""

    def equation(g: Tensor, *inputs: Tensor) -> Any:
        pairs = zip(as_tuple(operation.right(g, *inputs)), inputs, strict=True)
        return tuple(_bits(d, x.dtype, added) for d, x in pairs)

    return equation


_truncations = (
    ops.RMS_NORM.bug("rounded toward zero", BF16, _cut(ops.RMS_NORM)),
    ops.SWIGLU.bug("rounded toward zero", BF16, _cut(ops.SWIGLU), float64=False),
    ops.GELU.bug("rounded toward zero", FP16, _cut(ops.GELU)),
    ops.SOFT_CAP.bug("rounded away from zero", BF16, _cut(ops.SOFT_CAP, added=1)),
)


def _difference_of_squares(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Any:
    mean = x.mean(-1, keepdim=True)
    variance = (x.square().mean(-1, keepdim=True) - mean.square()).clamp_min(0)
    return ops.layer_gradients(up(g), up(x), up(w), up(mean), (up(variance) + ops.EPS).rsqrt())


def _rounded_geglu(g: Tensor, a: Tensor, b: Tensor) -> Any:
    t, slope = ops.gelu_tanh(up(a))
    kept = t.to(a.dtype)
    half = up(1 - kept * kept) / 2
    return up(g) * up(b) * ((1 + t) / 2 + up(a) * half * slope), up(g) * up(a) * (1 + t) / 2


def _kl_of_rounded(g: Tensor, x: Tensor, teacher: Tensor) -> Any:
    q, p = (up(z).softmax(-1).to(x.dtype) for z in (x, teacher))
    return up(q - p) * (up(g) / len(x)), ops.KL.right(g, x, teacher)[1]


def _input_from_output(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Any:
    x = (ops.AFFINE.reference(x, w, b) - b) / w
    return ops.AFFINE.right(g, x, w, b)


_cancellations = (
    ops.CROSS_ENTROPY.bug(
        "p − one-hot in bfloat16",
        BF16,
        lambda g, x, t: (up(up(x).softmax(-1).to(x.dtype) - ops.one_hot(x, t)) * (up(g) / len(x)), None),
    ),
    ops.SOFTMAX.bug(
        "Σ g y rounded before g − Σ g y",
        BF16,
        lambda g, x: (y := up(x).softmax(-1)) * up(g - (up(g) * y).sum(-1, keepdim=True).to(g.dtype)),
    ),
    ops.KL.bug("q − p in bfloat16", BF16, _kl_of_rounded, float64=False),
    ops.LAYER_NORM.bug("variance as E[x²] − E[x]² in bfloat16", BF16, ops.LAYER_NORM.in_low(_difference_of_squares)),
    ops.GEGLU.bug("1 − tanh² in bfloat16", BF16, _rounded_geglu, float64=False),
    ops.AFFINE.bug("input recovered from the output", BF16, ops.AFFINE.in_low(_input_from_output)),
)


def _through(operation: Operation, dtype: torch.dtype) -> Equation:
    """Each gradient of a low dtype rounded to another low dtype first."""

    def equation(g: Tensor, *inputs: Tensor) -> Any:
        gradients = as_tuple(operation.right(g, *inputs))
        return tuple(d.to(dtype) if is_low(inputs[0]) else d for d in gradients)

    return equation


def _linear_of_float8(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Any:
    kept = up(x).clamp(-448, 448).to(torch.float8_e4m3fn).float() if is_low(x) else x
    return ops.LINEAR.right(g, kept, w, b)


def _parameters_through(operation: Operation) -> Equation:
    """Gradients of parameters rounded to the dtype of the activations."""

    def equation(g: Tensor, x: Tensor, *parameters: Tensor) -> Any:
        grad_input, *others = operation.right(g, x, *parameters)
        return grad_input, *(d.to(x.dtype) for d in others)

    return equation


_double_roundings = (
    ops.RMS_NORM.bug("weight gradient rounded to bfloat16", (BF16, FP32), _parameters_through(ops.RMS_NORM)),
    ops.GELU.bug("gradient rounded to float16 first", BF16, _through(ops.GELU, FP16), float64=False),
    ops.SILU.bug("gradient rounded to bfloat16 first", FP16, _through(ops.SILU, BF16)),
    ops.LINEAR.bug("input saved in float8", BF16, _linear_of_float8, shape=(64, 16)),
)

BUGS: tuple[Bug, ...] = (*_accumulators, *_statistics, *_truncations, *_cancellations, *_double_roundings)
