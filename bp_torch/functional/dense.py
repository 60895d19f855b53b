"""A dense layer in one piece: the weighted sum and the activation after it, fused into one Function.

It gives the numbers that `linear` and the activation give one after the other. Spared is what autograd spends on a
Function, and a copy: the activation is taken in place. That pays where the activation's slope can be told from its
output, so that the weighted sum need not be kept.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional import activations
from bp_torch.functional.activations import ReLU, Sigmoid, Tanh
from bp_torch.functional.function import Function, save
from bp_torch.functional.linear import Linear, linear
from bp_torch.functional.precision import autocast_enabled

__all__ = ["dense"]


class _Dense(Function):
    """y = f(z), z = x Wᵀ + b: forward through both, and backward through f to δ = ∂C/∂z, then through the sum."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        save(ctx, inputs[0], inputs[1], output)


class LinearSigmoid(_Dense):
    """y = σ(x Wᵀ + b): `Sigmoid` after `Linear`.

    δ = g · y (1 − y), and with it ∂C/∂x = δ W, ∂C/∂W = δᵀ x, ∂C/∂b = Σₙ δₙ.
    """

    parts = (Linear, Sigmoid)

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.sigmoid_(Linear.forward(input, weight, bias))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        *given, output = ctx.saved_tensors
        return Linear.by_avenue(ctx, grad_output * Sigmoid.derivative(output), *given)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        *given, output = ctx.saved_tensors
        return Linear.moved(*tangents, *given) * Sigmoid.derivative(output)


class LinearTanh(_Dense):
    """y = tanh(x Wᵀ + b): `Tanh` after `Linear`.

    δ = g · (1 − y)(1 + y), and with it ∂C/∂x = δ W, ∂C/∂W = δᵀ x, ∂C/∂b = Σₙ δₙ.
    """

    parts = (Linear, Tanh)

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.tanh_(Linear.forward(input, weight, bias))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        *given, output = ctx.saved_tensors
        return Linear.by_avenue(ctx, grad_output * Tanh.derivative(output), *given)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        *given, output = ctx.saved_tensors
        return Linear.moved(*tangents, *given) * Tanh.derivative(output)


class LinearReLU(_Dense):
    """y = max(x Wᵀ + b, 0): `ReLU` after `Linear`.

    δ = g where y > 0, otherwise 0, and with it ∂C/∂x = δ W, ∂C/∂W = δᵀ x, ∂C/∂b = Σₙ δₙ.
    """

    parts = (Linear, ReLU)

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return Linear.forward(input, weight, bias).clamp_min_(0)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        *given, output = ctx.saved_tensors
        return Linear.by_avenue(ctx, grad_output.masked_fill(output <= 0, 0), *given)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        *given, output = ctx.saved_tensors
        return Linear.moved(*tangents, *given).masked_fill(output <= 0, 0)


FUSED = {"sigmoid": LinearSigmoid, "tanh": LinearTanh, "relu": LinearReLU}
"""The activations that a dense layer may have."""
_FUSED_DTYPES = (torch.float32, torch.float64)


def dense(input: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "sigmoid") -> Tensor:
    """Apply y = f(x Wᵀ + b); see `LinearSigmoid`, `LinearTanh` and `LinearReLU` for the equations.

    Args:
        input: activations of the previous layer, (*, in).
        weight: (out, in), or (in,), as for `linear`.
        bias: (out,), or whatever else `linear` takes.
        activation: f, 'sigmoid', 'tanh' or 'relu'.

    Returns:
        The activations, (*, out). Two Functions one after the other in half precision, under autocast, and where the
        arguments are not plain matrices.

    Raises:
        ValueError: if `activation` is another; otherwise as `linear`.

    Source:
        The composition of torch.nn.functional.linear and the activation; the lecture's statement 2.
    """
    if activation not in tuple(FUSED):
        raise ValueError(f"dense(): unknown activation {activation!r}; expected one of {', '.join(FUSED)}")
    try:
        if (
            input.dim() == 2
            and weight.dim() == 2
            and (bias is None or bias.dim() == 1)
            and weight.dtype in _FUSED_DTYPES
        ) and not autocast_enabled():
            return FUSED[activation].call(input, weight, bias)
    except (AttributeError, RuntimeError, TypeError):
        linear(input, weight, bias)  # says what is wrong
        raise
    activate = getattr(activations, activation)
    return activate(linear(input, weight, bias))
