"""Smooth activations: softplus, SiLU, GELU, Mish, the logarithm of the sigmoid, and GLU.

For g, arguments, dtypes and errors see `activations`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.activations import activate
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import cuda_autocast_to_float32, in_float32
from bp_torch.functional.validation import require_tensor

__all__ = ["gelu", "glu", "logsigmoid", "mish", "silu", "softplus"]


class Softplus(Elementwise):
    """y = log(1 + e^(βx)) / β, or x where βx > threshold: there the two agree to rounding.

    dy/dx = 1/β · β e^(βx) / (1 + e^(βx)) = σ(βx)

    ∂C/∂x = g · σ(βx), or g where βx > threshold

    The exponential is taken of min(βx, threshold) and cannot overflow. For a very negative x, log1p keeps the digits
    of e^(βx) that 1 + e^(βx) rounds away.

    At x = log 3 with β = 1 the derivative is 3 / (1 + 3):

    >>> x = torch.tensor(3.0).log().requires_grad_()
    >>> torch.autograd.grad(softplus(x), x)
    (tensor(0.7500),)
    """

    @staticmethod
    def forward(input: Tensor, beta: float, threshold: float) -> Tensor:
        scaled = beta * input
        curved = torch.log1p(torch.exp(scaled.clamp_max(threshold))) / beta
        return torch.where(scaled > threshold, input, curved)

    @staticmethod
    def derivative(input: Tensor, beta: float, threshold: float) -> Tensor:
        scaled = beta * input
        return torch.where(scaled > threshold, 1, torch.sigmoid(scaled))


class SiLU(Elementwise):
    """y = x σ(x), also called swish.

    dy/dx = σ(x) + x σ′(x), where σ′ = σ (1 − σ)

    ∂C/∂x = g · σ(x) (1 + x (1 − σ(x)))

    At x = 0 the derivative is σ(0) = 1/2:

    >>> x = torch.tensor(0.0, requires_grad=True)
    >>> torch.autograd.grad(silu(x), x)
    (tensor(0.5000),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input * torch.sigmoid(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        gate = torch.sigmoid(input)
        return gate * (1 + input * (1 - gate))


class GELU(Elementwise):
    """y = x Φ(x), where Φ is the cumulative distribution function of the standard normal.

    dy/dx = Φ(x) + x φ(x), where φ(x) = Φ′(x) = e^(−x²/2) / √(2π)

    ∂C/∂x = g · (Φ(x) + x φ(x))

    Φ(x) is computed as ½ erfc(−x/√2); the equal ½ (1 + erf(x/√2)) cancels for a negative x.

    At x = 1 the derivative is Φ(1) + φ(1) = 0.8413 + 0.2420:

    >>> x = torch.tensor(1.0, requires_grad=True)
    >>> torch.autograd.grad(gelu(x), x)
    (tensor(1.0833),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input * _normal_cumulative(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        density = torch.exp(-0.5 * input * input) / math.sqrt(2 * math.pi)
        return _normal_cumulative(input) + input * density


def _normal_cumulative(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


class GELUTanh(Elementwise):
    """y = ½ x (1 + tanh u(x)), where u(x) = √(2/π) (x + κ x³) and κ = 0.044715: GELU without the error function.

    dy/dx = ½ (1 + t) + ½ x (1 − t²) u′(x), where t = tanh u(x) and u′(x) = √(2/π) (1 + 3 κ x²)

    ∂C/∂x = g · (½ (1 + t) + ½ x (1 − t²) u′(x))

    At x = 0, t = 0 and the derivative is 1/2:

    >>> x = torch.tensor(0.0, requires_grad=True)
    >>> torch.autograd.grad(gelu(x, "tanh"), x)
    (tensor(0.5000),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return 0.5 * input * (1 + torch.tanh(_gelu_tanh_argument(input)))

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        t = torch.tanh(_gelu_tanh_argument(input))
        return 0.5 * (1 + t) + 0.5 * input * (1 - t * t) * (_ROOT * (1 + 3 * _KAPPA * input * input))


_ROOT = math.sqrt(2 / math.pi)
_KAPPA = 0.044715


def _gelu_tanh_argument(x: Tensor) -> Tensor:
    return _ROOT * (x + _KAPPA * x * x * x)  # u(x)


class Mish(Elementwise):
    """y = x t, where t = tanh(log(1 + eˣ)).

    With r = σ(−x) = 1 / (1 + eˣ), t = (1/r − r) / (1/r + r) = (1 − r²) / (1 + r²). Then dt/dr = −4r / (1 + r²)² and
    dr/dx = −r (1 − r), so dt/dx = 4r² σ(x) / (1 + r²)², and 1 − r² = σ(x) (1 + r):

    dy/dx = t + x dt/dx = σ(x) / (1 + r²) · (1 + r + 4 x r² / (1 + r²))

    ∂C/∂x = g · dy/dx

    No exponential overflows, and nothing cancels where t is nearly 0 or 1.

    At x = 0, r = 1/2 and the derivative is ½ / 1.25 · 1.5:

    >>> x = torch.tensor(0.0, requires_grad=True)
    >>> torch.autograd.grad(mish(x), x)
    (tensor(0.6000),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return F.mish(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        r = torch.sigmoid(-input)
        square = r * r
        d = 1 + square
        return torch.sigmoid(input) / d * (1 + r + 4 * input * square / d)


class LogSigmoid(Elementwise):
    """y = log σ(x) = −log(1 + e⁻ˣ).

    dy/dx = σ′(x) / σ(x) = σ (1 − σ) / σ = 1 − σ(x) = σ(−x)

    ∂C/∂x = g · σ(−x)

    σ(−x) keeps the digits that 1 − σ(x) loses where σ(x) is nearly 1.

    At x = log 3, σ(−x) = 1 / (1 + 3):

    >>> x = torch.tensor(3.0).log().requires_grad_()
    >>> torch.autograd.grad(logsigmoid(x), x)
    (tensor(0.2500),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return F.logsigmoid(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        return torch.sigmoid(-input)


class GLU(Function):
    """y = a σ(b), where a and b are the halves of x along a dimension: the gated linear unit.

    ∂C/∂a = g · σ(b)
    ∂C/∂b = g · a σ(b) (1 − σ(b)), and ∂C/∂x is the two, concatenated

    For a = 8 and b = 0 the gate σ(b) is 1/2, and the gradient is (1/2, 8 · 1/4):

    >>> x = torch.tensor([8.0, 0.0], requires_grad=True)
    >>> torch.autograd.grad(glu(x), x, torch.tensor([1.0]))
    (tensor([0.5000, 2.0000]),)
    """

    @staticmethod
    def forward(input: Tensor, dim: int) -> Tensor:
        return F.glu(input, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        input, ctx.dim = inputs
        save(ctx, input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (input,) = ctx.saved_tensors
        a, b = input.chunk(2, ctx.dim)
        gate = torch.sigmoid(b)
        grad_a = grad_output * gate
        return torch.cat([grad_a, grad_a * a * (1 - gate)], ctx.dim), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (input,) = ctx.saved_tensors
        a, b = input.chunk(2, ctx.dim)
        a_tangent, b_tangent = tangent.chunk(2, ctx.dim)
        gate = torch.sigmoid(b)
        return gate * (a_tangent + a * (1 - gate) * b_tangent)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """Smooth rectifier; the larger `beta`, the sharper. Under autocast on CUDA in float32. See `Softplus`."""
    require_tensor("softplus", input=input)
    return activate("softplus", Softplus, cuda_autocast_to_float32(input), beta, threshold)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """The input times its sigmoid. See `SiLU`; Elfwing, Uchibe, Doya (2018)."""
    return activate("silu", SiLU, input, inplace=inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """The input times Φ(input). See `GELU`; Hendrycks, Gimpel (2016).

    `approximate` is 'none', or 'tanh' for `GELUTanh`; RuntimeError otherwise.
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu(): argument 'approximate' must be 'none' or 'tanh', not {approximate!r}")
    return activate("gelu", GELUTanh if approximate == "tanh" else GELU, input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """The input times tanh(softplus(input)). See `Mish`; Misra (2019)."""
    return activate("mish", Mish, input, inplace=inplace)


def logsigmoid(input: Tensor) -> Tensor:
    """The logarithm of the sigmoid, stable where it rounds to 0. See `LogSigmoid`."""
    return activate("logsigmoid", LogSigmoid, input)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim`, gated by the sigmoid of the second. See `GLU`; Dauphin, Fan, Auli, Grangier (2017).

    `dim` of the result is half as long. RuntimeError if its length is odd, or if `input` is a scalar.
    """
    require_tensor("glu", input=input)
    return in_float32(GLU.call, input, dim)
