"""Smooth elementwise activations: softplus, SiLU and the two forms of GELU.

For g, arguments, dtypes and errors see `activations`.
"""

import math

import torch
from torch import Tensor

from bp_torch.functional.activations import activate
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.precision import cuda_autocast_to_float32
from bp_torch.functional.validation import require_tensor

__all__ = ["gelu", "silu", "softplus"]


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
