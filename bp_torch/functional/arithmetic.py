"""Elementwise arithmetic: sums, differences, products, quotients and powers.

g = ∂C/∂y is the upstream gradient. Operands are broadcast and their dtypes promoted as in torch; the gradient of a
broadcast operand is summed over its copies (`sum_to_shape`). A Python number is a constant.

The functions have the signatures and errors of torch's; NotImplementedError for complex numbers.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.elementwise import BroadcastFunction, add_terms, shape_and_dtype, unbroadcast
from bp_torch.functional.function import Function
from bp_torch.functional.precision import cuda_autocast_to_float32
from bp_torch.functional.shape import LinearMap
from bp_torch.functional.validation import require_real

__all__ = ["add", "div", "mul", "neg", "pow", "square", "sub"]


class Add(Function):
    """y = a + α b. ∂C/∂a = g, ∂C/∂b = α g.

    >>> a, b = torch.zeros(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    >>> add(a, b, alpha=2).backward(torch.tensor([1.0, 2.0, 3.0]))
    >>> a.grad, b.grad
    (tensor([1., 2., 3.]), tensor([12.]))
    """

    @staticmethod
    def forward(input: Tensor, other: Any, alpha: float) -> Tensor:
        return torch.add(input, other, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, other, ctx.alpha = inputs
        ctx.shape, ctx.input, ctx.other = output.shape, shape_and_dtype(input), shape_and_dtype(other)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        needs_input, needs_other, _ = ctx.needs_input_grad
        grad_input = unbroadcast(grad_output, ctx.input) if needs_input else None
        scaled = grad_output if ctx.alpha == 1 else ctx.alpha * grad_output
        grad_other = unbroadcast(scaled, ctx.other) if needs_other else None
        return grad_input, grad_other, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor | None, other_tangent: Tensor | None, _: None) -> Tensor:
        return add_terms(input_tangent, None if other_tangent is None else ctx.alpha * other_tangent).expand(ctx.shape)


class Sub(Add):
    """y = a − α b. ∂C/∂a = g, ∂C/∂b = −α g."""

    @staticmethod
    def forward(input: Tensor, other: Any, alpha: float) -> Tensor:
        return torch.sub(input, other, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, other, alpha = inputs
        Add.setup_context(ctx, (input, other, -alpha), output)


class Mul(BroadcastFunction):
    """y = a b. ∂y/∂a = b, ∂y/∂b = a.

    >>> a, b = torch.tensor(3.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
    >>> mul(a, b).backward(torch.tensor(10.0))
    >>> a.grad, b.grad
    (tensor(40.), tensor(30.))
    """

    @staticmethod
    def forward(input: Tensor, other: Any) -> Tensor:
        return torch.mul(input, other)

    @staticmethod
    def grad_input(g: Tensor, input: Any, other: Any) -> Tensor:
        return g * other

    @staticmethod
    def grad_other(g: Tensor, input: Any, other: Any) -> Tensor:
        return g * input


class Div(BroadcastFunction):
    """y = a / b. ∂y/∂a = 1 / b, ∂y/∂b = −a / b².

    The gradients are computed as g / b and −g (a / b / b): 1 / b could overflow, b² overflow or underflow.

    >>> a, b = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    >>> div(a, b).backward(torch.tensor(4.0))
    >>> a.grad, b.grad
    (tensor(2.), tensor(-1.))
    """

    @staticmethod
    def forward(input: Tensor, other: Any) -> Tensor:
        return torch.div(input, other)

    @staticmethod
    def grad_input(g: Tensor, input: Any, other: Any) -> Tensor:
        return g / other

    @staticmethod
    def grad_other(g: Tensor, input: Any, other: Any) -> Tensor:
        return -g * (input / other / other)


class DivRounded(Function):
    """y = a / b, rounded down or towards 0: piecewise constant, so ∂C/∂a = ∂C/∂b = 0."""

    @staticmethod
    def forward(input: Tensor, other: Any, rounding_mode: str) -> Tensor:
        return torch.div(input, other, rounding_mode=rounding_mode)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.output, *ctx.operands = map(shape_and_dtype, (output, *inputs[:2]))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        each = zip(ctx.needs_input_grad[:2], ctx.operands, strict=True)
        return *(
            unbroadcast(torch.zeros_like(grad_output), operand) if needs else None for needs, operand in each
        ), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        shape, dtype = ctx.output
        return torch.zeros(shape, dtype=dtype, device=next(t.device for t in tangents if t is not None))


class Neg(LinearMap):
    """y = −x. ∂C/∂x = −g."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.neg(input)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return -grad_output


class Pow(BroadcastFunction):
    """y = aᵇ. ∂y/∂a = b aᵇ⁻¹, and 0 where b = 0; ∂y/∂b = aᵇ ln a, and 0 where a = 0 and b ≥ 0.

    Both special cases replace 0 · ∞, which is NaN.

    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> pow(x, 2).backward()
    >>> x.grad
    tensor([6.])
    """

    @staticmethod
    def forward(input: Tensor, other: Any) -> Tensor:
        return torch.pow(input, other)

    @staticmethod
    def grad_input(g: Tensor, input: Any, other: Any) -> Tensor:
        if isinstance(other, Tensor):
            return torch.where(other == 0, 0, g * (other * torch.pow(input, other - 1)))
        return g * (other * torch.pow(input, other - 1)) if other else g.masked_fill(torch.ones_like(g).bool(), 0)

    @staticmethod
    def grad_other(g: Tensor, input: Any, other: Any) -> Tensor:
        power = torch.pow(input, other)
        return torch.where((input == 0) & (other >= 0), 0, g * (power * torch.log(input.to(power.dtype))))


def add(input: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """`input` + alpha · other."""
    return require_real_output("add", Add.call(input, other, alpha))


def sub(input: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """`input` − alpha · other."""
    return require_real_output("sub", Sub.call(input, other, alpha))


def mul(input: Tensor, other: Tensor | float) -> Tensor:
    """`input` · other, elementwise."""
    return require_real_output("mul", Mul.call(input, other))


def div(input: Tensor, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
    """`input` / other, elementwise; `rounding_mode` "floor" or "trunc" rounds it. See `Div`, `DivRounded`."""
    if rounding_mode is None:
        return require_real_output("div", Div.call(input, other))
    return require_real_output("div", DivRounded.call(input, other, rounding_mode))


def neg(input: Tensor) -> Tensor:
    """−input."""
    return Neg.call(require_real("neg", input))


def pow(input: Tensor, exponent: Tensor | float) -> Tensor:
    """`input` to the power of `exponent`, elementwise; under autocast on CUDA in float32."""
    return require_real_output("pow", Pow.call(cuda_autocast_to_float32(require_real("pow", input)), exponent))


def square(input: Tensor) -> Tensor:
    """input²."""
    return Pow.call(require_real("square", input), 2)


def require_real_output(function: str, output: Tensor) -> Tensor:
    """Return the output; NotImplementedError if it is complex, because an operand is."""
    if output.is_complex():
        raise NotImplementedError(f"{function}(): an operand is {output.dtype}; only real dtypes are supported")
    return output
