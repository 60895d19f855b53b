"""A dense layer in one piece: the weighted sum and the activation after it, fused into one Function.

It gives the numbers that `linear` and the activation give one after the other. Spared is what autograd spends on a
Function, and a copy: the activation is taken in place. That pays where the activation's slope can be told from its
output, so that the weighted sum need not be kept.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional import activations
from bp_torch.functional.affine import Linear, linear
from bp_torch.functional.function import Function, keep, number
from bp_torch.functional.precision import autocast_enabled


class _Dense(Function):
    """y = f(z), z = x Wᵀ + b: forward through both, and backward through f to δ = ∂C/∂z, then through the sum."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        keep(ctx, inputs[0], inputs[1], output)


class LinearSigmoid(_Dense):
    """y = σ(x Wᵀ + b): `Sigmoid` after `Linear`.

    δ = g · y (1 − y), and with it ∂C/∂x = δ W, ∂C/∂W = δᵀ x, ∂C/∂b = Σₙ δₙ.
    """

    parts = (Linear, activations.Sigmoid)

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.sigmoid_(Linear.forward(input, weight, bias))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, output = ctx.saved_tensors
        wishes = (grad_output * output).mul_(number(1, output) - output)
        return _by_avenue(ctx, wishes, input, weight)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        input, weight, output = ctx.saved_tensors
        return (_moved(input, weight, *tangents) * output).mul_(number(1, output) - output)


class LinearTanh(_Dense):
    """y = tanh(x Wᵀ + b): `Tanh` after `Linear`.

    δ = g · (1 − y)(1 + y), and with it ∂C/∂x = δ W, ∂C/∂W = δᵀ x, ∂C/∂b = Σₙ δₙ.
    """

    parts = (Linear, activations.Tanh)

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.tanh_(Linear.forward(input, weight, bias))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, output = ctx.saved_tensors
        wishes = grad_output * ((number(1, output) - output) * (1 + output))
        return _by_avenue(ctx, wishes, input, weight)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        input, weight, output = ctx.saved_tensors
        return _moved(input, weight, *tangents) * ((number(1, output) - output) * (1 + output))


class LinearReLU(_Dense):
    """y = max(x Wᵀ + b, 0): `ReLU` after `Linear`.

    δ = g where y > 0, otherwise 0, and with it ∂C/∂x = δ W, ∂C/∂W = δᵀ x, ∂C/∂b = Σₙ δₙ.
    """

    parts = (Linear, activations.ReLU)

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return Linear.forward(input, weight, bias).clamp_min_(0)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, output = ctx.saved_tensors
        wishes = grad_output.masked_fill(output <= 0, 0)
        return _by_avenue(ctx, wishes, input, weight)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        input, weight, output = ctx.saved_tensors
        return _moved(input, weight, *tangents).masked_fill(output <= 0, 0)


def _by_avenue(ctx: Any, wishes: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
    """δ by the three avenues of `Linear`: to the activations before, the weights, the biases."""
    needs_input, needs_weight, needs_bias = ctx.needs_input_grad
    grad_input = torch.mm(wishes, weight) if needs_input else None  # (N, out) (out, in) -> (N, in)
    grad_weight = torch.mm(wishes.t(), input) if needs_weight else None  # (out, N) (N, in) -> (out, in)
    return grad_input, grad_weight, wishes.sum(0) if needs_bias else None


def _moved(input: Tensor, weight: Tensor, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """How the weighted sum moves with the tangents x, w, b of its three inputs."""
    tangent = x @ weight.t() + input @ w.t()
    return tangent if b is None else tangent + b


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
    if activation not in FUSED:
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
