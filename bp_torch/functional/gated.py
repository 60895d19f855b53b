"""Gated linear units of Transformers: an activation of the gate, times another input.

a is the gate and b the other input, called `up` after the layer that computes it. They are two arguments, because most
models compute them by two layers; for one layer of double width, pass its halves, `x.chunk(2, -1)`, which are views.
The two are broadcast, and half precision is computed in float32 and rounded once. g = ∂C/∂y is the upstream gradient.
TypeError if one is not a Tensor, NotImplementedError if it is not floating point.

Source: Shazeer, GLU Variants Improve Transformer (2020).
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from bp_torch.functional.function import Function
from bp_torch.functional.precision import in_float32, promote_types
from bp_torch.functional.shape import sum_to_shape
from bp_torch.functional.validation import require_floating

__all__ = ["geglu", "swiglu"]


class GatedUnit(Function):
    """y = f(a) b for an activation f.

        ∂C/∂a = g · b f′(a)
        ∂C/∂b = g · f(a)

    Only a and b are saved; f(a) is computed again. A subclass states f(a) and f′(a) as `value_and_slope(gate)`.
    """

    value_and_slope: ClassVar[Callable[..., tuple[Tensor, Tensor]]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `backward` and `jvp` from value and slope."""
        if "value_and_slope" in vars(cls):
            cls.backward, cls.jvp = map(staticmethod, _gated_methods(cls.value_and_slope))  # type: ignore[method-assign]
        super().__init_subclass__(**options)


def _gated_methods(value_and_slope: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Callable[..., Any], ...]:
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        needs_gate, needs_up = ctx.needs_input_grad
        value, slope = value_and_slope(gate)
        grad_up = sum_to_shape(grad_output * value, up.shape) if needs_up else None
        if not needs_gate:
            return None, grad_up
        grad_gate = grad_output * up
        grad_gate = grad_gate * slope if torch.is_grad_enabled() else grad_gate.mul_(slope)
        return sum_to_shape(grad_gate, gate.shape), grad_up

    def jvp(ctx: Any, gate_tangent: Tensor, up_tangent: Tensor) -> Tensor:
        gate, up = ctx.saved_tensors
        value, slope = value_and_slope(gate)
        return gate_tangent * slope * up + value * up_tangent

    return backward, jvp


class SwiGLU(GatedUnit):
    """y = silu(a) b, where silu(a) = a σ(a).

    silu′(a) = σ(a) + a σ(a) (1 − σ(a)), see `SiLU`; with `GatedUnit`

        ∂C/∂a = g · b (σ + a σ (1 − σ))
        ∂C/∂b = g · a σ

    At a = 0, silu is 0 and its slope is 1/2:

    >>> a, b = torch.tensor(0.0, requires_grad=True), torch.tensor(6.0, requires_grad=True)
    >>> torch.autograd.grad(swiglu(a, b), (a, b))
    (tensor(3.), tensor(0.))
    """

    @staticmethod
    def forward(gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.silu(gate) * up

    @staticmethod
    def value_and_slope(gate: Tensor) -> tuple[Tensor, Tensor]:
        sigmoid = torch.sigmoid(gate)
        value = gate * sigmoid
        return value, torch.addcmul(sigmoid, value, 1 - sigmoid)


class GeGLU(GatedUnit):
    """y = gelu(a) b, where gelu(a) = a Φ(a).

    gelu′(a) = Φ(a) + a φ(a) with φ(a) = e^(−a²/2) / √(2π), see `GELU`; with `GatedUnit`

        ∂C/∂a = g · b (Φ(a) + a φ(a))
        ∂C/∂b = g · a Φ(a)

    At a = 1, gelu is Φ(1) = 0.8413 and its slope is 1.0833:

    >>> a, b = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    >>> torch.autograd.grad(geglu(a, b), (a, b))
    (tensor(2.1666), tensor(0.8413))
    """

    @staticmethod
    def forward(gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.gelu(gate) * up

    @staticmethod
    def value_and_slope(gate: Tensor) -> tuple[Tensor, Tensor]:
        cumulative = 0.5 * torch.erfc(gate * -math.sqrt(0.5))  # Φ(a)
        density = torch.exp(-0.5 * gate * gate)  # φ(a) √(2π)
        return gate * cumulative, torch.addcmul(cumulative, gate, density, value=1 / math.sqrt(2 * math.pi))


class GeGLUTanh(GatedUnit):
    """`GeGLU` with the tanh form of gelu, see `GELUTanh`: gelu(a) = ½ a (1 + tanh u(a)) = a σ(2u(a)).

    Value and slope are those of `SwiGLU` with σ = σ(2u(a)), whose slope is 2u′(a) σ (1 − σ).
    """

    @staticmethod
    def forward(gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.gelu(gate, approximate="tanh") * up

    @staticmethod
    def value_and_slope(gate: Tensor) -> tuple[Tensor, Tensor]:
        square = gate * gate
        sigmoid = torch.sigmoid(_SCALE * gate * (1 + _KAPPA * square))  # 2u = 2 √(2/π) (a + κ a³)
        value = gate * sigmoid
        return value, torch.addcmul(sigmoid, value, (1 - sigmoid) * (_SCALE * (1 + 3 * _KAPPA * square)))


_SCALE, _KAPPA = 2 * math.sqrt(2 / math.pi), 0.044715


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up. See `SwiGLU`."""
    require_floating("swiglu", gate=gate, up=up)
    return in_float32(SwiGLU.call, *promote_types(gate, up))


def geglu(gate: Tensor, up: Tensor, approximate: str = "none") -> Tensor:
    """gelu(gate) · up; `approximate`, 'none' or 'tanh', chooses the form of gelu. See `GeGLU`."""
    require_floating("geglu", gate=gate, up=up)
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"geglu(): approximate must be 'none' or 'tanh', got {approximate!r}")
    return in_float32((GeGLU if approximate == "none" else GeGLUTanh).call, *promote_types(gate, up))
