"""Sliding windows: unfold an image into its patches, fold patches into an image, and the windows of a convolution.

g = ∂C/∂y is the upstream gradient. The functions have the signatures and errors of torch.nn.functional; images are
(N, C, H, W) or (C, H, W), and an integer stands for both axes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch.functional.shape import LinearMap
from bp_torch.functional.validation import require_tensor

__all__ = ["fold", "unfold"]

Pair = int | tuple[int, ...]
Sizes = int | Sequence[int]
"""One number for all spatial axes, or one for each."""
MAX_COMPONENTS = 2**19
"""The most components of windows that are multiplied at a time, so that they stay in the cache."""


class Unfold(LinearMap):
    """Column l of y holds the values of window l: y[(c, a, b), l] = x[c, hₗ + a d, wₗ + b d].

    Window l starts at (hₗ, wₗ), a multiple of the stride minus the padding; d is the dilation, and values of the
    padding are 0. A pixel is copied into every window that contains it, so its gradient is the sum over its copies:

        ∂C/∂x[c, i, j] = Σ g[(c, a, b), l] over all l, a, b with hₗ + a d = i and wₗ + b d = j

    which is `fold` with the same windows.

    Two windows of width 2 share the middle one of three pixels:

    >>> x = torch.zeros(1, 1, 3, requires_grad=True)
    >>> unfold(x, (1, 2)).backward(torch.tensor([[1.0, 2.0], [10.0, 20.0]]))  # a row for each pixel of a window
    >>> x.grad
    tensor([[[ 1., 12., 20.]]])
    """

    @staticmethod
    def forward(input: Tensor, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Tensor:
        return torch.nn.functional.unfold(input, kernel_size, dilation, padding, stride)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return torch.nn.functional.fold(grad_output, ctx.shape[-2:], *ctx.constants), *ctx.no_gradients


class Fold(LinearMap):
    """y is the sum of all windows, each at its place: the transpose of `Unfold`, not its inverse.

    A value of a column is added to one pixel, or dropped in the padding. So its gradient is that of this pixel, or 0:

        ∂C/∂x[(c, a, b), l] = g[c, hₗ + a d, wₗ + b d]

    which is `unfold` with the same windows.

    >>> x = torch.zeros(2, 2, requires_grad=True)
    >>> fold(x, (1, 3), (1, 2)).backward(torch.tensor([[[1.0, 2.0, 3.0]]]))
    >>> x.grad
    tensor([[1., 2.],
            [2., 3.]])
    """

    @staticmethod
    def forward(
        input: Tensor, output_size: Pair, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair
    ) -> Tensor:
        return torch.nn.functional.fold(input, output_size, kernel_size, dilation, padding, stride)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return torch.nn.functional.unfold(grad_output, *ctx.constants[1:]), *ctx.no_gradients


def unfold(input: Tensor, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """The patches of an image as columns, (N, C, H, W) to (N, C · kernel area, windows). See `Unfold`."""
    require_tensor("unfold", input=input)
    return Unfold.call(input, kernel_size, dilation, padding, stride)


def fold(
    input: Tensor, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1
) -> Tensor:
    """Add patches up to an image, (N, C · kernel area, windows) to (N, C, *output_size). See `Fold`."""
    require_tensor("fold", input=input)
    return Fold.call(input, output_size, kernel_size, dilation, padding, stride)


class Windows(NamedTuple):
    """Where the windows of a convolution lie: window i covers the pixels s i + d k − p of an axis, for 0 ≤ k < kernel.

    One number for each spatial axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, weight: Tensor, *sizes: Sizes) -> "Windows":
        """The windows of a weight (O, C/groups, *kernel), from stride, padding and dilation."""
        kernel = tuple(weight.shape[2:])
        return cls(kernel, *(per_axis(each, len(kernel)) for each in sizes))

    def remainder(self, input: Tensor) -> list[int]:
        """The pixels of each axis that lie right of the last window."""
        each = zip(input.shape[2:], *self, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in each]

    def view(self, input: Tensor, out: Sequence[int]) -> Tensor:
        """The first `out` windows of each axis, (N, C, *out, *kernel), as a view of the padded input."""
        if any(self.padding):
            input = torch.nn.functional.pad(input, [p for p in reversed(self.padding) for _ in range(2)])
        for axis, (k, s, d) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True), start=2):
            input = input.unfold(axis, d * (k - 1) + 1, s)
            input = input[..., ::d] if d > 1 else input
        return first_pixels(input, out)


def per_axis(sizes: Sizes, axes: int) -> tuple[int, ...]:
    """One number for each axis; a single one stands for all."""
    each = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,)
    return each * axes if len(each) == 1 else each


def multiply_windows(windows: Tensor, grad: Tensor, groups: int) -> Tensor:
    """The sum over n and i as a product of matrices: of g, (O, N · out), and the windows, (C · kernel, N · out).

    Args:
        windows: (N, C, *out, *kernel), as `Windows.view` returns them.
        grad: g, (N, O, *out).
        groups: the number of groups of channels.
    """
    axes, channels = grad.dim() - 2, windows.shape[1]
    order = 1, 2, *range(-axes, 0), 0, *range(3, 3 + axes)  # (groups, C/groups, *kernel, n, *out)
    rows, columns = grad.shape[1] // groups, channels // groups * math.prod(windows.shape[-axes:])
    pixels = math.prod(grad.shape[2:])
    n = max(1, MAX_COMPONENTS // (groups * columns * pixels))  # examples at a time
    total: Any = 0
    for x, g in zip(torch.split(windows, n), torch.split(grad, n), strict=True):
        matrix = by_group(x, groups).permute(order).reshape(groups, columns, len(x) * pixels)
        total = total + by_group(g, groups).movedim(0, 2).reshape(groups, rows, len(x) * pixels) @ matrix.mT
    return total  # (groups, O/groups, C/groups · kernel)


def by_group(tensor: Tensor, groups: int) -> Tensor:
    """(N, C, *) to (N, groups, C/groups, *)."""
    return tensor.reshape(tensor.shape[0], groups, tensor.shape[1] // groups, *tensor.shape[2:])


def first_pixels(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    """The first pixels of each spatial axis."""
    for axis, size in enumerate(sizes, start=2):
        tensor = tensor.narrow(axis, 0, size)
    return tensor
