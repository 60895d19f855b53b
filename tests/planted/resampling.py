"""Bugs of padding, sliding windows and resampling.

These are linear maps. A wrong backward is often the correct one of another map: `gradient_of` takes it from autograd.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.padding import ConstantPad, CopyPad
from bp_torch.functional.resampling import Interpolate, PixelShuffle
from bp_torch.functional.windows import Fold, Unfold
from bp_torch.sample import Sample
from planted.alterations import last_doubled
from planted.bug import Bug, Original, first_input
from planted.pooling import gradient_of

_draw = RandomTensors(23)
_IMAGES = "batch channels height width"


def _images(*shape: int, axes: str = _IMAGES) -> tuple[Sample, ...]:
    return (Sample((_draw(*shape),), axes=axes),)


def _of(original: Original, name: str, kind: str, other: Callable[[Tensor], Tensor]) -> Bug:
    """A backward that is the gradient of another map."""
    return original.backward(name, kind, gradient_of(other), saved=first_input)


UNFOLD = Original(
    "unfold",
    Unfold,
    partial(F.unfold, kernel_size=(2, 3), padding=(1, 0), stride=(1, 2)),
    _images(2, 2, 3, 5),
    ((2, 3), 1, (1, 0), (1, 2)),
)
UNFOLD_DILATED = Original(
    "unfold, dilated", Unfold, partial(F.unfold, kernel_size=2, dilation=2), _images(2, 2, 4, 4), (2, 2, 0, 1)
)
FOLD = Original(
    "fold",
    Fold,
    partial(F.fold, output_size=(4, 4), kernel_size=(2, 3)),
    _images(2, 12, 6, axes="batch 6*channels 6"),
    ((4, 4), (2, 3), 1, 0, 1),
)


def _counts(g: Tensor, x: Tensor) -> Tensor:
    """In how many windows of `UNFOLD` each pixel is."""
    return F.fold(torch.ones_like(g), x.shape[2:], (2, 3), 1, (1, 0), (1, 2)).clamp_min(1)


def _folded(g: Tensor, x: Tensor, padding: tuple[int, int] = (1, 0)) -> Tensor:
    return F.fold(g, x.shape[2:], (2, 3), 1, padding, (1, 2))


def _unfolded(x: Tensor) -> Tensor:
    return F.unfold(x, (2, 3), 1, (1, 0), (1, 2))


def _split(x: Tensor, *sizes: int) -> Tensor:
    """Split the channels."""
    return x.reshape(len(x), *sizes, *x.shape[2:])


def _column_major(x: Tensor) -> Tensor:
    rows, columns = (n - 2 for n in x.shape[2:])
    return F.unfold(x, 2, 2).reshape(len(x), -1, rows, columns).mT.flatten(2)


def _without_dilation(x: Tensor) -> Tensor:
    return F.unfold(x[..., :-1, :-1], 2)


_windows = (
    UNFOLD.backward("overlap averaged", "reduction", lambda g, x: _folded(g, x) / _counts(g, x), saved=first_input),
    _of(
        UNFOLD,
        "kernel axes swapped",
        "transposed",
        lambda x: _split(_unfolded(x), -1, 2, 3).transpose(2, 3).flatten(1, 3),
    ),
    _of(
        UNFOLD,
        "pixels before channels",
        "transposed",
        lambda x: _split(_unfolded(x), -1, 6).transpose(1, 2).flatten(1, 2),
    ),
    _of(
        UNFOLD,
        "padding on one side alone",
        "position",
        lambda x: F.unfold(F.pad(x, (0, 0, 2, 0)), (2, 3), 1, 0, (1, 2)),
    ),
    _of(UNFOLD, "windows in reverse order", "position", lambda x: _unfolded(x).flip(2)),
    UNFOLD.result("last element doubled", "position", input=last_doubled),
    _of(UNFOLD_DILATED, "dilation ignored", "wrong formula", _without_dilation),
    _of(UNFOLD_DILATED, "windows in column-major order", "transposed", _column_major),
    FOLD.backward(
        "divided by the overlap",
        "reduction",
        lambda g, x: F.unfold(g / F.fold(torch.ones_like(x), (4, 4), (2, 3)), (2, 3)),
        saved=first_input,
    ),
    FOLD.backward("kernel axes swapped", "transposed", lambda g, x: F.unfold(g.mT, (2, 3)), saved=first_input),
    FOLD.backward("pixels in reverse order", "position", lambda g, x: F.unfold(g, (2, 3)).flip(1), saved=first_input),
)


CONSTANT = Original(
    "pad",
    ConstantPad,
    partial(F.pad, pad=(1, 2, 2, 0), value=0.5),
    _images(2, 3, 4, axes="batch height width"),
    ((1, 2, 2, 0), 0.5),
)
CUT = Original(
    "pad, negative", ConstantPad, partial(F.pad, pad=(-1, 2)), _images(2, 4, axes="batch length"), ((-1, 2), None)
)
_LINES = _images(2, 2, 5, axes="batch channels length")
REFLECT = Original(
    "pad, reflect", CopyPad, partial(F.pad, pad=(2, 1), mode="reflect"), _LINES, ((2, 1), "reflect", None)
)
REPLICATE = Original(
    "pad, replicate", CopyPad, partial(F.pad, pad=(2, 1), mode="replicate"), _LINES, ((2, 1), "replicate", None)
)
CIRCULAR = Original(
    "pad, circular", CopyPad, partial(F.pad, pad=(2, 1), mode="circular"), _LINES, ((2, 1), "circular", None)
)
CORNERS = Original(
    "pad, two axes",
    CopyPad,
    partial(F.pad, pad=(1, 1, 1, 1), mode="replicate"),
    _images(2, 2, 3, 4),
    ((1, 1, 1, 1), "replicate", None),
)


def _cropped(x: Tensor) -> Tensor:
    return F.pad(x, (2, 1))


def _mirrored(x: Tensor) -> Tensor:
    """The border is repeated, as in symmetric padding."""
    return torch.cat([x[..., :2].flip(-1), x, x[..., -1:]], -1)


def _detached_copies(g: Tensor, x: Tensor) -> Tensor:
    total = gradient_of(lambda x: F.pad(x, (2, 1), "reflect"))(g, x)
    return g[..., 2:-1] + (total - g[..., 2:-1]).detach()


def _without_corners(g: Tensor, x: Tensor) -> Tensor:
    rows, columns = F.pad(g[:, :, 1:-1], (0, 0, 1, 1)), F.pad(g[..., 1:-1], (1, 1))
    kept = rows + columns - F.pad(g[:, :, 1:-1, 1:-1], (1, 1, 1, 1))
    return gradient_of(lambda x: F.pad(x, (1, 1, 1, 1), "replicate"))(kept, x)


_pads = (
    _of(CONSTANT, "left and right swapped", "position", lambda x: F.pad(x, (2, 1, 2, 0))),
    _of(CONSTANT, "top and bottom swapped", "position", lambda x: F.pad(x, (1, 2, 0, 2))),
    _of(CONSTANT, "off by one", "position", lambda x: F.pad(x, (0, 3, 2, 0))),
    CONSTANT.methods(
        "constant in the tangent", "forward mode", jvp=lambda ctx, t, *_: F.pad(t, (1, 2, 2, 0), value=0.5)
    ),
    _of(CUT, "cut on the other side", "position", lambda x: F.pad(x[..., :-1], (0, 2))),
    REFLECT.backward("copies detached", "second derivative", _detached_copies, saved=first_input),
    _of(REFLECT, "copies dropped", "dropped term", _cropped),
    _of(REFLECT, "border repeated", "position", _mirrored),
    _of(REFLECT, "copies not mirrored", "position", lambda x: torch.cat([x[..., 1:3], x, x[..., -2:-1]], -1)),
    _of(REFLECT, "copies halved", "factor", lambda x: (F.pad(x, (2, 1), "reflect") + _cropped(x)) / 2),
    _of(REPLICATE, "copies dropped", "dropped term", _cropped),
    _of(REPLICATE, "one copy instead of two", "dropped term", lambda x: F.pad(F.pad(x, (1, 1), "replicate"), (1, 0))),
    REPLICATE.backward(
        "copies averaged",
        "reduction",
        lambda g, x: torch.cat([g[..., :3].mean(-1, True), g[..., 3:-2], g[..., -2:].mean(-1, True)], -1),
        saved=first_input,
    ),
    _of(CIRCULAR, "copies of the same side", "position", lambda x: torch.cat([x[..., :2], x, x[..., -1:]], -1)),
    _of(CIRCULAR, "copies dropped", "dropped term", _cropped),
    _of(
        CIRCULAR, "copies in reverse order", "position", lambda x: torch.cat([x[..., -2:].flip(-1), x, x[..., :1]], -1)
    ),
    CORNERS.backward("corners dropped", "dropped term", _without_corners, saved=first_input),
)


def _interpolate(name: str, shape: tuple[int, ...], axes: str = _IMAGES, **options: Any) -> Original:
    names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    constants = tuple(options.get(each, False if each == "antialias" else None) for each in names)
    return Original(
        f"interpolate, {name}", Interpolate, partial(F.interpolate, **options), _images(*shape, axes=axes), constants
    )


_LINE = "batch channels length"
NEAREST = _interpolate("nearest", (2, 2, 4), _LINE, size=7, mode="nearest")
LINEAR = _interpolate("linear", (2, 2, 4), "batch channels 4", scale_factor=1.7, mode="linear")
BILINEAR = _interpolate("bilinear", (2, 1, 3, 4), size=(5, 7), mode="bilinear")
ALIGNED = _interpolate("aligned", (2, 1, 3, 4), size=(5, 7), mode="bilinear", align_corners=True)
BICUBIC = _interpolate("bicubic", (1, 2, 4, 5), size=(7, 4), mode="bicubic")
ANTIALIASED = _interpolate(
    "antialias", (1, 2, 5, 6), "batch channels 5 6", size=(2, 3), mode="bilinear", antialias=True
)
SHUFFLE = Original(
    "pixel_shuffle",
    PixelShuffle,
    partial(F.pixel_shuffle, upscale_factor=2),
    _images(2, 4, 3, 3, axes="batch 4*channels height width"),
    (2,),
)


def _resized(size: tuple[int, int], mode: str = "bilinear", **options: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x, size, mode=mode, **options)


def _positions(x: Tensor, m: int, half: float) -> Tensor:
    return (x.shape[-1] / m * (torch.arange(m, dtype=x.dtype) + half) - half).clamp_min(0)


def _linear(x: Tensor, position: Tensor) -> Tensor:
    """Linear interpolation along the last axis at other positions."""
    left = position.floor().long().clamp_max(x.shape[-1] - 1)
    right, weight = (left + 1).clamp_max(x.shape[-1] - 1), position - left
    return (1 - weight) * x[..., left] + weight * x[..., right]


def _partly_detached(g: Tensor, x: Tensor) -> Tensor:
    near, all_pixels = (gradient_of(_resized((5, 7), mode))(g, x) for mode in ("nearest", "bilinear"))
    return near + (all_pixels - near).detach()


def _swapped_weights(x: Tensor) -> Tensor:
    m = int(1.7 * x.shape[-1])
    position = ((torch.arange(m, dtype=x.dtype) + 0.5) / 1.7 - 0.5).clamp_min(0)
    return _linear(x, 2 * position.floor() + 1 - position)


def _border_dropped(x: Tensor) -> Tensor:
    """The image is surrounded by zeros instead of copies of the border."""
    height, width = x.shape[2:]
    wide = F.interpolate(F.pad(x, (4, 4, 4, 4)), size=(7 * (height + 8), 4 * (width + 8)), mode="bicubic")
    return wide[:, :, 4 * 7 : (4 + height) * 7 : height, 4 * 4 : (4 + width) * 4 : width]


_interpolations = (
    _of(NEAREST, "off by half a pixel", "position", lambda x: F.interpolate(x, 7, mode="nearest-exact")),
    _of(NEAREST, "linear", "wrong formula", lambda x: F.interpolate(x, 7, mode="linear")),
    _of(NEAREST, "copies averaged", "reduction", lambda x: F.interpolate(x, 7) * (x.shape[-1] / 7)),
    _of(LINEAR, "weights swapped", "position", _swapped_weights),
    _of(
        LINEAR,
        "scale factor recomputed",
        "wrong formula",
        lambda x: F.interpolate(x, scale_factor=1.7, mode="linear", recompute_scale_factor=True),
    ),
    _of(LINEAR, "half a pixel forgotten", "position", lambda x: _linear(x, _positions(x, int(1.7 * x.shape[-1]), 0))),
    _of(BILINEAR, "align_corners", "wrong formula", _resized((5, 7), align_corners=True)),
    _of(BILINEAR, "nearest", "wrong formula", _resized((5, 7), "nearest")),
    _of(BILINEAR, "area", "wrong formula", _resized((5, 7), "area")),
    _of(BILINEAR, "axes swapped", "transposed", lambda x: _resized((7, 5))(x).mT),
    _of(
        BILINEAR,
        "width alone",
        "dropped term",
        lambda x: F.interpolate(F.interpolate(x, (x.shape[2], 7), mode="bilinear"), (5, 7)),
    ),
    BILINEAR.backward("nearest pixel differentiable alone", "second derivative", _partly_detached, saved=first_input),
    _of(ALIGNED, "align_corners ignored", "wrong formula", _resized((5, 7))),
    BILINEAR.methods("nearest tangent", "forward mode", jvp=lambda ctx, t, *_: F.interpolate(t, (5, 7))),
    _of(BICUBIC, "bilinear", "wrong formula", _resized((7, 4))),
    _of(BICUBIC, "border not repeated", "dropped term", _border_dropped),
    _of(ANTIALIASED, "antialias ignored", "wrong formula", _resized((2, 3))),
    _of(ANTIALIASED, "cubic kernel", "wrong formula", _resized((2, 3), "bicubic", antialias=True)),
    _of(
        SHUFFLE,
        "rows and columns swapped",
        "transposed",
        lambda x: F.pixel_shuffle(_split(x, -1, 2, 2).transpose(2, 3).flatten(1, 3), 2),
    ),
    _of(
        SHUFFLE,
        "channels last among the four",
        "transposed",
        lambda x: F.pixel_shuffle(_split(x, 4, -1).transpose(1, 2).flatten(1, 2), 2),
    ),
    SHUFFLE.backward("in reverse order", "position", lambda g, x: F.pixel_unshuffle(g, 2).flip(1), saved=first_input),
)

BUGS = (*_windows, *_pads, *_interpolations)
ORIGINALS = (
    UNFOLD,
    UNFOLD_DILATED,
    FOLD,
    CONSTANT,
    CUT,
    REFLECT,
    REPLICATE,
    CIRCULAR,
    CORNERS,
    NEAREST,
    LINEAR,
    BILINEAR,
    ALIGNED,
    BICUBIC,
    ANTIALIASED,
    SHUFFLE,
)
