"""Correct kernels for bfloat16 and float16, in several styles of rounding."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from planted.bug import CorrectFunction, function_of
from planted.low_precision import operations as ops
from planted.low_precision.operation import (
    BF16,
    FP16,
    FP32,
    Dtypes,
    Equation,
    Operation,
    only_low,
    tiles,
    up,
    without_float64,
)


def _inside(operation: Operation, dtypes: Dtypes, **options: Any) -> CorrectFunction:
    """Computed in float32, each gradient rounded once to the dtype of its input."""

    def backward(g: Tensor, *inputs: Tensor) -> Any:
        gradients = operation.right(g, *inputs)
        pairs = zip(gradients if isinstance(gradients, tuple) else (gradients,), inputs, strict=True)
        return tuple(d if d is None else d.to(x.dtype) for d, x in pairs)

    return operation.kernel("float32 inside", dtypes, operation.with_backward(backward), **options)


def _single(operation: Operation, dtypes: Dtypes, **options: Any) -> CorrectFunction:
    """The same, with float64 computed in float32 too."""
    function = without_float64(operation.with_backward(operation.right))
    return operation.kernel("float32 for all dtypes", dtypes, function, **options)


def _chain(
    operation: Operation, dtype: torch.dtype, equation: Equation | None = None, **options: Any
) -> CorrectFunction:
    """Each step rounded to the low dtype, as by autograd of the plain formula."""
    function = function_of(lambda *inputs: (operation.value(*inputs), *inputs), equation or operation.backward)
    return operation.kernel("rounded at each step", dtype, function, reference=operation.value, **options)


def _rounded_slope(x: Tensor) -> Tensor:
    return ops.silu_slope(up(x)).to(x.dtype)


def _plain(operation: Operation, dtype: torch.dtype, **options: Any) -> CorrectFunction:
    """PyTorch's own operations in the low dtype, differentiated by autograd."""
    return operation.kernel("plain", dtype, operation.value, reference=operation.value, **options)


def _recomputed(operation: Operation, dtypes: Dtypes, **options: Any) -> CorrectFunction:
    """The inputs saved, the value computed again and differentiated by autograd in the backward."""

    def backward(g: Tensor, *inputs: Tensor) -> Any:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
            output = operation.reference(*leaves)
        floating = [x for x in leaves if x.requires_grad]
        gradients = iter(torch.autograd.grad(output, floating, g))
        return tuple(next(gradients) if x.requires_grad else None for x in leaves)

    return operation.kernel("recomputed", dtypes, operation.with_backward(backward), **options)


def _only(operation: Operation, dtype: torch.dtype, *others: torch.dtype, **options: Any) -> CorrectFunction:
    """Float32 inside, for some dtypes only."""
    function = only_low(operation.with_backward(operation.right), dtype, *others)
    return operation.kernel("no other dtype", dtype, function, **options)


_LONG, _SMALL = (2048, 4), (32, 16)

_float32_inside = (
    _inside(ops.RMS_NORM, BF16),
    _inside(ops.LAYER_NORM, FP16),
    _inside(ops.NORMALISE, BF16),
    _inside(ops.SOFTMAX, FP16),
    _inside(ops.CROSS_ENTROPY, BF16),
    _inside(ops.KL, FP16),
    _inside(ops.SWIGLU, BF16),
    _inside(ops.GEGLU, FP16),
    _inside(ops.BIAS, BF16, shape=_LONG),
    _inside(ops.LINEAR, FP16, shape=_SMALL),
    _inside(ops.ATTENTION, BF16, shape=_SMALL),
    _inside(ops.EMBEDDING, BF16, shape=_LONG),
    _inside(ops.CUMSUM, BF16, shape=(512, 4)),
    _inside(ops.DECAYED_SUM, BF16, shape=(64, 16)),
    _inside(ops.ROTARY, BF16, shape=(300, 4)),
)

_float32_output = (
    _inside(ops.CROSS_ENTROPY_32, BF16),
    _inside(ops.HEAD, BF16),
    _recomputed(ops.HEAD, FP16),
)

_float32_for_all = (
    _single(ops.RMS_NORM, BF16),
    _single(ops.CROSS_ENTROPY, BF16),
    _single(ops.SWIGLU, FP16),
    _single(ops.ATTENTION, FP16, shape=_SMALL),
)

