"""Smooth relatives of the rectifier: softplus, SiLU and the two forms of GELU.

Each works on every component by itself; g stands for ∂C/∂y, the upstream gradient. `backward` and `jvp` share the
derivative y′(x), which stands beside the class where it is longer than a line.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.activations import activate
from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import cuda_autocast_to_float32
from bp_torch.functional.validation import require_tensor

__all__ = ["gelu", "silu", "softplus"]


class Softplus(Function):
    """y = log(1 + e^(βx)) / β; beyond βx > threshold, where the two agree to rounding, y = x.

    ∂C/∂x = g · σ(βx), or g beyond the threshold.

    The exponential is taken of min(βx, threshold), so it does not overflow; log1p keeps what 1 + e^(βx) would
    round away for a very negative x.
    """

    @staticmethod
    def forward(input: Tensor, beta: float, threshold: float) -> Tensor:
        scaled = beta * input
        curved = torch.log1p(torch.exp(scaled.clamp_max(threshold))) / beta
        return torch.where(scaled > threshold, input, curved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        input, ctx.beta, ctx.threshold = inputs
        save(ctx, input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (input,) = ctx.saved_tensors
        scaled = ctx.beta * input
        return torch.where(scaled > ctx.threshold, grad_output, grad_output * torch.sigmoid(scaled)), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (input,) = ctx.saved_tensors
        scaled = ctx.beta * input
        return torch.where(scaled > ctx.threshold, tangent, tangent * torch.sigmoid(scaled))


class SiLU(Function):
    """y = x σ(x), also called swish.

    ∂C/∂x = g · σ(x) (1 + x (1 − σ(x)))
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input * torch.sigmoid(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, inputs[0])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        gate = torch.sigmoid(input)
        return grad_output * (gate * (1 + input * (1 - gate)))

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        gate = torch.sigmoid(input)
        return tangent * (gate * (1 + input * (1 - gate)))


class GELU(Function):
    """y = x Φ(x), with Φ the normal distribution's cumulative function.

    ∂C/∂x = g · (Φ(x) + x φ(x)), with φ = Φ′ the normal density.

    Φ(x) = ½ erfc(−x/√2) rather than ½ (1 + erf(x/√2)), which cancels for a negative x.
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input * _normal_cumulative(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, inputs[0])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        return grad_output * (_normal_cumulative(input) + input * _normal_density(input))

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        return tangent * (_normal_cumulative(input) + input * _normal_density(input))


def _normal_cumulative(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


def _normal_density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


class GELUTanh(Function):
    """y = ½ x (1 + tanh u(x)), with u(x) = √(2/π) (x + κ x³) and κ = 0.044715: GELU without the error function.

    ∂C/∂x = g · (½ (1 + t) + ½ x (1 − t²) u′(x)), with t = tanh u(x) and u′(x) = √(2/π) (1 + 3 κ x²)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return 0.5 * input * (1 + torch.tanh(_gelu_tanh_argument(input)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, inputs[0])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        return grad_output * _gelu_tanh_slope(input)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        return tangent * _gelu_tanh_slope(input)


_ROOT = math.sqrt(2 / math.pi)
_KAPPA = 0.044715


def _gelu_tanh_argument(x: Tensor) -> Tensor:
    return _ROOT * (x + _KAPPA * x * x * x)  # u(x)


def _gelu_tanh_slope(x: Tensor) -> Tensor:
    t = torch.tanh(_gelu_tanh_argument(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (_ROOT * (1 + 3 * _KAPPA * x * x))


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """A smooth rectifier; see `Softplus` for the equations.

    Args:
        input: any shape, floating point.
        beta: β, how sharply it bends.
        threshold: where it becomes the identity, in units of βx.

    Returns:
        The same shape and dtype (float32 under CUDA's autocast).

    Raises:
        TypeError: if `input` is not a Tensor; NotImplementedError if it is not floating point.

    Source:
        torch.nn.functional.softplus.
    """
    require_tensor("softplus", input=input)
    return activate("softplus", Softplus, cuda_autocast_to_float32(input), beta, threshold)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """The input, gated by its own sigmoid; see `SiLU` for the equations.

    Args:
        input: any shape, floating point.
        inplace: write the result into `input` and return it.

    Returns:
        The same shape and dtype.

    Raises:
        TypeError: if `input` is not a Tensor; NotImplementedError if it is not floating point.

    Source:
        torch.nn.functional.silu; Elfwing, Uchibe, Doya (2018).
    """
    return activate("silu", SiLU, input, inplace=inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """The input, gated by how likely a normal variable lies below it; see `GELU` and `GELUTanh` for the equations.

    Args:
        input: any shape, floating point.
        approximate: 'none' for the error function, 'tanh' for the approximation.

    Returns:
        The same shape and dtype.

    Raises:
        TypeError: if `input` is not a Tensor; NotImplementedError if it is not floating point.
        RuntimeError: if `approximate` is neither.

    Source:
        torch.nn.functional.gelu; Hendrycks, Gimpel (2016).
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu(): argument 'approximate' must be 'none' or 'tanh', not {approximate!r}")
    return activate("gelu", GELUTanh if approximate == "tanh" else GELU, input)
