"""Resampling of images: interpolation to another size, and pixels moved between channels and space.

g = ∂C/∂y is the upstream gradient. The functions have the signatures and errors of torch.nn.functional.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bp_torch.functional.adaptive_pooling import adaptive_avg_pool_grad, along_axis
from bp_torch.functional.precision import at_least_float32
from bp_torch.functional.shape import LinearMap, as_new
from bp_torch.functional.validation import require_tensor, warn

__all__ = ["interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample"]


class Interpolate(LinearMap):
    """Each pixel of y is a weighted sum of the pixels of x near its place, along one axis after the other.

    Along an axis, n pixels become m, and output pixel o is at the position sₒ of the input. r is the distance of two
    such positions: n / m, or 1 / `scale_factor` if that is given and not recomputed. Pixels are unit intervals, so

        sₒ = r (o + ½) − ½                or sₒ = o (n − 1) / (m − 1) with `align_corners`
        yₒ = Σᵢ aₒᵢ xᵢ,  aₒᵢ = K(sₒ − i)

    A pixel i outside of the image is a copy of the nearest one at the border, which gets its weight as well. The
    kernel K depends on the mode:

        linear, bilinear, trilinear    1 − |t| where |t| < 1, else 0
        bicubic                        a cubic polynomial of |t| < 1, another one of |t| < 2, else 0
        nearest, nearest-exact         a single weight 1, at i = ⌊r o⌋ or at i = ⌊r (o + ½)⌋
        area                           `AdaptiveAvgPool`

    With `antialias`, the kernel is r times as wide if r > 1, pixels outside of the image have no weight, and the
    weights are divided by their sum; `align_corners` changes r alone. lanczos is sinc(t) sinc(t / 3) where |t| < 3.

    Backward, an input pixel gets the gradients of all output pixels that it enters, with the same weights. Along two
    axes the weights are products aₒᵢ bₚⱼ, and the sums are taken along one axis after the other:

        ∂C/∂xᵢ = Σₒ aₒᵢ gₒ                ∂C/∂xᵢⱼ = Σₒ aₒᵢ Σₚ bₚⱼ gₒₚ

    Here the positions are 0, ½ and 1, so the output in the middle is the mean of both pixels:

    >>> x = torch.zeros(1, 1, 2, requires_grad=True)
    >>> interpolate(x, size=3, mode="linear", align_corners=True).backward(torch.tensor([[[1.0, 20.0, 300.0]]]))
    >>> x.grad
    tensor([[[ 11., 310.]]])

    Source:
        Keys, Cubic Convolution Interpolation for Digital Image Processing (1981).
    """

    @staticmethod
    def forward(input: Tensor, *options: Any) -> Tensor:
        return as_new(F.interpolate(input, *options))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        _, factors, mode, align_corners, recompute, antialias = ctx.constants
        grad, dims = at_least_float32(grad_output), len(ctx.shape) - 2
        if mode == "area":
            return adaptive_avg_pool_grad(grad, ctx.shape, dims).to(ctx.dtype), *ctx.no_gradients
        given = factors if isinstance(factors, Sequence) else [factors] * dims
        for axis in range(2, dims + 2):
            line = _Line(ctx.shape[axis], grad.shape[axis], None if recompute else given[axis - 2])
            if mode.startswith("nearest"):
                pixels, weights = line.nearest(mode, grad.dtype)
            else:
                pixels, weights = line.neighbours(mode, bool(align_corners), antialias)
            grad = _add_pixels(grad, axis, line.n, pixels.to(grad.device), weights.to(grad))
        return grad.to(ctx.dtype), *ctx.no_gradients


def _add_pixels(grad: Tensor, axis: int, n: int, pixels: Tensor, weights: Tensor) -> Tensor:
    """Add each gₒ, along an axis, to the pixels that enter output o, times their weights."""
    total = grad.new_zeros(*grad.shape[:axis], n, *grad.shape[axis + 1 :])
    for pixel, weight in zip(pixels, weights, strict=True):
        total.index_add_(axis, pixel, grad * along_axis(weight, grad, axis))
    return total


class _Line(NamedTuple):
    """An axis of n pixels that become m; `factor` is the scale factor, if it is used.

    The methods return the pixels that enter each output, and their weights, both (pixels for an output, m).
    """

    n: int
    m: int
    factor: float | None

    def nearest(self, mode: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Torch itself finds the pixels: it rounds positions in several ways."""
        pixels, size = torch.arange(self.n, dtype=dtype).reshape(1, 1, self.n), self.m if self.factor is None else None
        nearest = F.interpolate(pixels, size, self.factor, mode).reshape(1, self.m)
        return nearest.long(), torch.ones_like(nearest)

    def neighbours(self, mode: str, align_corners: bool, antialias: bool) -> tuple[Tensor, Tensor]:
        """The pixels at which the kernel is not 0."""
        if self.n == self.m and (antialias or mode != "bicubic"):  # torch copies the axis, whatever the factor
            return torch.arange(self.m).unsqueeze(0), torch.ones(1, self.m)
        ratio, (kernel, reach) = self.ratio(align_corners), (_ANTIALIAS_KERNELS if antialias else _KERNELS)[mode]
        shift = 0.0 if align_corners and not antialias else 0.5
        position = ratio * (torch.arange(self.m, dtype=torch.float64) + shift) - shift
        width = max(ratio, 1.0) if antialias else 1.0
        near = math.ceil(reach * width)
        pixels = position.floor() + torch.arange(1 - near, near + 1).unsqueeze(1)
        weights = kernel((position - pixels) / width)
        if antialias:
            weights = torch.where((pixels < 0) | (pixels >= self.n), 0, weights)
            weights = weights / weights.sum(0)
        return pixels.long().clamp(0, self.n - 1), weights

    def ratio(self, align_corners: bool) -> float:
        """The distance of two outputs in the input."""
        if align_corners:
            return (self.n - 1) / (self.m - 1) if self.m > 1 else 0.0
        return self.n / self.m if self.factor is None else 1 / self.factor


