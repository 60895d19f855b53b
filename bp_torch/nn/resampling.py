"""Modules of padding, sliding windows and resampling."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class ConstantPad1d(torch.nn.ConstantPad1d):
    """A constant around (N, C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "constant", self.value)


class ConstantPad2d(torch.nn.ConstantPad2d):
    """A constant around (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "constant", self.value)


class ConstantPad3d(torch.nn.ConstantPad3d):
    """A constant around (N, C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "constant", self.value)


class ZeroPad1d(torch.nn.ZeroPad1d):
    """Zeros around (N, C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "constant", self.value)


class ZeroPad2d(torch.nn.ZeroPad2d):
    """Zeros around (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "constant", self.value)


class ZeroPad3d(torch.nn.ZeroPad3d):
    """Zeros around (N, C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "constant", self.value)


class ReflectionPad1d(torch.nn.ReflectionPad1d):
    """(N, C, L), mirrored at its borders."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "reflect")


class ReflectionPad2d(torch.nn.ReflectionPad2d):
    """(N, C, H, W), mirrored at its borders."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "reflect")


class ReflectionPad3d(torch.nn.ReflectionPad3d):
    """(N, C, D, H, W), mirrored at its borders."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "reflect")


class ReplicationPad1d(torch.nn.ReplicationPad1d):
    """Copies of the border around (N, C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "replicate")


class ReplicationPad2d(torch.nn.ReplicationPad2d):
    """Copies of the border around (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "replicate")


class ReplicationPad3d(torch.nn.ReplicationPad3d):
    """Copies of the border around (N, C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pad(input, self.padding, "replicate")


class CircularPad1d(torch.nn.CircularPad1d):
    """(N, C, L), continued periodically."""

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        return functional.pad(input, self.padding, "circular")


class CircularPad2d(torch.nn.CircularPad2d):
    """(N, C, H, W), continued periodically."""

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        return functional.pad(input, self.padding, "circular")


class CircularPad3d(torch.nn.CircularPad3d):
    """(N, C, D, H, W), continued periodically."""

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        return functional.pad(input, self.padding, "circular")


class Unfold(torch.nn.Unfold):
    """The patches of (N, C, H, W) as columns, (N, C · kernel area, windows)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(torch.nn.Fold):
    """The sum of patches (N, C · kernel area, windows), each at its place: (N, C, *output_size)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)


class Upsample(torch.nn.Upsample):
    """(N, C, *spatial), interpolated to `size` or by `scale_factor`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )


class UpsamplingNearest2d(torch.nn.UpsamplingNearest2d):
    """(N, C, H, W) with copied pixels; `Upsample` replaces it."""

    forward = Upsample.forward


class UpsamplingBilinear2d(torch.nn.UpsamplingBilinear2d):
    """(N, C, H, W), interpolated so that the corners stay; `Upsample` replaces it."""

    forward = Upsample.forward


class PixelShuffle(torch.nn.PixelShuffle):
    """Channels moved to space, (*, C r², H, W) to (*, C, H r, W r)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(torch.nn.PixelUnshuffle):
    """Space moved to channels, (*, C, H r, W r) to (*, C r², H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.pixel_unshuffle(input, self.downscale_factor)