_mixed = (
    _inside(ops.RMS_NORM, (BF16, FP32)),
    _single(ops.RMS_NORM, (FP16, FP32)),
    _inside(ops.LAYER_NORM, (BF16, FP32, FP32)),
    _inside(ops.LINEAR, (BF16, FP32, FP32), shape=_SMALL),
    _recomputed(ops.LINEAR, (FP16, FP32, FP32), shape=_SMALL),
    _inside(ops.BIAS, (BF16, FP32), shape=_LONG),
    _inside(ops.RESIDUAL, (BF16, BF16, FP32)),
    _inside(ops.POSITIONS, (BF16, FP32, torch.int64), shape=_LONG),
)

_chains = (
    _chain(ops.RMS_NORM, BF16),
    _chain(ops.SWIGLU, BF16, lambda g, a, b: (g * b * _rounded_slope(a), g * (a * torch.sigmoid(a)))),
    _chain(ops.GELU_TANH, BF16),
    _chain(ops.RESIDUAL, BF16),
    _chain(ops.GAIN, BF16),
    _chain(ops.LINEAR, BF16, shape=_SMALL),
    _chain(ops.MSE, BF16),
    _chain(ops.SILU, BF16, lambda g, x: g * _rounded_slope(x)),
    _plain(ops.RMS_NORM, FP16),
    _plain(ops.LAYER_NORM, BF16),
    _plain(ops.ATTENTION, BF16, shape=_SMALL),
)

_recomputing = (
    _recomputed(ops.SWIGLU, BF16),
    _recomputed(ops.GELU_TANH, FP16),
    _recomputed(ops.ATTENTION, BF16, shape=_SMALL),
)

_refusing = (
    _only(ops.RMS_NORM, BF16),
    _only(ops.SWIGLU, FP16, BF16),
    _only(ops.CROSS_ENTROPY, BF16, FP16),
    _only(ops.ROTARY, FP16),
)


