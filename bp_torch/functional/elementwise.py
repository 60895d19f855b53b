"""Base classes of elementwise functions and losses: a subclass states its derivative, backward and jvp follow."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save, transform_active
from bp_torch.functional.shape import sum_to_shape


class Elementwise(Function):
    """yᵢ = f(xᵢ), with optional constants: f(xᵢ, *constants).

    Each yᵢ depends on xᵢ alone, so the Jacobian is diagonal, and both directions multiply elementwise by f′(x):

        ∂C/∂x = g · f′(x)     backward, with g = ∂C/∂y
        ẏ = f′(x) · ẋ         jvp

    A subclass states `forward(input, *constants)` and f′(x) as `derivative(input, *constants)`. If f′ is simpler as a
    function of y, it sets `saves_output = True`, and `derivative` takes the output instead of the input.
    """

    saves_output: ClassVar[bool] = False
    derivative: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `setup_context`, `backward` and `jvp` from the derivative."""
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


def above(input: Tensor, number: float) -> Tensor:
    """1 where x > number, otherwise 0, in the dtype of x.

    In place in a copy, which with the product takes a third of the time of a boolean mask; but vmap has no rule for it.
    """
    return (input > number).to(input.dtype) if transform_active() else input.clone().gt_(number)


def below(input: Tensor, number: float) -> Tensor:
    """1 where x < number, otherwise 0, in the dtype of x. See `above`."""
    return (input < number).to(input.dtype) if transform_active() else input.clone().lt_(number)


class BroadcastFunction(Function):
    """yᵢ = f(aᵢ, bᵢ, …) after broadcasting; all but one of the operands may be Python numbers.

        ∂C/∂a = g · ∂f/∂a,  ∂C/∂b = g · ∂f/∂b     backward, each summed over the broadcast copies
        ẏ = ȧ · ∂f/∂a + ḃ · ∂f/∂b                 jvp

    A subclass states these products, such as `grad_input(g, a, b)` and `grad_other(g, a, b)`: one for each argument of
    `forward`, by its name. `jvp` calls them with the tangent in place of g.
    """

    grad_input: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `backward` and `jvp` from the products."""
        if "grad_input" in vars(cls):
            products = [getattr(cls, f"grad_{name}") for name in inspect.signature(cls.forward).parameters]
            cls.backward, cls.jvp = map(staticmethod, _product_methods(*products))  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.numbers, ctx.dtype = [None if isinstance(x, Tensor) else x for x in inputs], output.dtype
        save(ctx, *(x if isinstance(x, Tensor) else None for x in inputs))


def _product_methods(*products: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    def operands(ctx: Any) -> Any:
        return [number if x is None else x for x, number in zip(ctx.saved_tensors, ctx.numbers, strict=True)]

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        ab = operands(ctx)
        each = zip(ctx.needs_input_grad, products, ab, strict=True)
        return tuple(unbroadcast(f(grad_output, *ab), shape_and_dtype(x)) if needs else None for needs, f, x in each)

    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        ab = operands(ctx)
        terms = (None if x is None else f(x, *ab) for x, f in zip(tangents, products, strict=True))
        return add_terms(*terms).to(ctx.dtype)  # a tangent has its operand's dtype

    return backward, jvp


def shape_and_dtype(operand: Any) -> Any:
    """Shape and dtype of a Tensor, for `unbroadcast`; None for a number."""
    return (operand.shape, operand.dtype) if isinstance(operand, Tensor) else None


def unbroadcast(grad: Tensor, operand: tuple[torch.Size, torch.dtype]) -> Tensor:
    """Sum the gradient of a broadcast operand to its shape, and convert it to its dtype."""
    shape, dtype = operand
    return sum_to_shape(grad, shape).to(dtype)


def add_terms(*terms: Tensor | None) -> Tensor:
    """Add the terms of a tangent; None is the term of a constant."""
    first, *others = [term for term in terms if term is not None]
    return sum(others, first)


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Reduce the losses by 'none', 'sum' or 'mean'."""
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def reduction_grad(grad_output: Tensor, reduction: str, n: int) -> Tensor:
    """∂C/∂lᵢ of each of n losses: g / n for 'mean', g for 'sum', gᵢ for 'none'."""
    return grad_output / n if reduction == "mean" else grad_output


class DifferenceLoss(Function):
    """C = 1/n Σᵢ l(dᵢ) with d = x − t: a loss of each difference, then the mean over the n components.

    ∂d/∂x = 1 and ∂d/∂t = −1, so

        ∂C/∂x = g/n · l′(x − t)
        ∂C/∂t = −∂C/∂x
        Ċ = 1/n Σᵢ l′(dᵢ) (ẋᵢ − ṫᵢ)

    For the reductions 'sum' and 'none' the factor 1/n is absent.

    A subclass states l as `loss(difference, *constants)` and l′ as `derivative(difference, *constants)`.
    """

    loss: ClassVar[Callable[..., Tensor]]
    derivative: ClassVar[Callable[..., Tensor]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `forward`, `backward` and `jvp` from the loss and its derivative."""
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


class ElementwiseLoss(Function):
    """C = 1/n Σᵢ l(aᵢ, bᵢ, …): a loss of the components of several Tensors of one shape, then the mean over all n.

        ∂C/∂a = g/n · ∂l/∂a,  ∂C/∂b = g/n · ∂l/∂b, …
        Ċ = 1/n Σᵢ (∂l/∂a ȧᵢ + ∂l/∂b ḃᵢ + …)

    For the reductions 'sum' and 'none' the factor 1/n is absent.

    A subclass states l as `loss(*tensors, *constants)` and the partial derivatives as `slopes`, functions of the same
    arguments, one for each Tensor; None if that Tensor is constant.
    """

    loss: ClassVar[Callable[..., Tensor]]
    slopes: ClassVar[tuple[Callable[..., Tensor] | None, ...]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `forward`, `setup_context`, `backward` and `jvp` from the loss and its slopes."""
        if "slopes" in vars(cls):
            # torch.compile rejects staticmethod
            slopes = tuple(slope and inspect.unwrap(slope) for slope in cls.slopes)
            methods = _elementwise_loss_methods(cls.loss, slopes)
            cls.forward, cls.setup_context, cls.backward, cls.jvp = map(staticmethod, methods)  # type: ignore[method-assign]
        super().__init_subclass__(**options)


def _elementwise_loss_methods(
    loss: Callable[..., Tensor], slopes: tuple[Callable[..., Tensor] | None, ...]
) -> tuple[Callable[..., Any], ...]:
    number = len(slopes)

    def forward(*inputs: Any) -> Tensor:
        return reduce(loss(*inputs[:number], *inputs[number + 1 :]), inputs[number])

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.reduction, *ctx.constants = inputs[number:]
        save(ctx, *inputs[:number])

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        args = *ctx.saved_tensors, *ctx.constants
        g = reduction_grad(grad_output, ctx.reduction, args[0].numel())
        each = zip(ctx.needs_input_grad, slopes, strict=False)
        gradients = (g * slope(*args) if needs and slope else None for needs, slope in each)
        return *gradients, None, *[None for _ in ctx.constants]

    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        args = *ctx.saved_tensors, *ctx.constants
        each = zip(tangents, slopes, strict=False)
        terms = (slope(*args) * tangent for tangent, slope in each if tangent is not None and slope)
        return reduce(functools.reduce(torch.add, terms), ctx.reduction)

    return forward, setup_context, backward, jvp