def _triangle(t: Tensor) -> Tensor:
    return (1 - t.abs()).clamp_min(0)


def _cubic(t: Tensor, a: float) -> Tensor:
    """The cubic kernel with slope a at t = 1."""
    t = t.abs()
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return torch.where(t < 1, near, torch.where(t < 2, far, 0))


def _lanczos(t: Tensor) -> Tensor:
    return torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), 0)


_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    **dict.fromkeys(("linear", "bilinear", "trilinear"), (_triangle, 1)),
    "bicubic": (partial(_cubic, a=-0.75), 2),
}
"""Each mode's kernel K, and how far it reaches."""
_ANTIALIAS_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "bilinear": (_triangle, 1),
    "bicubic": (partial(_cubic, a=-0.5), 2),
    "lanczos": (_lanczos, 3),
}


class PixelShuffle(LinearMap):
    """(C r², H, W) to (C, H r, W r): y[c, h r + a, w r + b] = x[c r² + a r + b, h, w]; every value is moved once.

    ∂C/∂x is g moved back, by `PixelUnshuffle`.

    >>> x = torch.zeros(4, 1, 1, requires_grad=True)
    >>> pixel_shuffle(x, 2).backward(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    >>> x.grad.flatten()
    tensor([1., 2., 3., 4.])

    Source:
        Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN (2016).
    """

    @staticmethod
    def forward(input: Tensor, upscale_factor: int) -> Tensor:
        return F.pixel_shuffle(input, upscale_factor)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return F.pixel_unshuffle(grad_output, *ctx.constants), None


class PixelUnshuffle(LinearMap):
    """(C, H r, W r) to (C r², H, W): the inverse of `PixelShuffle`, which moves g back: ∂C/∂x."""

    @staticmethod
    def forward(input: Tensor, downscale_factor: int) -> Tensor:
        return F.pixel_unshuffle(input, downscale_factor)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return F.pixel_shuffle(grad_output, *ctx.constants), None


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize (N, C, *spatial) to `size`, or by `scale_factor`; a number stands for all axes. See `Interpolate`.

    On CUDA, autocast computes in float32.
    """
    return Interpolate.call(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """The old name of `interpolate`; warns."""
    warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Move channels to space, (*, C r², H, W) to (*, C, H r, W r). See `PixelShuffle`."""
    require_tensor("pixel_shuffle", input=input)
    return PixelShuffle.call(input, upscale_factor)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Move space to channels, (*, C, H r, W r) to (*, C r², H, W). See `PixelUnshuffle`."""
    require_tensor("pixel_unshuffle", input=input)
    return PixelUnshuffle.call(input, downscale_factor)
