"""Elementwise activations: sigmoid, tanh, softsign, tanhshrink, and the first rectifiers.

Each is an `Elementwise` y = f(x) with ∂C/∂x = g · f′(x), where g = ∂C/∂y is the upstream gradient.

The functions have the signatures of torch.nn.functional. They map a floating-point Tensor of any shape to one of the
same shape and dtype; half precision is computed in float32 and rounded once. With `inplace` the result is written into
`input`, which is returned. TypeError if `input` is not a Tensor, NotImplementedError if its dtype is not supported.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.elementwise import Elementwise, above
from bp_torch.functional.function import Function, save, scalar_like
from bp_torch.functional.precision import in_float32
from bp_torch.functional.validation import require_floating, require_real

__all__ = ["elu", "leaky_relu", "relu", "sigmoid", "softsign", "tanh", "tanhshrink"]


class Sigmoid(Elementwise):
    """y = σ(x) = 1 / (1 + e⁻ˣ).

    dy/dx = e⁻ˣ / (1 + e⁻ˣ)² = 1 / (1 + e⁻ˣ) · e⁻ˣ / (1 + e⁻ˣ) = y (1 − y)

    ∂C/∂x = g · y (1 − y)

    Only the output is saved. Where y is near 1, the subtraction 1 − y is exact.

    At x = 0, y = 1/2 and the derivative is 1/2 · 1/2 = 1/4:

    >>> x = torch.tensor(0.0, requires_grad=True)
    >>> torch.autograd.grad(sigmoid(x), x)
    (tensor(0.2500),)
    """

    saves_output = True

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.sigmoid(input)

    @staticmethod
    def derivative(output: Tensor) -> Tensor:
        return output * (scalar_like(1, output) - output)


class Tanh(Elementwise):
    """y = tanh(x) = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ).

    dy/dx = ((eˣ + e⁻ˣ)² − (eˣ − e⁻ˣ)²) / (eˣ + e⁻ˣ)² = 1 − y²

    ∂C/∂x = g · (1 − y)(1 + y)

    Only the output is saved. The product keeps the digits that 1 − y² loses by cancellation where y is near ±1.

    At x = log 2, y = (2 − 1/2) / (2 + 1/2) = 0.6, and the derivative is 0.4 · 1.6 = 0.64:

    >>> x = torch.tensor(2.0).log().requires_grad_()
    >>> torch.autograd.grad(tanh(x), x)
    (tensor(0.6400),)
    """

    saves_output = True

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.tanh(input)

    @staticmethod
    def derivative(output: Tensor) -> Tensor:
        return (scalar_like(1, output) - output) * (1 + output)


class Softsign(Elementwise):
    """y = x / (1 + |x|).

    dy/dx = (1 + |x| − x sign(x)) / (1 + |x|)² = 1 / (1 + |x|)²

    ∂C/∂x = g / (1 + |x|)²

    At x = 0 the derivative is 1. The second derivative jumps from 2 to −2 there; it is 0, as in torch.

    At x = −3 the derivative is 1/16:

    >>> x = torch.tensor(-3.0, requires_grad=True)
    >>> torch.autograd.grad(softsign(x), x)
    (tensor(0.0625),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input / (input.abs() + 1)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        y_over_x = 1 / (input.abs() + 1)
        return y_over_x * y_over_x


class Tanhshrink(Elementwise):
    """y = x − tanh(x).

    dy/dx = 1 − (1 − tanh²(x)) = tanh²(x)

    ∂C/∂x = g · tanh²(x)

    At x = log 2, tanh(x) = 0.6:

    >>> x = torch.tensor(2.0).log().requires_grad_()
    >>> torch.autograd.grad(tanhshrink(x), x)
    (tensor(0.3600),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input - torch.tanh(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        t = torch.tanh(input)
        return t * t


class ReLU(Elementwise):
    """y = max(x, 0).

    ∂C/∂x = g where x > 0, otherwise 0; at the kink x = 0 it is 0

    Only the output is saved: y ≠ 0 exactly where x > 0. A choice instead of a product gives 0, not NaN, where x ≤ 0 and
    g is infinite.

    >>> x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    >>> torch.autograd.grad(relu(x), x, torch.tensor([5.0, 6.0, 7.0]))
    (tensor([0., 0., 7.]),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input.clamp_min(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return torch.where(output.bool(), grad_output, 0)  # bool() takes a sixth of the time of a comparison

    jvp = backward


class LeakyReLU(Elementwise):
    """y = x where x > 0, otherwise s x, where s is the negative slope.

    ∂C/∂x = g where x > 0, otherwise s g; at the kink x = 0 it is s g

    >>> x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    >>> torch.autograd.grad(leaky_relu(x, 0.5), x, torch.tensor([5.0, 6.0, 7.0]))
    (tensor([2.5000, 3.0000, 7.0000]),)
    """

    @staticmethod
    def forward(input: Tensor, negative_slope: float) -> Tensor:
        return F.leaky_relu(input, negative_slope)

    @staticmethod
    def derivative(input: Tensor, negative_slope: float) -> Tensor:
        return F.threshold(above(input, 0), 0, negative_slope)  # 1, or s in place of 0


class ELU(Elementwise):
    """y = x where x > 0, otherwise α (eˣ − 1).

    ∂C/∂x = g where x > 0, otherwise g · α eˣ; at x = 0 it is α g

    At x = 0 the second derivative is α as well, the left-hand one; torch's is 0.

    The exponential is taken of min(x, 0), then multiplied by 0 where x > 0: that of a large x would overflow.

    At x = log ½ with α = 3, eˣ = 1/2 and the derivative is 3/2:

    >>> x = torch.tensor(0.5).log().requires_grad_()
    >>> torch.autograd.grad(elu(x, 3.0), x)
    (tensor(1.5000),)
    """

    @staticmethod
    def forward(input: Tensor, alpha: float) -> Tensor:
        return F.elu(input, alpha)

    @staticmethod
    def derivative(input: Tensor, alpha: float) -> Tensor:
        positive = above(input, 0)
        return torch.addcmul(positive, 1 - positive, torch.exp(input.clamp_max(0)), value=alpha)


def sigmoid(input: Tensor) -> Tensor:
    """Squash into (0, 1); integers and booleans become the default float dtype. See `Sigmoid`."""
    return in_float32(Sigmoid.call, _as_floating("sigmoid", input))


def tanh(input: Tensor) -> Tensor:
    """Squash into (−1, 1); integers and booleans become the default float dtype. See `Tanh`."""
    return in_float32(Tanh.call, _as_floating("tanh", input))


def softsign(input: Tensor) -> Tensor:
    """Squash into (−1, 1), slower than tanh; integers become the default float dtype. See `Softsign`."""
    return in_float32(Softsign.call, _as_floating("softsign", input))


def tanhshrink(input: Tensor) -> Tensor:
    """The input minus its tanh; integers become the default float dtype. See `Tanhshrink`."""
    return in_float32(Tanhshrink.call, _as_floating("tanhshrink", input))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), for integers too; RuntimeError for booleans. See `ReLU`."""
    if require_real("relu", input).dtype == torch.bool:
        raise RuntimeError("relu(): argument 'input' must not be boolean")
    return input.copy_(ReLU.call(input)) if inplace else ReLU.call(input)  # saves its output, so needs no copy


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Rectifier with a small slope below 0. See `LeakyReLU`."""
    return activate("leaky_relu", LeakyReLU, input, negative_slope, inplace=inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Rectifier that saturates smoothly at −α. See `ELU`; Clevert, Unterthiner, Hochreiter (2016)."""
    return activate("elu", ELU, input, alpha, inplace=inplace)


def activate(name: str, function: type[Function], input: Tensor, *constants: object, inplace: bool = False) -> Tensor:
    """Check `input` and call `function`; if `inplace`, call it on a copy and write the result into `input`."""
    require_floating(name, input=input)
    return elementwise(function, input, *constants, inplace=inplace)


def elementwise(function: type[Function], input: Tensor, *constants: object, inplace: bool = False) -> Tensor:
    """`activate` without a check of the dtype, for functions of integers."""
    output = in_float32(function.call, input.clone() if inplace else input, *constants)
    return input.copy_(output) if inplace else output


def _as_floating(name: str, input: Tensor) -> Tensor:
    if isinstance(input, Tensor) and input.is_floating_point():
        return input
    return require_real(name, input).to(torch.get_default_dtype())  # integers and booleans
