"""Resampling of images: interpolation to another size, and pixels moved between channels and space.

g = ∂C/∂y is the upstream gradient. The functions have the signatures and errors of torch.nn.functional.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bp_torch.functional.adaptive_pooling import adaptive_windows
from bp_torch.functional.separable import SeparableMap
from bp_torch.functional.shape import LinearMap
from bp_torch.functional.validation import require_tensor

__all__ = ["interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample"]


class Interpolate(SeparableMap):
    """Each pixel of y is a weighted sum of pixels of x near its place, along each axis by itself.

    Along an axis, n pixels become m. Output pixel o is at position sₒ of the input, where r input pixels fall on one
    output pixel: r = n / m, or 1 / `scale_factor` if that is given and not recomputed. Pixels are unit intervals, so

        sₒ = r (o + ½) − ½               or, with `align_corners`, sₒ = o (n − 1) / (m − 1)
        yₒ = Σᵢ aₒᵢ xᵢ,  aₒᵢ = K(sₒ − i)

    A pixel i outside of the image is a copy of the nearest one at the border, which gets its weight as well. The
    kernel K depends on the mode:

        linear, bilinear, trilinear    K(t) = 1 − |t| where |t| < 1, else 0
        bicubic                        two cubic polynomials, of |t| < 1 and of |t| < 2
        nearest                        1 at i = ⌊r o⌋, else 0
        nearest-exact                  1 at i = ⌊r (o + ½)⌋, else 0
        area                           the windows of `AdaptiveAvgPool`

    With `antialias`, where r > 1, the kernel is r times as wide, pixels outside of the image have no weight, and each
    row of weights is divided by its sum. Only this has lanczos, K(t) = sinc(t) sinc(t / 3) where |t| < 3.

    ∂C/∂x = Aᵀ g B, see `SeparableMap`: a pixel gets the gradients of all pixels that it enters, times their weights.

    At the positions s = 0, ½ and 1, the output in the middle is the mean of both pixels:

    >>> x = torch.zeros(1, 1, 2, requires_grad=True)
    >>> interpolate(x, size=3, mode="linear", align_corners=True).backward(torch.tensor([[[1.0, 20.0, 300.0]]]))
    >>> x.grad
    tensor([[[ 11., 310.]]])

    Source:
        Keys, Cubic Convolution Interpolation for Digital Image Processing (1981).
    """

    @staticmethod
    def forward(input: Tensor, *options: Any) -> Tensor:
        return F.interpolate(input, *options)

    @staticmethod
    def matrices(inputs: Any, outputs: Any, dtype: torch.dtype, *options: Any) -> list[Tensor]:
        _, factors, mode, align_corners, recompute, antialias = options
        if mode == "area":
            recompute = True
        axes = [_Axis(n, m) for n, m in zip(inputs[2:], outputs[2:], strict=True)]
        if factors is not None and not recompute:
            given = factors if isinstance(factors, Sequence) else [factors] * len(axes)
            axes = [_Axis(n, m, factor) for (n, m, _), factor in zip(axes, given, strict=True)]
        if mode.startswith("nearest"):
            return [_nearest(axis, mode, dtype) for axis in axes]
        return [_weights(axis, mode, bool(align_corners), antialias) for axis in axes]


class _Axis(NamedTuple):
    """An axis of n pixels that become m."""

    n: int
    m: int
    factor: float | None = None  # if given; otherwise m / n

    def ratio(self, align_corners: bool) -> float:
        """Distance of two output pixels in the input."""
        if align_corners:
            return (self.n - 1) / (self.m - 1) if self.m > 1 else 0.0
        return self.n / self.m if self.factor is None else 1 / self.factor


def _nearest(axis: _Axis, mode: str, dtype: torch.dtype) -> Tensor:
    """The matrix (m, n) with a one in each row. Torch finds the pixels, so that positions are rounded equally."""
    pixels = torch.arange(axis.n, dtype=dtype)
    size = axis.m if axis.factor is None else None
    source = F.interpolate(pixels.reshape(1, 1, axis.n), size, axis.factor, mode)
    return (source.reshape(axis.m, 1) == pixels).double()


def _weights(axis: _Axis, mode: str, align_corners: bool, antialias: bool) -> Tensor:
    """The matrix (m, n) of the other modes."""
    if mode == "area":
        return adaptive_windows(axis.n, axis.m)
    if axis.n == axis.m and (antialias or mode != "bicubic"):
        return torch.eye(axis.n, dtype=torch.float64)  # torch copies the axis, whatever the factor
    shift = 0.0 if align_corners and not antialias else 0.5
    ratio = axis.ratio(align_corners)
    position = ratio * (torch.arange(axis.m, dtype=torch.float64).unsqueeze(1) + shift) - shift  # (m, 1)
    if antialias:
        weights = _ANTIALIAS_KERNELS[mode]((position - torch.arange(axis.n)) / max(ratio, 1))
        return weights / weights.sum(1, keepdim=True)
    pixel = torch.arange(-2, axis.n + 2)  # with two copies of the border on either side
    weights = _KERNELS[mode](position - pixel)  # (m, n + 4)
    return weights.new_zeros(axis.m, axis.n).index_add(1, pixel.clamp(0, axis.n - 1), weights)


def _triangle(t: Tensor) -> Tensor:
    return (1 - t.abs()).clamp_min(0)


def _cubic(a: float) -> Callable[[Tensor], Tensor]:
    """The cubic kernel with slope a at t = 1."""

    def kernel(t: Tensor) -> Tensor:
        t = t.abs()
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return torch.where(t < 1, near, torch.where(t < 2, far, 0))

    return kernel


def _lanczos(t: Tensor) -> Tensor:
    return torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), 0)


_KERNELS = {"linear": _triangle, "bilinear": _triangle, "trilinear": _triangle, "bicubic": _cubic(-0.75)}
_ANTIALIAS_KERNELS = {"bilinear": _triangle, "bicubic": _cubic(-0.5), "lanczos": _lanczos}


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
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Move channels to space, (*, C r², H, W) to (*, C, H r, W r). See `PixelShuffle`."""
    require_tensor("pixel_shuffle", input=input)
    return PixelShuffle.call(input, upscale_factor)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Move space to channels, (*, C, H r, W r) to (*, C r², H, W). See `PixelUnshuffle`."""
    require_tensor("pixel_unshuffle", input=input)
    return PixelUnshuffle.call(input, downscale_factor)
