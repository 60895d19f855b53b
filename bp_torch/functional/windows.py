"""Sliding windows: unfold an image into its patches, and fold patches into an image.

g = ∂C/∂y is the upstream gradient. The functions have the signatures and errors of torch.nn.functional; images are
(N, C, H, W) or (C, H, W), and an integer stands for both axes.
"""

from typing import Any

import torch.nn.functional
from torch import Tensor

from bp_torch.functional.shape import LinearMap
from bp_torch.functional.validation import require_tensor

__all__ = ["fold", "unfold"]

Pair = int | tuple[int, ...]


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