def _save_output(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.softmax(-1)
    return y, y


def _save_statistics(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    mean, rstd = ops.layer_statistics(up(x))  # kept in float32
    return (((up(x) - mean) * rstd) * up(w) + up(b)).to(x.dtype), x, w, mean, rstd


def _save_gradient(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the sum in the low dtype: 1 / N follows in the backward, with g."""
    p = up(x).softmax(-1)
    return ops.CROSS_ENTROPY.reference(x, target), (p - ops.one_hot(p, target)).to(x.dtype)


def _save_maximum_and_sum(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    scores = up(q) @ up(k).t() * q.shape[-1] ** -0.5
    largest = scores.amax(-1, keepdim=True) if len(k) else scores.new_zeros(len(q), 1)
    return ops.ATTENTION.reference(q, k, v), q, k, v, largest, (scores - largest).exp().sum(-1, keepdim=True)


def _attention_recomputed(g: Tensor, q: Tensor, k: Tensor, v: Tensor, largest: Tensor, total: Tensor) -> Any:
    p = (up(q) @ up(k).t() * q.shape[-1] ** -0.5 - largest).exp() / total
    return ops.attention_gradients(up(g), up(q), up(k), up(v), p)


def _attention_from_rounded(g: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> Any:
    """Products in the low dtype, and the gradient of softmax in float32."""
    scores = ops.softmax_gradient(up(g @ v.t()), up(p)).to(q.dtype) * q.shape[-1] ** -0.5
    return scores @ k, scores.t() @ q, p.t() @ g


def _compensated(terms: Tensor) -> Tensor:
    """Kahan's sum of the rows in the low dtype."""
    total = lost = terms.new_zeros(terms.shape[1:])
    for row in terms:
        term = row - lost
        new = total + term
        total, lost = new, (new - total) - term
    return total


def _by_tiles(terms: Tensor, size: int = 64) -> Tensor:
    """Partial sums in float32, rounded once at the end."""
    total = up(terms).new_zeros(terms.shape[1:])
    for tile in tiles(terms, size):
        total = total + up(tile).sum(0)
    return total.to(terms.dtype)


def _largest_first(g: Tensor, x: Tensor, w: Tensor) -> Any:
    """Squares of x over its largest: no overflow in float16, and float32 from there."""
    largest = up(x.abs().amax(-1, keepdim=True)).clamp_min(ops.EPS)
    mean = (up(x) / largest).square().mean(-1, keepdim=True) * largest.square()
    return ops.rms_gradients(up(g), up(x), up(w), (mean + ops.EPS).rsqrt())


def _in_power_of_two(operation: Operation, scale: float) -> Callable[..., Any]:
    """A loss scale of the kernel's own, in float32: exact."""

    def backward(g: Tensor, *inputs: Tensor) -> Any:
        gradients = operation.right(up(g) * scale, *inputs)
        return tuple(d / scale for d in gradients)

    return backward


_others = (
    ops.SOFTMAX.kernel(
        "output saved in bfloat16",
        BF16,
        function_of(_save_output, lambda g, y: ops.softmax_gradient(up(g), up(y))),
        reference=lambda x: F.softmax(x, -1),
    ),
    ops.LAYER_NORM.kernel(
        "statistics saved in float32",
        (BF16, FP32, FP32),
        function_of(_save_statistics, lambda g, x, w, *saved: ops.layer_gradients(up(g), up(x), w, *saved)),
    ),
    ops.CROSS_ENTROPY.kernel(
        "gradient computed in the forward",
        BF16,
        function_of(_save_gradient, lambda g, d: (up(d) * (up(g) / len(d)), None)),
        reference=F.cross_entropy,
    ),
    ops.ATTENTION.kernel(
        "maximum and sum saved in float32",
        FP16,
        function_of(_save_maximum_and_sum, _attention_recomputed),
        shape=_SMALL,
    ),
    ops.BIAS.kernel("Kahan's sum", BF16, ops.BIAS.with_backward(lambda g, x, b: (g, _compensated(g))), shape=_LONG),
    ops.BIAS.kernel(
        "tiles summed in float32", FP16, ops.BIAS.with_backward(lambda g, x, b: (g, _by_tiles(g))), shape=_LONG
    ),
    ops.RMS_NORM.kernel("squares of x over its largest", FP16, ops.RMS_NORM.with_backward(_largest_first)),
    ops.SWIGLU.kernel("own loss scale of 1024", FP16, ops.SWIGLU.with_backward(_in_power_of_two(ops.SWIGLU, 1024.0))),
    ops.GELU.kernel("against PyTorch's", FP16, ops.GELU.with_backward(ops.GELU.right), reference=lambda x: F.gelu(x)),
    ops.SILU.kernel(
        "against PyTorch's",
        BF16,
        function_of(lambda x: (F.silu(x), x), lambda g, x: up(g) * ops.silu_slope(up(x))),
        reference=F.silu,
    ),
    ops.ATTENTION.kernel(
        "probabilities saved in bfloat16",
        BF16,
        function_of(
            lambda q, k, v: ((p := ops.probabilities(q, k)) @ v, q, k, v, p),
            _attention_from_rounded,
        ),
        reference=ops.ATTENTION.value,
        shape=_SMALL,
    ),
    ops.LINEAR.kernel(
        "products in bfloat16, sums in float32",
        BF16,
        function_of(
            lambda x, w, b: (F.linear(x, w, b), x, w),
            lambda g, x, w: (g @ w, g.t() @ x, up(g).sum(0)),
        ),
        reference=F.linear,
        shape=_SMALL,
    ),
    ops.LINEAR.kernel(
        "weight converted, as by autocast",
        (BF16, FP32, FP32),
        function_of(
            lambda x, w, b: (F.linear(x, w.to(x.dtype), b.to(x.dtype)), x, w),
            lambda g, x, w: (g @ w.to(g.dtype), (g.t() @ x).to(w.dtype), g.sum(0).to(w.dtype)),
        ),
        reference=lambda x, w, b: F.linear(x, w.to(x.dtype), b.to(x.dtype)),
        shape=_SMALL,
    ),
)

CORRECT: tuple[CorrectFunction, ...] = (
    *_float32_inside,
    *_float32_output,
    *_float32_for_all,
    *_mixed,
    *_chains,
    *_recomputing,
    *_refusing,
    *_others,
)
