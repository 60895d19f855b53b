"""Arithmetic, element by element: sums, products, ratios, absolute values.

Operands are broadcast and their dtypes promoted as torch does. What broadcasting copied, `sum_to_shape` adds up again.
Where one operand is a Python number, it is a constant. g stands for ∂C/∂y, the upstream gradient.

The functions are torch's of the same name, with its errors, for real numbers: NotImplementedError for complex ones.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.shape import sum_to_shape
from bp_torch.functional.validation import require_tensor

__all__ = [
    "abs",
    "add",
    "div",
    "mul",
    "neg",
    "sub",
]


class Add(Function):
    """y = a + α b. ∂C/∂a = g, ∂C/∂b = α g, each summed over what broadcasting copied.

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
        ctx.shape, ctx.input, ctx.other = output.shape, meta_of(input), meta_of(other)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        needs_input, needs_other, _ = ctx.needs_input_grad
        grad_input = reduce_to(grad_output, ctx.input) if needs_input else None
        scaled = grad_output if ctx.alpha == 1 else ctx.alpha * grad_output
        grad_other = reduce_to(scaled, ctx.other) if needs_other else None
        return grad_input, grad_other, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor | None, other_tangent: Tensor | None, _: None) -> Tensor:
        return _total(input_tangent, None if other_tangent is None else ctx.alpha * other_tangent).expand(ctx.shape)


class BinaryFunction(Function):
    """y = f(a, b), element by element; either may be a Python number.

    A subclass states ∂y/∂a and ∂y/∂b. Then ∂C/∂a = g ∂y/∂a and ∂C/∂b = g ∂y/∂b, each summed over what broadcasting
    copied; and the tangent of y is ȧ ∂y/∂a + ḃ ∂y/∂b.
    """

    @staticmethod
    def input_derivative(input: Any, other: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def other_derivative(input: Any, other: Any) -> Any:
        raise NotImplementedError

    def __init_subclass__(cls, **options: Any) -> None:
        """Write out `backward` and `jvp`, unless the subclass has its own."""

        def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
            input, other = operands = _operands(ctx)
            needs_input, needs_other = ctx.needs_input_grad
            grad_input = (
                reduce_to(grad_output * cls.input_derivative(*operands), meta_of(input)) if needs_input else None
            )
            grad_other = (
                reduce_to(grad_output * cls.other_derivative(*operands), meta_of(other)) if needs_other else None
            )
            return grad_input, grad_other

        def jvp(ctx: Any, input_tangent: Tensor | None, other_tangent: Tensor | None) -> Tensor:
            operands = _operands(ctx)
            by_input = None if input_tangent is None else input_tangent * cls.input_derivative(*operands)
            by_other = None if other_tangent is None else other_tangent * cls.other_derivative(*operands)
            return _total(by_input, by_other)

        for derived in (backward, jvp):
            if derived.__name__ not in vars(cls):
                setattr(cls, derived.__name__, staticmethod(derived))
        super().__init_subclass__(**options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.numbers = [None if isinstance(x, Tensor) else x for x in inputs]
        save(ctx, *(x if isinstance(x, Tensor) else None for x in inputs))


def _operands(ctx: Any) -> Any:
    """Both as they were given: Tensors or numbers."""
    return [n if x is None else x for x, n in zip(ctx.saved_tensors, ctx.numbers, strict=True)]


def meta_of(operand: Any) -> Any:
    """Shape and dtype of a Tensor; None of a number."""
    return (operand.shape, operand.dtype) if isinstance(operand, Tensor) else None


def reduce_to(grad: Tensor, meta: tuple[torch.Size, torch.dtype]) -> Tensor:
    """The gradient of an operand that was broadcast and promoted: in its shape and dtype."""
    shape, dtype = meta
    return sum_to_shape(grad, shape).to(dtype)


def _total(*terms: Tensor | None) -> Tensor:
    """The sum of a directional derivative's terms, one or two; that of a constant is None."""
    first, *others = [term for term in terms if term is not None]
    return first + others[0] if others else first


class Mul(BinaryFunction):
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
    def input_derivative(input: Any, other: Any) -> Any:
        return other

    @staticmethod
    def other_derivative(input: Any, other: Any) -> Any:
        return input


class Div(BinaryFunction):
    """y = a / b. ∂y/∂a = 1 / b, ∂y/∂b = −a / b² (as −a/b/b: b² might overflow).

    >>> a, b = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    >>> div(a, b).backward(torch.tensor(4.0))
    >>> a.grad, b.grad
    (tensor(2.), tensor(-1.))
    """

    @staticmethod
    def forward(input: Tensor, other: Any) -> Tensor:
        return torch.div(input, other)

    @staticmethod
    def input_derivative(input: Any, other: Any) -> Any:
        return 1 / other

    @staticmethod
    def other_derivative(input: Any, other: Any) -> Any:
        return -input / other / other


class DivRounded(Function):
    """y = a / b rounded down, or towards 0: a staircase, flat wherever it has a derivative. ∂C/∂a = ∂C/∂b = 0."""

    @staticmethod
    def forward(input: Tensor, other: Any, rounding_mode: str) -> Tensor:
        return torch.div(input, other, rounding_mode=rounding_mode)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.metas = meta_of(output), meta_of(inputs[0]), meta_of(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        needed = zip(ctx.needs_input_grad[:2], ctx.metas[1:], strict=True)
        return *(reduce_to(torch.zeros_like(grad_output), meta) if needs else None for needs, meta in needed), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        shape, dtype = ctx.metas[0]
        return torch.zeros(shape, dtype=dtype, device=next(t.device for t in tangents if t is not None))


class Neg(Function):
    """y = −x. ∂C/∂x = −g."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.neg(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return -grad_output

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return -tangent


class Abs(Function):
    """y = |x|. ∂C/∂x = g sign(x), which is 0 at the kink x = 0."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.abs(input)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output * torch.sign(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * torch.sign(ctx.saved_tensors[0])


def add(input: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """`input` + alpha · other.

    >>> add(torch.tensor([1.0, 2.0]), 10)
    tensor([11., 12.])
    """
    return real("add", Add.call(input, other, alpha))


def sub(input: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """`input` − alpha · other: `Add`, with −alpha."""
    return real("sub", Add.call(input, other, -alpha))


def mul(input: Tensor, other: Tensor | float) -> Tensor:
    """`input` · other, element by element."""
    return real("mul", Mul.call(input, other))


def div(input: Tensor, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
    """`input` / other, element by element; with `rounding_mode` "floor" or "trunc" rounded, and the gradient 0."""
    if rounding_mode is None:
        return real("div", Div.call(input, other))
    return real("div", DivRounded.call(input, other, rounding_mode))


def neg(input: Tensor) -> Tensor:
    """−input."""
    return real("neg", Neg.call(input))


def abs(input: Tensor) -> Tensor:
    """|input|."""
    require_tensor("abs", input=input)
    return Abs.call(real("abs", input))


def real(function: str, output: Tensor) -> Tensor:
    """The output, which is complex if an operand is."""
    if output.is_complex():
        raise NotImplementedError(f"{function}(): an operand is {output.dtype}; only real numbers have a rule")
    return output
