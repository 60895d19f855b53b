"""Bugs in bfloat16 and float16: factors, overflow, underflow, loss scales, mixed dtypes."""

from typing import Any

import torch
from torch import Tensor

from planted.bug import Bug, as_tuple
from planted.low_precision import operations as ops
from planted.low_precision.operation import BF16, FP16, FP32, Equation, Operation, by_rows, is_low, up


def _fast_rsqrt(x: Tensor) -> Tensor:
    """1/√x from the bits of x, without a Newton step: 3 % off."""
    return (0x5F3759DF - (x.view(torch.int32) >> 1)).view(torch.float32)


def _fast_normalise(g: Tensor, x: Tensor) -> Any:
    if not is_low(x):
        return ops.NORMALISE.right(g, x)
    return ops.normalise_gradient(up(g), up(x), _fast_rsqrt(up(x).square().sum(-1, keepdim=True) + ops.EPS))


def _coarse_eps(g: Tensor, x: Tensor, w: Tensor) -> Any:
    eps = max(ops.EPS, torch.finfo(x.dtype).eps) if is_low(x) else ops.EPS
    return ops.rms_gradients(up(g), up(x), up(w), (up(x).square().mean(-1, keepdim=True) + eps).rsqrt())


def _sigmoid_gelu(g: Tensor, x: Tensor) -> Any:
    gate = torch.sigmoid(1.702 * up(x))
    return up(g) * gate * (1 + 1.702 * up(x) * (1 - gate)) if is_low(x) else ops.GELU.right(g, x)


def _counted_in_the_dtype(g: Tensor, x: Tensor, target: Tensor) -> Any:
    count = by_rows(torch.ones_like(x[:, 0]), x.new_zeros(()))
    return ops.cross_entropy_gradient(up(g) * len(x) / up(count), up(x), target)


def _scaled(operation: Operation, *factors: float) -> Equation:
    """Gradients multiplied by constants."""

    def equation(g: Tensor, *inputs: Any) -> Any:
        pairs = zip(as_tuple(operation.right(g, *inputs)), factors, strict=True)
        return tuple(d if d is None else factor * d for d, factor in pairs)

    return equation


_factors = (
    ops.DECAYED_SUM.bug(
        "decay stored in bfloat16",
        BF16,
        lambda g, x: up(g) * ops.powers(len(x), up(ops.decay_in(x.dtype))),
        shape=(64, 16),
    ),
    ops.RMS_NORM.bug("ε of the dtype in the backward", BF16, _coarse_eps),
    ops.CROSS_ENTROPY.bug("tokens counted in bfloat16", BF16, _counted_in_the_dtype, shape=(384, 8)),
    ops.NORMALISE.bug("1/√x from its bits", FP16, _fast_normalise),
    ops.GELU.bug("slope of x σ(1.702 x)", FP16, _sigmoid_gelu),
    ops.RMS_NORM.bug("5 % too large", BF16, _scaled(ops.RMS_NORM, 1.05, 1), accepts=(BF16,)),
    ops.SWIGLU.bug("gradient of the gate 3 % too large", FP16, _scaled(ops.SWIGLU, 1.03, 1), accepts=(BF16, FP16)),
    ops.CROSS_ENTROPY.bug("2 % too large", BF16, _scaled(ops.CROSS_ENTROPY, 1.02, 1), accepts=(BF16, FP16)),
)


def _rms_of_products(g: Tensor, x: Tensor, w: Tensor) -> Any:
    rstd, scaled = ops.rstd_of(x), up(g) * up(w)
    dot = up((scaled * up(x)).sum(-1, keepdim=True).to(x.dtype))
    return rstd * scaled - up(x) * rstd**3 * dot / x.shape[-1], (up(g) * up(x) * rstd).sum(0)


_overflows = (
    ops.RMS_NORM.bug(
        "squares in float16",
        FP16,
        lambda g, x, w: ops.rms_gradients(
            up(g), up(x), up(w), up((x.square().mean(-1, keepdim=True) + ops.EPS).rsqrt())
        ),
    ),
    ops.LOGSUMEXP.bug(
        "exponentials without the maximum in float16",
        FP16,
        ops.LOGSUMEXP.in_low(lambda g, x: g[:, None] * (x.exp() / x.exp().sum(-1, keepdim=True))),
    ),
    ops.SWIGLU.bug(
        "g a b before σ",
        FP16,
        lambda g, a, b: (
            (g * a * b) * (s := torch.sigmoid(a)) * (1 - s) + g * b * s,
            g * a * torch.sigmoid(a),
        ),
    ),
    ops.MSE.bug(
        "2 g (x − t) in float16 before 1 / N",
        FP16,
        lambda g, x, target: ((d := 2 * g * (x - target)) / x.numel(), -d / x.numel()),
    ),
    ops.SILU.bug(
        "σ by exponentials in float16",
        FP16,
        ops.SILU.in_low(lambda g, x: g * ((1 + x * (e := torch.exp(-x)) / (1 + e)) / (1 + e))),
    ),
    ops.ATTENTION.bug(
        "scores before 1/√d in float16",
        FP16,
        lambda g, q, k, v: ops.attention_gradients(
            up(g), up(q), up(k), up(v), (up(q @ k.t()) * q.shape[-1] ** -0.5).softmax(-1)
        ),
        shape=(32, 16),
    ),
    ops.GELU_TANH.bug(
        "x³ in float16",
        FP16,
        lambda g, x: g * ((1 + (t := ops.gelu_tanh(x))[0]) / 2 + x * (1 - t[0] * t[0]) * t[1] / 2),
    ),
    ops.RMS_NORM.bug("Σ g x in float16", FP16, _rms_of_products, float64=False),
)


