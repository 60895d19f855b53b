"""Bugs of pooling. The correct gradient sums g, or g / d, over the windows that select or contain a value."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.adaptive_pooling import AdaptiveAvgPool
from bp_torch.functional.function import Function
from bp_torch.functional.pooling import AvgPool, MaxPool
from bp_torch.sample import Sample
from planted.alterations import clamped, rounded_to
from planted.bug import Bug, Original, first_input, function_of, memory

_draw = RandomTensors(22)
_IMAGES = "batch channels height width"
_X = (Sample((_draw(2, 3, 6, 5),), axes=_IMAGES), Sample((_draw(1, 2, 4, 7),), axes=_IMAGES))


@dataclass(frozen=True)
class _MaxPoolOriginal(Original):
    """`MaxPool` takes the maxima and their indices, which the reference finds."""

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        def call(x: Tensor) -> Tensor:
            return function.call(x, *self.reference(x.detach(), return_indices=True), *self.constants)

        return call


MAX = _MaxPoolOriginal("max_pool", MaxPool, partial(F.max_pool2d, kernel_size=3, stride=2, padding=1), _X, (2,))
MAX_DILATED = _MaxPoolOriginal(
    "max_pool, dilated", MaxPool, partial(F.max_pool2d, kernel_size=2, stride=2, dilation=2), _X, (2,)
)
MAX_1D = _MaxPoolOriginal(
    "max_pool1d",
    MaxPool,
    partial(F.max_pool1d, kernel_size=2, ceil_mode=True),
    (Sample((_draw(2, 3, 7),), axes="batch channels length"),),
    (1,),
)


def _input_and_indices(inputs: tuple[Any, ...], output: Tensor) -> tuple[Tensor, ...]:
    return inputs[0], inputs[2]


def _scattered(g: Tensor, x: Tensor, indices: Tensor, reduce: str = "sum") -> Tensor:
    """g at the indices in each channel."""
    index, values = indices.flatten(2), g.flatten(2)
    return torch.zeros_like(x).flatten(2).scatter_reduce(2, index, values, reduce, include_self=False).reshape(x.shape)


def _overwritten(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    return torch.zeros_like(x).flatten(2).scatter(2, indices.flatten(2), g.flatten(2)).reshape(x.shape)


def _in_the_first_channel(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    return torch.zeros_like(x).flatten().index_add(0, indices.flatten(), g.flatten()).reshape(x.shape)


def _indices_of_the_padded_image(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    height, width = x.shape[2:]
    row, column = indices // width + 1, indices % width + 1
    return _scattered(g, x, (row * (width + 2) + column).clamp_max(height * width - 1))


def _last_of_equal_values(g: Tensor, x: Tensor, _: Tensor) -> Tensor:
    _, indices = F.max_pool2d(x.flip(2, 3), 2, return_indices=True)  # not used where windows overlap
    return _scattered(g.flip(2, 3), x, indices).flip(2, 3)


def _upsampled(y: Tensor) -> Tensor:
    return y.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _shared(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    maxima = x == _upsampled(F.max_pool2d(x, 2))
    return maxima * _upsampled(g / F.avg_pool2d(maxima.to(x.dtype), 2, divisor_override=1))


def _to_each(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    return (x == _upsampled(F.max_pool2d(x, 2))) * _upsampled(g)


def _undilated(g: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    _, others = F.max_pool2d(x, 2, 2, return_indices=True)
    return _scattered(g, x, others[:, :, : g.shape[2], : g.shape[3]])


def gradient_of(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The equation of a backward that is the gradient of another function: (g, x) -> ∂C/∂x."""
    return lambda g, x, *_: torch.func.vjp(function, x)[1](g)[0]


