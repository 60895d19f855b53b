"""Modules of pooling, (N, C, *spatial) or (C, *spatial) to the same with other spatial sizes."""

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.functional.pooling import Pooled

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]


class MaxPool1d(torch.nn.MaxPool1d):
    """The maximum of windows of (N, C, L); with `return_indices` also its index."""

    def forward(self, input: Tensor) -> Pooled:
        return functional.max_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class MaxPool2d(torch.nn.MaxPool2d):
    """The maximum of windows of (N, C, H, W); with `return_indices` also its index."""

    def forward(self, input: Tensor) -> Pooled:
        return functional.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class MaxPool3d(torch.nn.MaxPool3d):
    """The maximum of windows of (N, C, D, H, W); with `return_indices` also its index."""

    def forward(self, input: Tensor) -> Pooled:
        return functional.max_pool3d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class AvgPool1d(torch.nn.AvgPool1d):
    """The average of windows of (N, C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class AvgPool2d(torch.nn.AvgPool2d):
    """The average of windows of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool3d(torch.nn.AvgPool3d):
    """The average of windows of (N, C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.avg_pool3d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class LPPool1d(torch.nn.LPPool1d):
    """The p-norm of windows of (N, C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.lp_pool1d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool2d(torch.nn.LPPool2d):
    """The p-norm of windows of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.lp_pool2d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool3d(torch.nn.LPPool3d):
    """The p-norm of windows of (N, C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.lp_pool3d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class AdaptiveAvgPool1d(torch.nn.AdaptiveAvgPool1d):
    """The average of windows of (N, C, L), as many as `output_size`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(torch.nn.AdaptiveAvgPool2d):
    """The average of windows of (N, C, H, W), as many as `output_size`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(torch.nn.AdaptiveAvgPool3d):
    """The average of windows of (N, C, D, H, W), as many as `output_size`."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_avg_pool3d(input, self.output_size)


class AdaptiveMaxPool1d(torch.nn.AdaptiveMaxPool1d):
    """The maximum of windows of (N, C, L), as many as `output_size`; with `return_indices` also its index."""

    def forward(self, input: Tensor) -> Pooled:
        return functional.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(torch.nn.AdaptiveMaxPool2d):
    """The maximum of windows of (N, C, H, W), as many as `output_size`; with `return_indices` also its index."""

    def forward(self, input: Tensor) -> Pooled:
        return functional.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(torch.nn.AdaptiveMaxPool3d):
    """The maximum of windows of (N, C, D, H, W), as many as `output_size`; with `return_indices` also its index."""

    def forward(self, input: Tensor) -> Pooled:
        return functional.adaptive_max_pool3d(input, self.output_size, self.return_indices)
