"""Adaptive pooling: the average or the maximum of a given number of windows, which cover the input.

Along an axis with n values, window o of m begins at ⌊o n / m⌋ and ends before ⌈(o + 1) n / m⌉. So the lengths vary, and
neighbours overlap if m does not divide n; then a value gets the sum of the gradients of its windows. g = ∂C/∂y is the
upstream gradient.

The functions have the signatures and errors of torch.nn.functional. They map (N, C, *spatial) or (C, *spatial).
`output_size` is m for each axis, or one for all; None keeps a length. Under autocast on a CPU, pooling along three axes
computes in float32.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bp_torch.functional.pooling import Pooled, pool_maxima
from bp_torch.functional.precision import at_least_float32, cpu_autocast_to_float32
from bp_torch.functional.shape import LinearMap, as_new
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


class AdaptiveAvgPool(LinearMap):
    """yₒ = 1/dₒ Σᵢ xᵢ over window o, where dₒ is the number of its values, the product of its lengths along the axes.

        ∂C/∂xᵢ = Σ gₒ / dₒ over all windows o that contain i

    Along an axis, window o contains i if o n / m < i + 1 and i < (o + 1) n / m. This is the same condition with i and
    o, n and m exchanged: o < (i + 1) m / n and i m / n < o + 1. So the windows that contain i are themselves an
    adaptive window: from ⌊i m / n⌋ on, and before ⌈(i + 1) m / n⌉. They are summed along one axis after the other.

    Windows (0, 1) and (1, 2) of three values:

    >>> x = torch.zeros(1, 3, requires_grad=True)
    >>> adaptive_avg_pool1d(x, 2).backward(torch.tensor([[2.0, 20.0]]))
    >>> x.grad
    tensor([[ 1., 11., 10.]])
    """

    @staticmethod
    def forward(input: Tensor, dims: int, output_size: OutputSize) -> Tensor:
        return as_new(_AVG_POOL[dims](input, output_size))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return adaptive_avg_pool_grad(grad_output, ctx.shape, ctx.constants[0]).to(ctx.dtype), None, None


def adaptive_avg_pool_grad(grad_output: Tensor, shape: Sequence[int], dims: int) -> Tensor:
    """∂C/∂x of `AdaptiveAvgPool` along the last `dims` axes, for x of this shape."""
    grad = at_least_float32(grad_output)
    for axis in range(len(shape) - dims, len(shape)):
        grad = _sum_of_windows(grad, axis, shape[axis])
    return grad


def _sum_of_windows(grad: Tensor, axis: int, n: int) -> Tensor:
    """Along an axis, the sum of gₒ / dₒ over the windows that contain i, for each of n values."""
    m = grad.shape[axis]
    _, lengths = _windows(n, m, grad.device)
    each = grad / along_axis(lengths, grad, axis)
    first, count = _windows(m, n, grad.device)
    total = each.index_select(axis, first)
    for k in range(1, 1 if n % m == 0 else math.ceil(m / n) + 1):  # the most that may contain a value
        others = each.index_select(axis, (first + k).clamp_max(m - 1))
        total = total + torch.where(along_axis(k < count, grad, axis), others, 0)
    return total


def _windows(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Begin and length of m windows of n values."""
    o = torch.arange(m, device=device)
    begin = o * n // m
    return begin, ((o + 1) * n + m - 1) // m - begin


def along_axis(vector: Tensor, tensor: Tensor, axis: int) -> Tensor:
    """Reshape a vector, to broadcast it along an axis of a Tensor, counted from the first one."""
    return vector.reshape(-1, *[1] * (tensor.dim() - axis - 1))


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
