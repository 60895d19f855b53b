"""More rectifiers: scaled and smooth ELU, and those with a learned or a random slope.

For g, arguments, dtypes and errors see `activations`.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.activations import ELU, LeakyReLU, activate
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.function import Function, save, transform_active
from bp_torch.functional.precision import autocast_to_half, in_float32
from bp_torch.functional.validation import require_floating, require_tensor

__all__ = ["celu", "prelu", "rrelu", "selu"]


class SELU(Elementwise):
    """y = λ x where x > 0, otherwise λ α (eˣ − 1), with λ ≈ 1.0507 and α ≈ 1.6733: `ELU`, scaled.

    The two constants keep mean 0 and variance 1 from layer to layer.

    ∂C/∂x = λ g where x > 0, otherwise g · λ α eˣ; at the kink x = 0 it is λ α g

    At x = log ½ the derivative is λ α / 2, at x = log 2 it is λ:

    >>> x = torch.tensor([0.5, 2.0]).log().requires_grad_()
    >>> torch.autograd.grad(selu(x), x, torch.tensor([2.0, 1.0]))
    (tensor([1.7581, 1.0507]),)
    """

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.selu(input)

    @staticmethod
    def derivative(input: Tensor) -> Tensor:
        return SELU_SCALE * ELU.derivative(input, SELU_ALPHA)


SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


class CELU(Elementwise):
    """y = x where x > 0, otherwise α (e^(x/α) − 1).

    dy/dx = α e^(x/α) / α = e^(x/α) where x ≤ 0: it is 1 at x = 0, where `ELU` has a kink for α ≠ 1

    ∂C/∂x = g · e^(min(x, 0)/α)

    At x = −3 log 2 with α = 3 the derivative is e^(−log 2) = 1/2:

    >>> x = (-3 * torch.tensor(2.0).log()).requires_grad_()
    >>> torch.autograd.grad(celu(x, 3.0), x)
    (tensor(0.5000),)
    """

    @staticmethod
    def forward(input: Tensor, alpha: float) -> Tensor:
        return torch.celu(input, alpha)

    @staticmethod
    def derivative(input: Tensor, alpha: float) -> Tensor:
        return torch.exp(input.clamp_max(0) / alpha)


class PReLU(Function):
    """y = x where x > 0, otherwise w x, with one slope w for all or one for each channel (the second dimension).

    ∂C/∂x = g where x > 0, otherwise w g; at the kink x = 0 it is w g
    ∂C/∂w = Σ g min(x, 0), over everything that shares this slope: all dimensions but the channels

    For x = (−2, 3, −1), one slope and g = (5, 6, 7), ∂C/∂w = 5 · (−2) + 7 · (−1):

    >>> x, w = torch.tensor([-2.0, 3.0, -1.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    >>> torch.autograd.grad(prelu(x, w), (x, w), torch.tensor([5.0, 6.0, 7.0]))
    (tensor([2.5000, 6.0000, 3.5000]), tensor([-17.]))
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor) -> Tensor:
        return torch.prelu(input, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        slopes = PReLU.along_channels(weight, input)
        needs_input, needs_weight = ctx.needs_input_grad
        grad_input = torch.where(input > 0, grad_output, slopes * grad_output) if needs_input else None
        if not needs_weight:
            return grad_input, None
        return grad_input, (grad_output * input.clamp_max(0)).sum_to_size(slopes.shape).reshape(weight.shape)

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, weight_tangent: Tensor) -> Tensor:
        input, weight = ctx.saved_tensors
        slopes, tangents = (PReLU.along_channels(each, input) for each in (weight, weight_tangent))
        return torch.where(input > 0, input_tangent, slopes * input_tangent) + tangents * input.clamp_max(0)

    @staticmethod
    def along_channels(weight: Tensor, input: Tensor) -> Tensor:
        """Reshape to as many dimensions as the input, with the slopes along the second."""
        return weight.reshape([weight.numel() if axis == 1 else 1 for axis in range(input.dim())])


class RReLU(Function):
    """y = s x with given slopes s, which are 1 where x > 0.

    ∂C/∂x = g s; at the kink x = 0 it is the slope of the negative side

    The slopes are drawn before the call: a backward that drew them again would use others.

    >>> x, slopes = torch.tensor([-2.0, 3.0], requires_grad=True), torch.tensor([0.25, 1.0])
    >>> torch.autograd.grad(RReLU.call(x, slopes), x, torch.tensor([4.0, 5.0]))
    (tensor([1., 5.]),)
    """

    @staticmethod
    def forward(input: Tensor, slopes: Tensor) -> Tensor:
        return input * slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        save(ctx, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        return grad_output * slopes, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return RReLU.backward(ctx, tangent)[0]


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Rectifier that keeps mean 0 and variance 1. See `SELU`; Klambauer, Unterthiner, Mayr, Hochreiter (2017)."""
    return activate("selu", SELU, input, inplace=inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Rectifier that saturates smoothly at −α; RuntimeError if α is 0. See `CELU`; Barron (2017)."""
    return activate("celu", CELU, input, alpha, inplace=inplace)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Rectifier with a learned slope below 0. See `PReLU`; He, Zhang, Ren, Sun (2015).

    `weight` has one element, or one for each channel (C,) of an input (N, C, ...). Under autocast in its dtype.
    RuntimeError if the sizes or dtypes do not match.
    """
    require_tensor("prelu", input=input, weight=weight)
    input, weight = autocast_to_half(input, weight)
    if input.dtype != weight.dtype:
        raise RuntimeError(f"prelu(): weight is {weight.dtype} but input is {input.dtype}; give both the same dtype")
    require_floating("prelu", input=input)
    return in_float32(PReLU.call, input, weight)


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Rectifier with random slopes in [lower, upper) below 0 in training, else with their mean.

    See `RReLU`; Xu, Wang, Chen, Li (2015). RuntimeError unless lower ≤ upper, both finite.
    """
    require_floating("rrelu", input=input)
    if not (lower <= upper and math.isfinite(upper - lower)):
        raise RuntimeError(f"rrelu(): lower {lower} must not be greater than upper {upper}, and both must be finite")
    if not training:
        return activate("rrelu", LeakyReLU, input, (lower + upper) / 2, inplace=inplace)
    output = in_float32(lambda x: RReLU.call(x, _random_slopes(x, lower, upper)), input)
    return input.copy_(output) if inplace else output


def _random_slopes(input: Tensor, lower: float, upper: float) -> Tensor:
    """A slope in [lower, upper) where x ≤ 0, otherwise 1: the numbers that torch draws with the same seed on a CPU.

    torch draws one for each x ≤ 0, in order of the elements, and none for the others. It does not do so under `vmap`;
    there the k-th x ≤ 0 of an example gets the k-th of as many numbers as there are elements.
    """
    negative = input.detach() <= 0
    if torch.compiler.is_compiling() or not transform_active():
        signs = 1 - 2 * negative.to(input.dtype)
        return signs * torch.rrelu(signs, lower, upper, True)
    drawn = lower + (upper - lower) * torch.rand(input.numel() + 1, dtype=torch.float64, device=input.device)
    order = negative.flatten().cumsum(0).reshape(input.shape) - 1  # 0 for the first x ≤ 0; −1 before it
    return torch.where(negative, drawn[order].to(input.dtype), 1)
