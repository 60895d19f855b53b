"""Adaptive pooling: the average or the maximum of a given number of windows, which cover the input.

Along an axis with n values, window o of m begins at ⌊o n / m⌋ and ends before ⌈(o + 1) n / m⌉. So the lengths vary, and
neighbours overlap if m does not divide n; then a value gets the sum of the gradients of its windows. g = ∂C/∂y is the
upstream gradient.

The functions have the signatures and errors of torch.nn.functional. They map (N, C, *spatial) or (C, *spatial).
`output_size` is m for each axis, or one for all; None keeps a length. Under autocast on a CPU, pooling along three axes
computes in float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bp_torch.functional.pooling import Pooled, pool_maxima
from bp_torch.functional.precision import cpu_autocast_to_float32
from bp_torch.functional.separable import SeparableMap
from bp_torch.functional.validation import require_tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
]

OutputSize = int | None | Sequence[int | None]
_AVG_POOL: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


class AdaptiveAvgPool(SeparableMap):
    """yₒ = 1/dₒ Σᵢ xᵢ over the dₒ values of window o.

    The window is a product of intervals, so this is a matrix along each axis, with aₒᵢ = 1/dₒ where i is in window o,
    else 0. ∂C/∂x = Aᵀ g B, see `SeparableMap`:

        ∂C/∂xᵢ = Σ gₒ / dₒ over all windows o that contain i

    Windows (0, 1) and (1, 2) of three values:

    >>> x = torch.zeros(1, 3, requires_grad=True)
    >>> adaptive_avg_pool1d(x, 2).backward(torch.tensor([[2.0, 20.0]]))
    >>> x.grad
    tensor([[ 1., 11., 10.]])
    """

    @staticmethod
    def forward(input: Tensor, dims: int, output_size: OutputSize) -> Tensor:
        return _AVG_POOL[dims](input, output_size)

    @staticmethod
    def matrices(inputs: Any, outputs: Any, dtype: torch.dtype, dims: int, output_size: OutputSize) -> list[Tensor]:
        return [adaptive_windows(n, m) for n, m in zip(inputs[-dims:], outputs[-dims:], strict=True)]


def adaptive_windows(n: int, m: int) -> Tensor:
    """The matrix (m, n) of `AdaptiveAvgPool` along an axis."""
    o, i = torch.arange(m).unsqueeze(1), torch.arange(n)
    inside = (o * n // m <= i) & (i * m < (o + 1) * n)  # i < ⌈(o + 1) n / m⌉ exactly if i < (o + 1) n / m
    return inside / inside.sum(1, keepdim=True, dtype=torch.float64)


def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The average of `output_size` windows of (N, C, L). See `AdaptiveAvgPool`."""
    require_tensor("adaptive_avg_pool1d", input=input)
    return AdaptiveAvgPool.call(input, 1, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The average of `output_size` windows of (N, C, H, W); None keeps a length. See `AdaptiveAvgPool`."""
    require_tensor("adaptive_avg_pool2d", input=input)
    return AdaptiveAvgPool.call(input, 2, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """The average of `output_size` windows of (N, C, D, H, W); None keeps a length. See `AdaptiveAvgPool`."""
    require_tensor("adaptive_avg_pool3d", input=input)
    return AdaptiveAvgPool.call(input, 3, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: OutputSize, return_indices: bool = False) -> Pooled:
    """The maximum of `output_size` windows of (N, C, L). See `MaxPool`."""
    return pool_maxima(F.adaptive_max_pool1d, 1, input, return_indices, output_size)


def adaptive_max_pool2d(input: Tensor, output_size: OutputSize, return_indices: bool = False) -> Pooled:
    """The maximum of `output_size` windows of (N, C, H, W). See `MaxPool`."""
    return pool_maxima(F.adaptive_max_pool2d, 2, input, return_indices, output_size)


def adaptive_max_pool3d(input: Tensor, output_size: OutputSize, return_indices: bool = False) -> Pooled:
    """The maximum of `output_size` windows of (N, C, D, H, W). See `MaxPool`."""
    require_tensor("adaptive_max_pool3d", input=input)
    return pool_maxima(F.adaptive_max_pool3d, 3, cpu_autocast_to_float32(input), return_indices, output_size)