def _keep_indices(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    MaxPool.setup_context(ctx, inputs, output)
    memory["indices"] = inputs[2]


def _kept_indices(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    indices = memory["indices"]
    zeros = g.new_zeros(*ctx.shape[:2], ctx.shape[2] * ctx.shape[3])
    return zeros.scatter_add(2, indices.flatten(2), g.flatten(2)).reshape(ctx.shape), None, None, None


_EVEN = (Sample((_draw(2, 3, 4, 6),), axes="batch channels 2*height 2*width"),)
MAX_APART = _MaxPoolOriginal("max_pool, no overlap", MaxPool, partial(F.max_pool2d, kernel_size=2), _EVEN, (2,))
_bug = partial(MAX.backward, saved=_input_and_indices)
_bug_apart = partial(MAX_APART.backward, saved=_input_and_indices)

_maxima = (
    _bug("overlapping windows overwritten", "reduction", _overwritten),
    _bug("overlapping windows averaged", "reduction", partial(_scattered, reduce="mean")),
    _bug("indices without the channel's offset", "position", _in_the_first_channel),
    _bug("indices of the padded image", "position", _indices_of_the_padded_image),
    _bug("indices of the first channel for all", "position", lambda g, x, i: _scattered(g, x, i[:, :1].expand_as(i))),
    _bug("indices of the first example for all", "position", lambda g, x, i: _scattered(g, x, i[:1].expand_as(i))),
    _bug("last column of windows dropped", "position", lambda g, x, i: _scattered(g[..., :-1], x, i[..., :-1])),
    _bug("g in the whole window", "wrong formula", gradient_of(lambda x: 9 * F.avg_pool2d(x, 3, 2, 1))),
    _bug(
        "0 where the maximum is negative",
        "wrong formula",
        lambda g, x, i: torch.where(x > 0, _scattered(g, x, i), 0),
    ),
    _bug_apart("the last of equal values", "kink", _last_of_equal_values),
    _bug_apart("shared by equal values", "kink", _shared),
    _bug_apart("all of g to each of equal values", "kink", _to_each),
    MAX_DILATED.backward("dilation ignored", "wrong formula", _undilated, saved=_input_and_indices),
    MAX_DILATED.upstream("|g| for g", torch.abs),
    MAX_1D.backward(
        "index counted from the window",
        "position",
        lambda g, x, i: _scattered(g, x, i - 2 * torch.arange(g.shape[2])),
        saved=_input_and_indices,
    ),
    MAX_1D.backward(
        "cut window dropped",
        "sizes",
        lambda g, x, i: _scattered(g[..., : x.shape[2] // 2], x, i[..., : x.shape[2] // 2]),
        saved=_input_and_indices,
    ),
    MAX.methods("maximum of the tangents", "forward mode", jvp=lambda ctx, t, *_: F.max_pool2d(t, 3, 2, 1)),
    MAX.methods("indices of the latest call", "stale", setup_context=_keep_indices, backward=_kept_indices),
)


AVG = Original(
    "avg_pool",
    AvgPool,
    partial(F.avg_pool2d, kernel_size=(3, 2), stride=2, padding=1),
    _X,
    (2, (3, 2), 2, 1, False, True, None),
)
AVG_CUT = Original(
    "avg_pool, ceil_mode",
    AvgPool,
    partial(F.avg_pool2d, kernel_size=3, stride=2, ceil_mode=True),
    (Sample((_draw(2, 3, 6, 4),), axes=_IMAGES),),
    (2, 3, 2, 0, True, True, None),
)
AVG_INSIDE = Original(
    "avg_pool, without the padding",
    AvgPool,
    partial(F.avg_pool2d, kernel_size=3, stride=2, padding=1, count_include_pad=False),
    _X,
    (2, 3, 2, 1, False, False, None),
)
AVG_BY_3 = Original(
    "avg_pool, divisor_override",
    AvgPool,
    partial(F.avg_pool2d, kernel_size=2, divisor_override=3),
    _X,
    (2, 2, None, 0, False, True, 3),
)


def _spread(g: Tensor, x: Tensor, kernel: tuple[int, int] = (3, 2), stride: int = 2, padding: int = 1) -> Tensor:
    """g at every value of its window, summed: the correct gradient of `AVG` times 6."""
    lines = g.reshape(-1, 1, *g.shape[2:])
    full = F.conv_transpose2d(lines, lines.new_ones(1, 1, *kernel), stride=stride)
    height, width = x.shape[2:]
    full = F.pad(full, (0, width, 0, height))[..., padding : padding + height, padding : padding + width]
    return full.reshape(x.shape)


def _coverage(g: Tensor, x: Tensor) -> Tensor:
    return _spread(torch.ones_like(g), x)


_avg = partial(AVG.backward, saved=first_input)

_averages = (
    _avg("divisor forgotten", "dropped term", _spread),
    _avg("divided twice", "factor", lambda g, x: _spread(g, x) / 36),
    _avg("divided by the height squared", "factor", lambda g, x: _spread(g, x) / 9),
    _avg("divided by the height alone", "factor", lambda g, x: _spread(g, x) / 3),
    _avg("kernel transposed", "transposed", lambda g, x: _spread(g, x, (2, 3)) / 6),
    _avg("stride ignored", "position", lambda g, x: _spread(g, x, stride=1) / 6),
    _avg("padding ignored", "position", lambda g, x: _spread(g, x, padding=0) / 6),
    _avg("overlapping windows averaged", "reduction", lambda g, x: _spread(g, x) / _coverage(g, x).clamp_min(1) / 6),
    _avg("g in the nearest window alone", "wrong formula", lambda g, x: F.interpolate(g, x.shape[2:]) / 6),
    _avg("one value of each window", "dropped term", lambda g, x: _spread(g, x, (1, 1)) / 6),
    _avg("last row of windows dropped", "position", lambda g, x: _spread(g[:, :, :-1], x) / 6),
    _avg("averaged over the channels", "reduction", lambda g, x: _spread(g, x).mean(1, keepdim=True).expand_as(x) / 6),
    _avg("summed in bfloat16", "precision", lambda g, x: rounded_to(_spread(g, x) / 6, torch.bfloat16)),
    AVG.upstream("g clamped to [−1, 1]", clamped),
    _avg(
        "values beyond the first of a window added to .data",
        "second derivative",
        lambda g, x: (_spread(g, x, (1, 1)) + (_spread(g, x) - _spread(g, x, (1, 1))).detach()) / 6,
    ),
    AVG.methods("tangent not divided", "forward mode", jvp=lambda ctx, t, *_: 6 * F.avg_pool2d(t, (3, 2), 2, 1)),
    AVG_CUT.backward(
        "cut window divided by the full size",
        "sizes",
        lambda g, x: _spread(g, x, (3, 3), padding=0) / 9,
        saved=first_input,
    ),
    AVG_CUT.backward(
        "cut window dropped",
        "sizes",
        gradient_of(lambda x: F.pad(F.avg_pool2d(x, 3, 2), (0, 1 - x.shape[3] % 2, 0, 1 - x.shape[2] % 2))),
        saved=first_input,
    ),
    AVG_INSIDE.backward(
        "divided by the padding too", "factor", lambda g, x: _spread(g, x, (3, 3)) / 9, saved=first_input
    ),
    AVG_BY_3.backward(
        "divisor_override ignored", "factor", gradient_of(lambda x: F.avg_pool2d(x, 2)), saved=first_input
    ),
    AVG_BY_3.backward(
        "divided by the size and divisor_override",
        "factor",
        gradient_of(lambda x: F.avg_pool2d(x, 2) / 3),
        saved=first_input,
    ),
)


ADAPTIVE = Original(
    "adaptive_avg_pool", AdaptiveAvgPool, partial(F.adaptive_avg_pool2d, output_size=(3, 2)), _X, (2, (3, 2))
)


def _in_windows(
    bounds: Callable[[Tensor, int, int], tuple[Tensor, Tensor]], divisor: Callable[[int, int], float] | None = None
) -> Callable[..., Tensor]:
    """The gradient for windows with other bounds: (o, n, m) -> begin and end along an axis; or with another divisor."""

    def matrix(n: int, m: int, like: Tensor) -> Tensor:
        begin, end = (bound.unsqueeze(1) for bound in bounds(torch.arange(m), n, m))
        inside = ((torch.arange(n) >= begin) & (torch.arange(n) < end)).to(like)
        return inside / (divisor(n, m) if divisor else (end - begin).clamp_min(1))

    def equation(g: Tensor, x: Tensor) -> Tensor:
        a, b = (matrix(n, m, g) for n, m in zip(x.shape[2:], g.shape[2:], strict=True))
        return a.mT @ g @ b

    return equation


def _correct_bounds(o: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    return o * n // m, -((o + 1) * -n // m)


_adaptive = partial(ADAPTIVE.backward, saved=first_input)

_adaptives = (
    _adaptive("end rounded down", "sizes", _in_windows(lambda o, n, m: (o * n // m, (o + 1) * n // m))),
    _adaptive("begin rounded up", "sizes", _in_windows(lambda o, n, m: (-(o * -n // m), -((o + 1) * -n // m)))),
    _adaptive("kernel and stride n // m", "sizes", _in_windows(lambda o, n, m: (o * (n // m), (o + 1) * (n // m)))),
    _adaptive("divided by the mean length", "sizes", _in_windows(_correct_bounds, lambda n, m: n / m)),
    _adaptive("divided by the number of windows", "factor", _in_windows(_correct_bounds, lambda n, m: m)),
    _adaptive("not divided", "factor", _in_windows(_correct_bounds, lambda n, m: 1)),
    _adaptive("output size transposed", "transposed", gradient_of(lambda x: F.adaptive_avg_pool2d(x, (2, 3)).mT)),
)


def _lp_pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = F.lp_pool1d(x, 2, 2)
    return y, x, y


def _in_pairs(g: Tensor, x: Tensor) -> Tensor:
    return F.pad(g.repeat_interleave(2, -1), (0, x.shape[-1] % 2))


def _lp_bug(name: str, kind: str, backward: Callable[..., Tensor]) -> Bug:
    samples = (Sample((_draw(2, 3, 6),), axes="batch channels length"),)
    return Bug(f"lp_pool: {name}", kind, function_of(_lp_pool, backward), lambda x: F.lp_pool1d(x, 2, 2), samples)


_norms = (
    _lp_bug("NaN at a window of zeros", "kink", lambda g, x, y: _in_pairs(g / y, x) * x),
    _lp_bug("ε in the divisor", "epsilon", lambda g, x, y: _in_pairs(g / (y + 1e-6), x) * x),
    _lp_bug("factor p", "factor", lambda g, x, y: 2 * _in_pairs(torch.where(y > 0, g / y, 0), x) * x),
    _lp_bug("slope of the root forgotten", "dropped term", lambda g, x, y: _in_pairs(g, x) * x),
)

BUGS = (*_maxima, *_averages, *_adaptives, *_norms)
ORIGINALS = (MAX, MAX_DILATED, MAX_1D, MAX_APART, AVG, AVG_CUT, AVG_INSIDE, AVG_BY_3, ADAPTIVE)
