"""Piecewise activations: clipping, thresholds, shrinkage, and the piecewise forms of sigmoid and SiLU.

For g, arguments, dtypes and errors see `activations`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.activations import activate, elementwise
from bp_torch.functional.elementwise import Elementwise, above, below
from bp_torch.functional.validation import require_real

__all__ = ["hardshrink", "hardsigmoid", "hardswish", "hardtanh", "relu6", "softshrink", "threshold"]


class Hardtanh(Elementwise):
    """y = x, clipped to [a, b].

    ∂C/∂x = g where a < x < b, otherwise 0; at the kinks x = a and x = b it is 0

    >>> x = torch.tensor([-2.0, -0.5, 1.0], requires_grad=True)
    >>> torch.autograd.grad(hardtanh(x), x, torch.tensor([5.0, 6.0, 7.0]))
    (tensor([0., 6., 0.]),)
    """

    @staticmethod
    def forward(input: Tensor, min_val: float, max_val: float) -> Tensor:
        return F.hardtanh(input, min_val, max_val)

    @staticmethod
    def derivative(input: Tensor, min_val: float, max_val: float) -> Tensor:
        return above(input, min_val) * below(input, max_val)


class Threshold(Elementwise):
    """y = x where x > θ, otherwise a constant value.

    ∂C/∂x = g where x > θ, otherwise 0; at the jump x = θ it is 0

    >>> x = torch.tensor([0.5, 1.0, 3.0], requires_grad=True)
    >>> torch.autograd.grad(threshold(x, 1.0, 20.0), x, torch.tensor([5.0, 6.0, 7.0]))
    (tensor([0., 0., 7.]),)
    """

    @staticmethod
    def forward(input: Tensor, threshold: float, value: float) -> Tensor:
        return F.threshold(input, threshold, value)

    @staticmethod
    def derivative(input: Tensor, threshold: float, value: float) -> Tensor:
        return above(input, threshold)


class Hardshrink(Elementwise):
    """y = x where |x| > λ, otherwise 0.

    ∂C/∂x = g where |x| > λ, otherwise 0; at the jumps x = ±λ it is 0

    >>> x = torch.tensor([-2.0, 0.3, 0.5], requires_grad=True)
    >>> torch.autograd.grad(hardshrink(x), x, torch.tensor([5.0, 6.0, 7.0]))
    (tensor([5., 0., 0.]),)
    """

    @staticmethod
    def forward(input: Tensor, lambd: float) -> Tensor:
        return F.hardshrink(input, lambd)

    @staticmethod
    def derivative(input: Tensor, lambd: float) -> Tensor:
        return above(input.abs(), lambd)


class Softshrink(Elementwise):
    """y = x − λ sign(x) where |x| > λ, otherwise 0.

    λ sign(x) is constant on each side, so the derivative is that of `Hardshrink`.

    ∂C/∂x = g where |x| > λ, otherwise 0; at the kinks x = ±λ it is 0

    >>> x = torch.tensor([-2.0, 0.3, 0.5], requires_grad=True)
    >>> torch.autograd.grad(softshrink(x), x, torch.tensor([5.0, 6.0, 7.0]))
    (tensor([5., 0., 0.]),)
    """

    @staticmethod
    def forward(input: Tensor, lambd: float) -> Tensor:
        return F.softshrink(input, lambd)

    @staticmethod
    def derivative(input: Tensor, lambd: float) -> Tensor:
        return above(input.abs(), lambd)


class Hardsigmoid(Elementwise):
    """y = (x + 3) / 6, clipped to [0, 1]: a piecewise linear sigmoid.

    ∂C/∂x = g / 6 where −3 < x < 3, otherwise 0; at the kinks x = ±3 it is 0

    >>> x = torch.tensor([-4.0, 1.0, 3.0], requires_grad=True)
    >>> torch.autograd.grad(hardsigmoid(x), x, torch.tensor([6.0, 12.0, 18.0]))
    (tensor([0., 2., 0.]),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return F.hardsigmoid(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        return below(input.abs(), 3) / 6


class Hardswish(Elementwise):
    """y = x h(x), where h is `Hardsigmoid`: 0 where x ≤ −3, x (x + 3) / 6 up to 3, then x.

    dy/dx = h(x) + x h′(x), where h′ = 1/6 or 0; with c = x clipped to [−3, 3] this is (c + 3)/6 + c h′(x)

    ∂C/∂x = 0 where x ≤ −3, g (2x + 3) / 6 up to 3, then g; at the kink x = −3 it is 0, at the kink x = 3 it is g

    At x = −3 the slope jumps from 0 to −1/2, at x = 3 from 3/2 to 1. At x = 1.5 it is 1:

    >>> x = torch.tensor([-4.0, 1.5, 3.0], requires_grad=True)
    >>> torch.autograd.grad(hardswish(x), x, torch.tensor([5.0, 6.0, 7.0]))
    (tensor([0., 6., 7.]),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return F.hardswish(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        clipped = input.clamp(-3, 3)
        return torch.addcmul(clipped, clipped, below(clipped.abs(), 3)).add_(3).div_(6)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Clip to [min_val, max_val], integers too; ValueError if min_val is the larger. See `Hardtanh`."""
    require_real("hardtanh", input)
    if min_val > max_val:
        raise ValueError(f"hardtanh(): min_val {min_val} must not be greater than max_val {max_val}")
    return elementwise(Hardtanh, input, min_val, max_val, inplace=inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """Clip to [0, 6], integers too. See `Hardtanh`."""
    return elementwise(Hardtanh, require_real("relu6", input), 0, 6, inplace=inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Replace by `value` what is not greater than `threshold`, in integers too. See `Threshold`."""
    return elementwise(Threshold, require_real("threshold", input), threshold, value, inplace=inplace)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Replace by 0 what lies in [−λ, λ]. See `Hardshrink`."""
    return activate("hardshrink", Hardshrink, input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Move towards 0 by λ, not beyond it; RuntimeError if λ is negative. See `Softshrink`."""
    return activate("softshrink", Softshrink, input, lambd)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """A piecewise linear sigmoid. See `Hardsigmoid`; Howard et al. (2019)."""
    return activate("hardsigmoid", Hardsigmoid, input, inplace=inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """The input times its hardsigmoid. See `Hardswish`; Howard et al. (2019)."""
    return activate("hardswish", Hardswish, input, inplace=inplace)
