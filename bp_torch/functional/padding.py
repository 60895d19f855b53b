"""Padding with a constant, or with copies of the input.

g = ∂C/∂y is the upstream gradient. `pad` has the signature and errors of torch.nn.functional.pad.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.precision import at_least_float32
from bp_torch.functional.shape import LinearMap
from bp_torch.functional.validation import require_tensor

__all__ = ["pad"]


class ConstantPad(LinearMap):
    """y is x with a constant around it; a negative number of values is cut off instead.

    The constant does not depend on x, and a value that is cut off does not enter y:

        ∂C/∂x = g without the padding, and 0 where x was cut off

    Both at once are padding with zeros by the negative numbers. A tangent is padded with 0, the constant's derivative.

    Here one value is added on the left, and one is cut off on the right:

    >>> x = torch.tensor([5.0, 6.0, 7.0], requires_grad=True)
    >>> pad(x, (1, -1), value=9.0).backward(torch.tensor([1.0, 2.0, 3.0]))  # y = (9, 5, 6)
    >>> x.grad
    tensor([2., 3., 0.])
    """

    @staticmethod
    def forward(input: Tensor, pad: Sequence[int], value: float | None) -> Tensor:
        return torch.nn.functional.pad(input, pad, "constant", value)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return torch.nn.functional.pad(grad_output, [-n for n in ctx.constants[0]]), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return torch.nn.functional.pad(tangent, ctx.constants[0])


class CopyPad(LinearMap):
    """y is x with copies of its own values around it: along each padded axis, yₒ = x[source(o − left)].

    For an axis of length n and the position i = o − left, from −left to n + right − 1,

        reflect      source(i) = i mirrored at 0 and at n − 1, which are not repeated
        replicate    source(i) = the nearest one of 0 … n − 1
        circular     source(i) = i mod n; what is cut off is no longer part of the circle

    Each value gets the sum of the gradients of its copies:

        ∂C/∂xⱼ = Σ gₒ over all o with source(o − left) = j

    one axis after the other, so that a copy in a corner is counted for both.

    >>> x = torch.tensor([[5.0, 6.0, 7.0]], requires_grad=True)
    >>> pad(x, (2, 0), "reflect").backward(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))  # y = (7, 6, 5, 6, 7)
    >>> x.grad
    tensor([[3., 6., 6.]])
    """

    @staticmethod
    def forward(input: Tensor, pad: Sequence[int], mode: str, value: float | None) -> Tensor:
        return torch.nn.functional.pad(input, pad, mode, value)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        pad, mode, _ = ctx.constants
        grad = at_least_float32(grad_output)
        for axis, (left, right) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):  # from the last axis on
            if left or right:
                n = ctx.shape[-axis]
                source = _source(left, right, n, mode).to(grad.device)
                shape = (*grad.shape[:-axis], n, *grad.shape[grad.dim() - axis + 1 :])
                grad = grad.new_zeros(shape).index_add(-axis, source, grad)
        return grad.to(ctx.dtype), *ctx.no_gradients


def _source(left: int, right: int, n: int, mode: str) -> Tensor:
    """The index in 0 … n − 1 whose value is copied to each position along an axis."""
    position = torch.arange(-left, n + right)
    if mode == "circular":
        first, end = max(-left, 0), n - max(-right, 0)  # of the values that are not cut off
        return first + (position - first) % max(end - first, 1)
    if mode == "replicate":
        return position.clamp(0, n - 1)
    return n - 1 - (n - 1 - position.abs()).abs()


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add values before and after, (left, right) for the last axis, then for the one before it, and so on.

    `mode` is 'constant' for `value` or 0, see `ConstantPad`; or 'reflect', 'replicate' or 'circular', see `CopyPad`.
    """
    require_tensor("pad", input=input)
    if mode == "constant":
        return ConstantPad.call(input, tuple(pad), value)
    return CopyPad.call(input, tuple(pad), mode, value)
