"""Powers, roots, the exponential and the logarithm, element by element.

g stands for ∂C/∂y, the upstream gradient. The functions are torch's of the same name, for real numbers.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import BinaryFunction, real
from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import cuda_autocast_to_float32
from bp_torch.functional.validation import require_tensor

__all__ = ["exp", "log", "pow", "rsqrt", "sqrt", "square"]


class Pow(BinaryFunction):
    """y = aᵇ. ∂y/∂a = b aᵇ⁻¹, which is 0 where b = 0; ∂y/∂b = aᵇ ln a, which is 0 where a = 0 and b ≥ 0.

    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> pow(x, 2).backward()
    >>> x.grad
    tensor([6.])
    """

    @staticmethod
    def forward(input: Tensor, other: Any) -> Tensor:
        return torch.pow(input, other)

    @staticmethod
    def input_derivative(input: Any, other: Any) -> Any:
        if not isinstance(other, Tensor):
            return other * torch.pow(input, other - 1) if other else 0
        return torch.where(other == 0, 0, other * torch.pow(input, other - 1))

    @staticmethod
    def other_derivative(input: Any, other: Any) -> Any:
        return torch.where((input == 0) & (other >= 0), 0, torch.pow(input, other) * torch.log(input))


class Exp(Function):
    """y = eˣ. ∂C/∂x = g y."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.exp(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * ctx.saved_tensors[0]


class Log(Function):
    """y = ln x. ∂C/∂x = g / x."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.log(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output / ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent / ctx.saved_tensors[0]


def pow(input: Tensor, exponent: Tensor | float) -> Tensor:
    """`input` to the power of `exponent`, element by element; under autocast on CUDA in float32."""
    return _power("pow", input, exponent, autocast=True)


def square(input: Tensor) -> Tensor:
    """input²."""
    return _power("square", input, 2)


def sqrt(input: Tensor) -> Tensor:
    """√input, as the power ½; NaN below 0."""
    return _power("sqrt", input, 0.5)


def rsqrt(input: Tensor) -> Tensor:
    """1 / √input, as the power −½; under autocast on CUDA in float32."""
    return _power("rsqrt", input, -0.5, autocast=True)


def _power(function: str, input: Tensor, exponent: Tensor | float, autocast: bool = False) -> Tensor:
    require_tensor(function, input=input)
    return real(function, Pow.call(cuda_autocast_to_float32(input) if autocast else input, exponent))


def exp(input: Tensor) -> Tensor:
    """The number e to the power of `input`; under autocast on CUDA in float32."""
    require_tensor("exp", input=input)
    return real("exp", Exp.call(cuda_autocast_to_float32(input)))


def log(input: Tensor) -> Tensor:
    """The natural logarithm, −∞ at 0, NaN below; under autocast on CUDA in float32."""
    require_tensor("log", input=input)
    return real("log", Log.call(cuda_autocast_to_float32(input)))