def _stored_before(operation: Operation) -> Equation:
    """The gradient of the mean, stored in the dtype by the forward and multiplied by g in the backward."""

    def equation(g: Tensor, x: Tensor, *others: Tensor) -> Any:
        stored = as_tuple(operation.right(torch.ones_like(g), x, *others))
        return tuple(d if d is None else d.to(x.dtype) * g for d in stored)

    return equation


def _without_subnormal(d: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(d.abs() < torch.finfo(dtype).smallest_normal, 0, d)


def _squares_scaled_down(g: Tensor, x: Tensor, w: Tensor) -> Any:
    mean = (x / 256).square().mean(-1, keepdim=True)
    return ops.rms_gradients(up(g), up(x), up(w), (up(mean) * 65536 + ops.EPS).rsqrt())


def _cubed_in_the_dtype(g: Tensor, x: Tensor, w: Tensor) -> Any:
    rstd, scaled = ops.rstd_of(x), up(g) * up(w)
    dot = (scaled * up(x)).mean(-1, keepdim=True)
    return rstd * scaled - up(x) * up(rstd.to(x.dtype) ** 3) * dot, (up(g) * up(x) * rstd).sum(0)


_underflows = (
    ops.RMS_NORM.bug("1 / RMS³ in float16", FP16, _cubed_in_the_dtype),
    ops.CROSS_ENTROPY.bug("gradient over N stored before g", FP16, _stored_before(ops.CROSS_ENTROPY), shape=(256, 64)),
    ops.RMS_NORM.bug("squares of x / 256 in float16", FP16, _squares_scaled_down),
    ops.SILU.bug("subnormal numbers 0", FP16, lambda g, x: _without_subnormal(ops.SILU.right(g, x), x.dtype)),
    ops.SWIGLU.bug(
        "g / 4096 in float16",
        FP16,
        lambda g, a, b: tuple(4096 * d for d in ops.SWIGLU.right(g / 4096, a, b)),
    ),
)


def _clamped(operation: Operation, bound: float) -> Equation:
    """A low upstream gradient clamped, against overflow."""
    return lambda g, *inputs: operation.right(g.clamp(-bound, bound) if is_low(g) else g, *inputs)


def _unscaled(g: Tensor, x: Tensor) -> Any:
    scaled = is_low(g) and bool((g.abs() > 1024).any())
    return ops.GELU.right(g, x) / (65536 if scaled else 1)


def _skipped(g: Tensor, x: Tensor) -> Tensor:
    skip = is_low(g) & (g.abs() > 8192).any()
    return torch.where(skip, 0, ops.SOFTMAX.right(g, x))


_loss_scales = (
    ops.CROSS_ENTROPY_32.bug(
        "float32 g converted to float16",
        FP16,
        lambda g, x, target: ops.cross_entropy_gradient(up(g.to(x.dtype)), up(x), target),
    ),
    ops.LINEAR.bug(
        "own loss scale of 1024 in float16",
        FP16,
        lambda g, x, w, b: tuple(d / 1024 for d in ops.LINEAR.right(g * 1024, x, w, b)),
    ),
    ops.LAYER_NORM.bug("g clamped to ±1024", FP16, _clamped(ops.LAYER_NORM, 1024)),
    ops.GELU.bug("loss scale removed twice", FP16, _unscaled),
    ops.SOFTMAX.bug("0 if g is large", FP16, _skipped),
    ops.GAIN.bug(
        "|g| for the gain in float16",
        FP16,
        lambda g, x, s: (up(g) * up(s), ((up(g).abs() if is_low(g) else g) * up(x)).sum()),
    ),
)


def _wrong_bits(g: Tensor, x: Tensor) -> Tensor:
    """Every dtype of two bytes taken for float16."""
    return up(g.contiguous().view(FP16) if is_low(g) else g) * ops.silu_slope(up(x))


def _head_of_two_dtypes(g: Tensor, x: Tensor, w: Tensor, target: Tensor) -> Any:
    scores, _ = ops.cross_entropy_gradient(g, up(x) @ up(w).t(), target)
    return scores @ w, scores.t() @ x, None


_dtypes = (
    ops.HEAD.bug("raises: float32 scores and weight", BF16, _head_of_two_dtypes),
    ops.LINEAR.bug(
        "raises: g and weight of two dtypes", (BF16, FP32, FP32), lambda g, x, w, b: (g @ w, g.t() @ x, g.sum(0))
    ),
    ops.POSITIONS.bug(
        "raises: index_add_ of two dtypes",
        (BF16, FP32, torch.int64),
        lambda g, x, table, index: (g, torch.zeros_like(table).index_add_(0, index, g), None),
    ),
    ops.SILU.bug("bits of bfloat16 read as float16", BF16, _wrong_bits),
)

BUGS: tuple[Bug, ...] = (*_factors, *_overflows, *_underflows, *_loss_scales, *_dtypes)
