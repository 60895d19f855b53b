"""Functions of every component by itself: a subclass states its derivatives, and the two directions follow."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.shape import sum_to_shape


class Elementwise(Function):
    """y = f(x) for every component by itself, with constants beside x.

    No component of y depends on another one's x, so the Jacobian is diagonal and both directions multiply by f′(x):

        ∂C/∂x = g · f′(x)     backward, with g = ∂C/∂y
        ẏ = f′(x) · ẋ         jvp

    A subclass states `forward(input, *constants)` and `derivative(input, *constants)`, which is f′(x). Where f′ is
    simpler as a function of y, `saves_output = True`, and `derivative` is given the output instead.
    """

    saves_output: ClassVar[bool] = False
    derivative: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Make `setup_context`, `backward` and `jvp` of the derivative."""
        if "derivative" in vars(cls):
            methods = _methods(cls.derivative, cls.saves_output, cls.forward.__code__.co_argcount - 1)
            cls.setup_context, cls.backward, cls.jvp = map(staticmethod, methods)  # type: ignore[method-assign]
        super().__init_subclass__(**options)


def _methods(derivative: Callable[..., Tensor], saves_output: bool, constants: int) -> tuple[Callable[..., Any], ...]:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        save(ctx, output if saves_output else inputs[0])
        if constants:
            ctx.constants = inputs[1:]

    def backward(ctx: Any, grad_output: Tensor) -> Any:
        if constants:
            return grad_output * derivative(*ctx.saved_tensors, *ctx.constants), *[None] * constants
        return grad_output * derivative(*ctx.saved_tensors)

    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return tangent * derivative(*ctx.saved_tensors, *(ctx.constants if constants else ()))

    return setup_context, backward, jvp


class BinaryFunction(Function):
    """y = f(a, b), element by element; either may be a Python number.

    A subclass states g ∂y/∂a in `by_input(g, a, b)` and g ∂y/∂b in `by_other(g, a, b)`. With g = ∂C/∂y these are the
    gradients, each summed over what broadcasting copied; and the tangent of y is the sum of both, by ȧ and by ḃ.
    """

    by_input: ClassVar[Callable[..., Any]]
    by_other: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Make `backward` and `jvp` of the two products."""
        if "by_input" in vars(cls):
            cls.backward, cls.jvp = map(staticmethod, _binary_methods(cls.by_input, cls.by_other))  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.numbers = [None if isinstance(x, Tensor) else x for x in inputs]
        save(ctx, *(x if isinstance(x, Tensor) else None for x in inputs))


def _binary_methods(*products: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    def operands(ctx: Any) -> Any:
        return [number if x is None else x for x, number in zip(ctx.saved_tensors, ctx.numbers, strict=True)]

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        both = operands(ctx)
        each = zip(ctx.needs_input_grad, products, both, strict=True)
        return tuple(reduce_to(by(grad_output, *both), meta_of(x)) if needs else None for needs, by, x in each)

    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        both = operands(ctx)
        terms = (None if x is None else by(x, *both) for x, by in zip(tangents, products, strict=True))
        return total(*terms).to(torch.result_type(*both))  # a tangent has its own operand's dtype

    return backward, jvp


def meta_of(operand: Any) -> Any:
    """Shape and dtype of a Tensor; None of a number."""
    return (operand.shape, operand.dtype) if isinstance(operand, Tensor) else None


def reduce_to(grad: Tensor, meta: tuple[torch.Size, torch.dtype]) -> Tensor:
    """The gradient of an operand that was broadcast and promoted: in its shape and dtype."""
    shape, dtype = meta
    return sum_to_shape(grad, shape).to(dtype)


def total(*terms: Tensor | None) -> Tensor:
    """The sum of a directional derivative's terms, one or two; that of a constant is None."""
    first, *others = [term for term in terms if term is not None]
    return first + others[0] if others else first


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Each loss, their sum, or their mean."""
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def reduction_grad(grad_output: Tensor, reduction: str, losses: int) -> Tensor:
    """∂C/∂loss of each loss: g / n for the mean of n, otherwise g."""
    return grad_output / losses if reduction == "mean" else grad_output


class DifferenceLoss(Function):
    """C = Σᵢ l(dᵢ) / n, a loss of each difference d = x − t, then the reduction: here the mean over n components.

    With ∂d/∂x = 1 and ∂d/∂t = −1 the chain rule gives

        ∂C/∂x = g/n · l′(x − t)          'sum' and 'none': g instead of g/n
        ∂C/∂t = −∂C/∂x
        Ċ = Σᵢ l′(dᵢ) (ẋᵢ − ṫᵢ) / n

    A subclass states `loss(difference, *constants)` and `derivative(difference, *constants)`, which is l′.
    """

    loss: ClassVar[Callable[..., Tensor]]
    derivative: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Make `forward`, `backward` and `jvp` of the loss and its derivative."""
        if "derivative" in vars(cls):
            methods = _loss_methods(cls.loss, cls.derivative)
            cls.forward, cls.backward, cls.jvp = map(staticmethod, methods)  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, target, ctx.reduction, *ctx.constants = inputs
        save(ctx, input, target)


def _loss_methods(loss: Callable[..., Tensor], derivative: Callable[..., Tensor]) -> tuple[Callable[..., Any], ...]:
    def forward(input: Tensor, target: Tensor, reduction: str, *constants: float) -> Tensor:
        return reduce(loss(input - target, *constants), reduction)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, target = ctx.saved_tensors
        grad_losses = reduction_grad(grad_output, ctx.reduction, input.numel())
        grad_input = grad_losses * derivative(input - target, *ctx.constants)
        grad_target = -grad_input if ctx.needs_input_grad[1] else None
        return grad_input, grad_target, None, *[None for _ in ctx.constants]

    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, *_: None) -> Tensor:
        input, target = ctx.saved_tensors
        tangents = derivative(input - target, *ctx.constants) * (input_tangent - target_tangent)
        return reduce(tangents, ctx.reduction)

    return forward, backward, jvp
