"""Pooling: the maximum, the average or the p-norm of windows, along one, two or three spatial axes.

Pooling acts on each channel of each example by itself. Along an axis, window o covers the values

    i = o · stride − padding + a · dilation        for a = 0 … kernel − 1

Windows overlap if the stride is smaller than the kernel; then a value gets the sum of the gradients of all its windows.
Values that no window reaches have the gradient 0; with `ceil_mode` one more window covers them. g = ∂C/∂y is the
upstream gradient.

The functions have the signatures and errors of torch.nn.functional. They map (N, C, *spatial) or (C, *spatial). A
number stands for all spatial axes, and `stride` is the kernel's size by default. Under autocast on a CPU, pooling along
three axes computes in float32.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bp_torch.functional.activations import relu
from bp_torch.functional.arithmetic import mul, neg, pow
from bp_torch.functional.function import Function, save
from bp_torch.functional.pointwise import abs
from bp_torch.functional.precision import at_least_float32, cpu_autocast_to_float32
from bp_torch.functional.shape import LinearMap, as_new
from bp_torch.functional.validation import require_tensor
from bp_torch.functional.windows import Sizes, per_axis

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]

Pooled = Tensor | tuple[Tensor, Tensor]
_AVG_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class MaxPool(Function):
    """yₒ = max xᵢ over window o = x[index[o]].

    The maximum of a window is one of its values, and only this one affects it: ∂yₒ/∂xᵢ = 1 where i = index[o], else 0.

        ∂C/∂xᵢ = Σ gₒ over all windows o with index[o] = i

    A value that is the maximum of several windows gets the sum of their gradients, all others 0. Among equal values,
    the first one is the maximum, and gets all of g; among several NaN it is the last. The padding is −∞. It is the
    maximum of a window without a value, as a large dilation may leave; such a window has no gradient: RuntimeError.

    The maxima and their indices are computed before the call. The indices are constant: a tiny change of x does not
    change them, away from ties. They count the values of one channel, row by row.

    The 3 is the maximum of two windows; the third window has two equal values:

    >>> x = torch.tensor([[1.0, 3.0, 2.0, 2.0]], requires_grad=True)
    >>> max_pool1d(x, 2, stride=1).backward(torch.tensor([[1.0, 10.0, 100.0]]))
    >>> x.grad
    tensor([[  0.,  11., 100.,   0.]])
    """

    @staticmethod
    def forward(input: Tensor, maxima: Tensor, indices: Tensor, dims: int) -> Tensor:
        return as_new(maxima)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, _, indices, ctx.dims = inputs
        ctx.shape = input.shape
        save(ctx, indices)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (indices,) = ctx.saved_tensors
        index, g = _lines(indices, ctx.dims), _lines(grad_output, ctx.dims)  # (N, C, windows)
        values = math.prod(ctx.shape[-ctx.dims :])
        zeros = g.new_zeros(*g.shape[:-1], values)
        # in place is faster, but vmap cannot add a batch to zeros without one; torch.func enables gradients
        add = zeros.scatter_add if torch.is_grad_enabled() else zeros.scatter_add_
        return add(-1, index, g).reshape(ctx.shape), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (indices,) = ctx.saved_tensors
        return _lines(tangent, ctx.dims).gather(-1, _lines(indices, ctx.dims)).reshape(indices.shape)


def _lines(tensor: Tensor, dims: int) -> Tensor:
    """Merge the spatial axes, (N, C, *spatial) to (N, C, values)."""
    return tensor.reshape(*tensor.shape[:-dims], math.prod(tensor.shape[-dims:]))


class AvgPool(LinearMap):
    """yₒ = 1/dₒ Σᵢ xᵢ over window o; the padding counts as zeros.

    The divisor dₒ is the product over the axes of the window's length. A window that starts at s = o · stride − padding
    is cut off where the padding ends, as `ceil_mode` may require, or without `count_include_pad` where the input ends.
    Along an axis of length n,

        length = min(s + kernel, n + padding) − s
        length = min(s + kernel, n) − max(s, 0)         without the padding

    `divisor_override` replaces dₒ. Each xᵢ enters all windows that contain it, with the weight 1/dₒ:

        ∂C/∂xᵢ = Σ gₒ / dₒ over all windows o that contain i

    g / d is added to the first value of each window, then to the second, and so on, one axis after the other. Half
    precision is computed in float32 and rounded once.

    The middle value is in both windows, and dₒ = 2:

    >>> x = torch.zeros(1, 3, requires_grad=True)
    >>> avg_pool1d(x, 2, stride=1).backward(torch.tensor([[2.0, 20.0]]))
    >>> x.grad
    tensor([[ 1., 11., 10.]])
    """

    @staticmethod
    def forward(input: Tensor, dims: int, *options: Any) -> Tensor:
        output = _AVG_POOL[dims](input, *options)
        return as_new(output) if dims == 1 or input.dim() == dims + 1 else output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        dims, kernel_size, stride, padding, _, count_include_pad, *divisor = ctx.constants
        windows = [per_axis(x, dims) for x in (kernel_size, stride or kernel_size, padding)]
        axes = list(zip(ctx.shape[-dims:], grad_output.shape[-dims:], *windows, strict=True))
        grad = at_least_float32(grad_output)
        grad = grad / (divisor[0] if divisor and divisor[0] else _divisor(axes, count_include_pad, grad.device))
        for axis, (n, _, *window) in zip(range(-1, -dims - 1, -1), reversed(axes), strict=True):
            grad = _add_windows(grad, axis, n, *window)
        return grad.to(ctx.dtype), *ctx.no_gradients


def _divisor(axes: list[tuple[int, ...]], count_include_pad: bool, device: torch.device) -> Tensor:
    """dₒ for each window: the product of its lengths along the axes."""
    lengths = []
    for n, windows, kernel, stride, padding in axes:
        start = torch.arange(windows, device=device) * stride - padding
        first, end = (-padding, n + padding) if count_include_pad else (0, n)
        lengths.append((start + kernel).clamp_max(end) - start.clamp_min(first))
    return reduce(lambda outer, length: outer.unsqueeze(-1) * length, lengths)


def _add_windows(grad: Tensor, axis: int, n: int, kernel: int, stride: int, padding: int) -> Tensor:
    """Add each gₒ along an axis to all values of window o, and drop the padding."""
    shape, reach = list(grad.shape), stride * (grad.shape[axis] - 1) + 1  # from the first window's start to the last's
    shape[axis] = max(n + 2 * padding, reach + kernel - 1)
    padded = grad.new_zeros(shape)
    for offset in range(kernel):
        # not by brackets: those make an alias of a whole axis, for which batched gradients have no rule
        torch.ops.aten.slice(padded, axis, offset, offset + reach, stride).add_(grad)
    return padded.narrow(axis, padding, n)


def max_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The maximum of windows of (N, C, L), and with `return_indices` its index. See `MaxPool`."""
    return pool_maxima(F.max_pool1d, 1, input, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The maximum of windows of (N, C, H, W), and with `return_indices` its index in H·W. See `MaxPool`."""
    return pool_maxima(F.max_pool2d, 2, input, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The maximum of windows of (N, C, D, H, W), and with `return_indices` its index in D·H·W. See `MaxPool`."""
    require_tensor("max_pool3d", input=input)
    if not return_indices:  # with indices, torch has no rule for autocast
        input = cpu_autocast_to_float32(input)
    return pool_maxima(F.max_pool3d, 3, input, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def pool_maxima(pool: Callable[..., Any], dims: int, input: Tensor, return_indices: bool, *options: Any) -> Pooled:
    """Let torch find the maxima and their indices, the constants of `MaxPool`."""
    require_tensor(pool.__name__, input=input)
    maxima, indices = pool(input.detach(), *options, return_indices=True)
    output = MaxPool.call(input, maxima, indices, dims)
    return (output, indices) if return_indices else output


def avg_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The average of windows of (N, C, L). See `AvgPool`."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of windows of (N, C, H, W). See `AvgPool`."""
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of windows of (N, C, D, H, W); NotImplementedError in half precision on a CPU. See `AvgPool`."""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _avg_pool(dims: int, input: Tensor, *options: Any) -> Tensor:
    require_tensor(f"avg_pool{dims}d", input=input)
    return AvgPool.call(input, dims, *options)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of windows of (N, C, L), with p = `norm_type`. See `_lp_pool`."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of windows of (N, C, H, W), with p = `norm_type`. See `_lp_pool`."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of windows of (N, C, D, H, W), with p = `norm_type`. See `_lp_pool`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(dims: int, input: Tensor, p: float, kernel_size: Sizes, stride: Sizes | None, ceil_mode: bool) -> Tensor:
    """yₒ = (Σᵢ xᵢᵖ)^(1/p) over window o, as torch composes it: the sum is the average times the kernel's size.

        ∂C/∂xᵢ = Σ gₒ yₒ¹⁻ᵖ xᵢᵖ⁻¹ over all windows o that contain i

    follows from the functions that it is composed of. Where the sum is 0, the slope of the root is infinite, and the
    gradient is set to 0: relu stops it. The powers are not of |xᵢ|: for an odd p the sum may be negative, and y NaN.
    p = ±∞ means the largest and the smallest |xᵢ|.
    """
    require_tensor(f"lp_pool{dims}d", input=input)
    max_pool: Callable[..., Any] = (max_pool1d, max_pool2d, max_pool3d)[dims - 1]
    if p == math.inf:
        return max_pool(abs(input), kernel_size, stride, 0, 1, ceil_mode)
    if p == -math.inf:
        return neg(max_pool(neg(abs(input)), kernel_size, stride, 0, 1, ceil_mode))
    averages = _avg_pool(dims, pow(input, p), kernel_size, stride, 0, ceil_mode, True)
    size = math.prod(per_axis(kernel_size, dims))
    sums = mul(mul(relu(abs(averages)), torch.sign(averages.detach())), size)
    return pow(sums, 1 / p)
