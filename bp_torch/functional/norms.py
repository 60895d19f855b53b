"""Division by a norm of the values themselves: RMS, local response and L_p normalization.

g = ∂C/∂y is the upstream gradient. The functions have the signatures, errors and values of torch.nn.functional.
Gradients in half precision are computed in float32 and rounded once. TypeError if `input` is not a Tensor,
NotImplementedError if it is complex.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.normalization import LayerNorm
from bp_torch.functional.precision import at_least_float32
from bp_torch.functional.standardize import as_inputs, output_tangent, remember, summed, times
from bp_torch.functional.validation import require_real

__all__ = ["local_response_norm", "normalize", "rms_norm"]


class RMSNorm(Function):
    """y = γ x̂ with x̂ = x / ρ, where ρ² = mean(x²) + ε: `Normalize` without the mean.

    The mean is over the n values of the last axes, which have the shape of γ. With δ = ∂C/∂x̂ = γ g, xᵢ changes every
    x̂ⱼ = xⱼ / ρ in two ways.

        directly      ∂x̂ᵢ/∂xᵢ = 1/ρ                                              δᵢ / ρ
        through ρ     ∂ρ/∂xᵢ = x̂ᵢ/n,  ∂x̂ⱼ/∂ρ = −x̂ⱼ/ρ    Σⱼ δⱼ · −x̂ⱼ/ρ · x̂ᵢ/n = −x̂ᵢ mean(δ x̂) / ρ

        ∂C/∂x = (δ − x̂ mean(δ x̂)) / ρ
        ∂C/∂γ = Σ g x̂                      over the other axes

    Only x and γ are saved.

    For x = (1, 7) and ε = 0, ρ = 5 and x̂ = (0.2, 1.4). For g = (5, 0), mean(g x̂) = 0.5, and the gradient is
    (5 − 0.1, −0.7) / 5:

    >>> x = torch.tensor([1.0, 7.0], requires_grad=True)
    >>> torch.autograd.grad(rms_norm(x, (2,), eps=0.0), x, torch.tensor([5.0, 0.0]))
    (tensor([ 0.9800, -0.1400]),)
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor | None, normalized_shape: Sequence[int], eps: float | None) -> Tensor:
        return torch.rms_norm(input, normalized_shape, weight, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, normalized_shape, eps = inputs
        eps = torch.finfo(at_least_float32(input).dtype).eps if eps is None else eps
        remember(ctx, LayerNorm.layout(input.shape, normalized_shape), eps, (input, weight), output, constants=2)
        save(ctx, input, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        layout, (input, weight), g = ctx.layout, ctx.saved_tensors, ctx.layout.view(grad_output)
        x_hat, inverse = RMSNorm.divided(layout.view(input), ctx)
        grad_input = RMSNorm.both_terms(times(g, weight, layout), x_hat, inverse, ctx)
        return as_inputs((grad_input, summed(g * x_hat, layout.broadcast)), ctx)

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, weight_tangent: Tensor | None, *_: None) -> Tensor:
        layout, (input, weight) = ctx.layout, ctx.saved_tensors
        x_hat, inverse = RMSNorm.divided(layout.view(input), ctx)
        tangent = RMSNorm.both_terms(layout.view(input_tangent), x_hat, inverse, ctx)
        return output_tangent(tangent, x_hat, weight, weight_tangent, None, ctx)

    @staticmethod
    def divided(x: Tensor, ctx: Any) -> tuple[Tensor, Tensor]:
        """x̂ and 1/ρ."""
        inverse = torch.rsqrt(x.square().mean(ctx.layout.axes, keepdim=True) + ctx.eps)
        return x * inverse, inverse

    @staticmethod
    def both_terms(delta: Tensor, x_hat: Tensor, inverse: Tensor, ctx: Any) -> Tensor:
        """∂C/∂x for δ = ∂C/∂x̂. The Jacobian of x̂ is symmetric, so it is the tangent of x̂ for δ = ẋ as well."""
        return (delta - x_hat * (delta * x_hat).mean(ctx.layout.axes, keepdim=True)) * inverse


class LocalResponseNorm(Function):
    """y = x s^(−β), where s of channel c is k + α/n Σ x² over the n channels from c − ⌊n/2⌋ on; outside of x, x = 0.

    xᵢ enters its own output directly, and every s of which channel i is one of the n, with ∂s/∂xᵢ = 2α/n xᵢ. With
    ∂y/∂s = −β x s^(−β−1),

        ∂C/∂xᵢ = gᵢ sᵢ^(−β) − 2αβ/n xᵢ Σⱼ gⱼ xⱼ sⱼ^(−β−1)

    over the n channels j up to i + ⌊n/2⌋: the mirrored window.

    For n = α = β = 1 and k = 0, y = x / x². At x = 2 the derivative is −1/4:

    >>> x = torch.tensor([[[2.0]]], requires_grad=True)
    >>> torch.autograd.grad(local_response_norm(x, 1, alpha=1.0, beta=1.0, k=0.0), x)
    (tensor([[[-0.2500]]]),)
    """

    @staticmethod
    def forward(input: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        output = torch.nn.functional.local_response_norm(input, size, alpha, beta, k)
        return input.clone() if output is input else output  # an empty input; a Function must return a new Tensor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, *ctx.constants = inputs
        ctx.dtype = output.dtype
        save(ctx, input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,), (size, alpha, beta, k) = ctx.saved_tensors, ctx.constants
        x, g = at_least_float32(input), at_least_float32(grad_output)
        s = k + alpha / size * window_sum(x * x, size // 2, size)
        factor = s**-beta
        through_s = window_sum(g * (x * factor / s), (size - 1) // 2, size)  # s^(−β−1) by itself may underflow
        grad_input = g * factor - 2 * alpha * beta / size * x * through_s
        return grad_input.to(input.dtype), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (input,), (size, alpha, beta, k) = ctx.saved_tensors, ctx.constants
        x, t = at_least_float32(input), at_least_float32(tangent)
        s = k + alpha / size * window_sum(x * x, size // 2, size)
        factor = s**-beta
        s_tangent = 2 * alpha / size * window_sum(x * t, size // 2, size)
        return (t * factor - beta * (x * factor / s) * s_tangent).to(ctx.dtype)


def window_sum(tensor: Tensor, before: int, size: int) -> Tensor:
    """For each channel c of (N, C, *), the sum over the `size` channels from c − `before` on."""
    padding = (0, 0) * (tensor.dim() - 2) + (before, size - 1 - before)
    padded = torch.nn.functional.pad(tensor, padding)
    total = padded.narrow(1, 0, tensor.shape[1])
    for first in range(1, size):
        total = total + padded.narrow(1, first, tensor.shape[1])
    return total


class LpNormalize(Function):
    """y = x / d with d = max(‖x‖, ε), where ‖x‖ = (Σ |xᵢ|ᵖ)^(1/p) over the axes `dim`.

    xᵢ enters its own output directly, and every output through d: ∂yⱼ/∂d = −yⱼ/d. With s = ∂d/∂x,

        ∂C/∂x = (g − s Σ g y) / d
        sᵢ = sign(xᵢ) (|xᵢ| / ‖x‖)^(p−1) where ‖x‖ ≥ ε, else 0

    For p = 2, s = y: the gradient has no component along y, since y does not change with the length of x. For p = ∞, s
    is sign(xᵢ) at the largest |xᵢ|, shared equally by k of them, and 0 elsewhere. For p = 0, a count, s is 0; so it is
    where ‖x‖ = 0, and for p < 1 where xᵢ = 0.

    For x = (3, 4), y = (0.6, 0.8). For g = (5, 0), Σ g y = 3, and the gradient is (5 − 1.8, −2.4) / 5:

    >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> torch.autograd.grad(normalize(x), x, torch.tensor([[5.0, 0.0]]))
    (tensor([[ 0.6400, -0.4800]]),)
    """

    @staticmethod
    def forward(input: Tensor, p: float, dim: Any, eps: float) -> Tensor:
        return torch.nn.functional.normalize(input, p, dim, eps)

    setup_context = staticmethod(LocalResponseNorm.setup_context)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (input,), (_, dim, _) = ctx.saved_tensors, ctx.constants
        y, slope, divisor = LpNormalize.parts(at_least_float32(input), *ctx.constants)
        g = at_least_float32(grad_output)
        grad_input = (g - slope * (g * y).sum(dim, keepdim=True)) / divisor
        return grad_input.to(input.dtype), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (input,), (_, dim, _) = ctx.saved_tensors, ctx.constants
        y, slope, divisor = LpNormalize.parts(at_least_float32(input), *ctx.constants)
        t = at_least_float32(tangent)
        return ((t - y * (slope * t).sum(dim, keepdim=True)) / divisor).to(ctx.dtype)

    @staticmethod
    def parts(x: Tensor, p: float, dim: Any, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """y, s and d."""
        norm = torch.linalg.vector_norm(x, p, dim, keepdim=True)
        divisor = norm.clamp_min(eps)
        slope = norm_slope(x, norm, p, dim).masked_fill((norm < eps) | (norm == 0), 0)
        return x / divisor, slope, divisor


def norm_slope(x: Tensor, norm: Tensor, p: float, dim: Any) -> Tensor:
    """∂‖x‖/∂x, where ‖x‖ is not 0.

    With r = x / ‖x‖, it is r |r|^(p−2) for p ≥ 2: of sign(r) |r|, the derivative at 0 is 1, but 0 in autograd.
    """
    if p == 0:
        return torch.zeros_like(x)
    if p == 1:
        return x.sign()
    if math.isinf(p):
        extreme = x.abs() == norm
        return x.sign() * extreme / extreme.sum(dim, keepdim=True)
    ratio = x / norm.masked_fill(norm == 0, 1)
    if p == 2:
        return ratio
    if p > 2:
        return ratio * ratio.abs() ** (p - 2)
    return (ratio.sign() * ratio.abs() ** (p - 1)).masked_fill(x == 0, 0)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divide (*, `normalized_shape`) by its root mean square. See `RMSNorm`; Zhang, Sennrich (2019).

    `weight` has the shape `normalized_shape`. `eps` None is the machine epsilon of `input`, in half precision that of
    float32. RuntimeError if a shape does not match.
    """
    return RMSNorm.call(require_real("rms_norm", input), weight, normalized_shape, eps)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide (N, C, *) by the response of `size` neighbouring channels. See `LocalResponseNorm`; Krizhevsky (2012).

    ValueError if `input` has fewer than 3 dimensions, RuntimeError if `size` is not positive.
    """
    return LocalResponseNorm.call(require_real("local_response_norm", input), size, alpha, beta, k)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """Divide by the L_p norm along `dim`, one axis or several. See `LpNormalize`.

    With `out` the result is written into it, without a gradient: RuntimeError if `input` requires one.
    IndexError if an axis does not exist, RuntimeError if `input` is not floating point.
    """
    if out is not None:
        return torch.nn.functional.normalize(input, p, dim, eps, out)
    return LpNormalize.call(require_real("normalize", input), p, dim, eps)
