"""Elementwise functions of one Tensor: absolute value, roots, exponential, logarithm, sine, cosine, erf, clamp.

g = ∂C/∂y is the upstream gradient. The functions have the signatures of torch's and map a Tensor of any shape to one
of the same shape. TypeError if `input` is not a Tensor, NotImplementedError if it is complex.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import Pow
from bp_torch.functional.elementwise import BroadcastFunction, Elementwise
from bp_torch.functional.function import Function
from bp_torch.functional.precision import cuda_autocast_to_float32, in_float32
from bp_torch.functional.validation import require_real

__all__ = ["abs", "clamp", "cos", "erf", "exp", "log", "rsqrt", "sin", "sqrt"]


class Abs(Elementwise):
    """y = |x|. ∂C/∂x = g sign(x); at the kink x = 0 it is 0."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.abs(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        return torch.sign(input)


class Rsqrt(Elementwise):
    """y = 1 / √x = x^(−½). ∂C/∂x = g · (−½ x^(−3/2)) = −½ g y³."""

    saves_output = True

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.rsqrt(input)

    @staticmethod
    def derivative(output: Tensor) -> Tensor:
        return -0.5 * output**3


class Exp(Elementwise):
    """y = eˣ. ∂C/∂x = g y."""

    saves_output = True

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.exp(input)

    @staticmethod
    def derivative(output: Tensor) -> Tensor:
        return output


class Log(Function):
    """y = ln x. ∂C/∂x = g / x; as g · 1/x it would overflow for a tiny x."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.log(input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output / ctx.saved_tensors[0]

    jvp = backward


class Sin(Elementwise):
    """y = sin x. ∂C/∂x = g cos x."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.sin(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        return torch.cos(input)


class Cos(Elementwise):
    """y = cos x. ∂C/∂x = −g sin x."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.cos(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        return -torch.sin(input)


class Erf(Elementwise):
    """y = 2/√π ∫₀ˣ e^(−t²) dt. The derivative of an integral is its integrand at x: ∂C/∂x = g 2/√π e^(−x²).

    At x = 0 the derivative is 2/√π:

    >>> x = torch.zeros(1, requires_grad=True)
    >>> torch.autograd.grad(erf(x), x)
    (tensor([1.1284]),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.erf(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        return 2 / math.sqrt(math.pi) * torch.exp(-input * input)


class Clamp(BroadcastFunction):
    """y = min(max(x, a), b) for the bounds a and b, numbers or Tensors, which are broadcast; either may be missing.

    y is x between the bounds and otherwise one of them, and only this one gets the gradient:

        ∂C/∂x = g where a ≤ x ≤ b, otherwise 0
        ∂C/∂a = g where x < a < b, otherwise 0
        ∂C/∂b = g where x > b or a > b, otherwise 0

    At x = a or x = b all of g goes to x. Where a > b, y = b. Where x < a = b none gets it, as in PyTorch.

    The first value is below a = 1, the second is a, the last is above b = 3:

    >>> x = torch.tensor([0.0, 1.0, 2.0, 5.0], requires_grad=True)
    >>> clamp(x, 1.0, 3.0).backward(torch.tensor([4.0, 5.0, 6.0, 7.0]))
    >>> x.grad
    tensor([0., 5., 6., 0.])
    """

    @staticmethod
    def forward(input: Tensor, min: Any, max: Any) -> Tensor:
        return torch.clamp(input, min, max)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, min, max = inputs
        bounds = -math.inf if min is None else min, math.inf if max is None else max
        BroadcastFunction.setup_context(ctx, (input, *bounds), output)

    @staticmethod
    def grad_input(g: Tensor, input: Tensor, min: Any, max: Any) -> Tensor:
        return torch.where((input >= min) & (input <= max), g, 0)

    @staticmethod
    def grad_min(g: Tensor, input: Tensor, min: Tensor, max: Any) -> Tensor:
        return torch.where((input < min) & (min < max), g, 0)

    @staticmethod
    def grad_max(g: Tensor, input: Tensor, min: Any, max: Tensor) -> Tensor:
        return torch.where((input > max) | (max < min), g, 0)


def abs(input: Tensor) -> Tensor:
    """|input|."""
    return Abs.call(require_real("abs", input))


def sqrt(input: Tensor) -> Tensor:
    """√input, computed as the power ½; NaN below 0."""
    return Pow.call(require_real("sqrt", input), 0.5)


def rsqrt(input: Tensor) -> Tensor:
    """1 / √input; under autocast on CUDA in float32."""
    return Rsqrt.call(cuda_autocast_to_float32(require_real("rsqrt", input)))


def exp(input: Tensor) -> Tensor:
    """The exponential of `input`; under autocast on CUDA in float32."""
    return Exp.call(cuda_autocast_to_float32(require_real("exp", input)))


def log(input: Tensor) -> Tensor:
    """The natural logarithm; −∞ at 0, NaN below. Under autocast on CUDA in float32."""
    return Log.call(cuda_autocast_to_float32(require_real("log", input)))


def sin(input: Tensor) -> Tensor:
    """The sine of `input`."""
    return Sin.call(require_real("sin", input))


def cos(input: Tensor) -> Tensor:
    """The cosine of `input`."""
    return Cos.call(require_real("cos", input))


def erf(input: Tensor) -> Tensor:
    """The error function of `input`. See `Erf`."""
    return in_float32(Erf.call, require_real("erf", input))


def clamp(input: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """`input` within [min, max]; bounds are numbers or Tensors, and None is no bound. See `Clamp`.

    The result has the promoted dtype. TypeError if one bound is a number and the other a Tensor, RuntimeError without
    a bound or if the shapes do not broadcast.
    """
    require_real("clamp", input)
    if min is not None and max is not None and isinstance(min, Tensor) != isinstance(max, Tensor):
        raise TypeError("clamp(): min and max must be both numbers or both Tensors")
    return Clamp.call(input, min, max)
