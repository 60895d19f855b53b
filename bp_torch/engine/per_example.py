"""What each example of a mini-batch adds to the gradient: quick rules for some functions, vmap for all others.

Row n of a call's ∂C/∂output belongs to example n, and a backward is linear in it: the backward of that row alone, the
others 0, is what example n adds. vmap computes that for all n, of any function; a rule does in one product.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from bp_torch.engine.tape import Call, Tape, backward
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.function import Context
from bp_torch.functional.linear import Linear

_Gradients = tuple[Any, ...]
_Rule = TypeVar("_Rule", bound="type[ExampleGradients]")


class ExampleGradients:
    """What N examples add to the gradients of the inputs that they share: of any function, by vmap of its backward.

    A rule is a subclass that states it for one function, in the order of its inputs. None where none is needed.

    Attributes:
        function: the function.
        ctx: what its `backward` reads.
        grad_output: ∂C/∂output, (N, ...).
    """

    def __init__(self, function: Any, ctx: Context, grad_output: Tensor) -> None:
        """Nothing is computed yet."""
        self.function = function
        self.ctx = ctx
        self.grad_output = grad_output

    @cached_property
    def gradients(self) -> _Gradients:
        """(N, *shape) for an input of that shape."""
        found = _vmapped(self.function, self.ctx, _apart(self.grad_output))
        return tuple(map(_double, found)) if self.grad_output.dtype == torch.float64 else found  # and no longer rounded

    @cached_property
    def total(self) -> _Gradients:
        """Their sum, in the input's shape: the gradient."""
        return tuple(None if each is None else each.sum(0) for each in self.gradients)

    @cached_property
    def norms(self) -> _Gradients:
        """How long each is, (N,)."""
        return tuple(None if each is None else _norms(each) for each in self.gradients)

    @cached_property
    def sums_of_squares(self) -> _Gradients:
        """The squares, summed over the examples, in the input's shape."""
        return tuple(None if each is None else each.square().sum(0) for each in self.gradients)

    def double(self) -> "ExampleGradients":
        """The same in float64."""
        ctx = copy.copy(self.ctx)
        ctx.save_for_backward(*map(_double, ctx.saved_tensors))
        return type(self)(self.function, ctx, self.grad_output.double())


_RULES: dict[Any, type[ExampleGradients]] = {}


def per_example(function: Any) -> Callable[[_Rule], _Rule]:
    """Make a class the rule of a function: `@per_example(Linear)`."""

    def register(rule: _Rule) -> _Rule:
        _RULES[function] = rule
        return rule

    return register


@per_example(Linear)
class LinearGradients(ExampleGradients):
    """∂Cₙ/∂W = δₙᵀ xₙ and ∂Cₙ/∂b = Σₜ δₙₜ, over the rows t of example n: (N, T, in), or one row, (N, in).

    With one row ‖δₙ xₙᵀ‖ = ‖δₙ‖ ‖xₙ‖ and Σₙ (δₙ xₙᵀ)² = (δ²)ᵀ x²: neither needs the products.

    Source: Goodfellow, Efficient Per-Example Gradient Computations (2015); Dangel, Kunstner, Hennig, BackPACK (2020).
    """

    @cached_property
    def gradients(self) -> _Gradients:
        """(N, out, in) and (N, out)."""
        if self._general or self.grad_output.dim() < 2:
            return super().gradients
        delta, input = (
            x.unsqueeze(1) if x.dim() == 2 else x.flatten(1, -2) for x in (self.grad_output, self._input)
        )  # (N, T, ·)
        return None, torch.bmm(delta.mT, input), delta.sum(1)

    @cached_property
    def total(self) -> _Gradients:
        """δᵀ x and Σₙ δₙ."""
        return self.function.backward(self.ctx, self.grad_output)  # type: ignore[no-any-return]

    @cached_property
    def norms(self) -> _Gradients:
        """‖δₙ‖ ‖xₙ‖ and ‖δₙ‖."""
        if self._general or self.grad_output.dim() != 2:
            return super().norms
        lengths = _norms(self.grad_output)
        return None, lengths * _norms(self._input), lengths

    @cached_property
    def sums_of_squares(self) -> _Gradients:
        """(δ²)ᵀ x² and Σₙ δₙ²."""
        if self._general or self.grad_output.dim() != 2:
            return super().sums_of_squares
        squares = self.grad_output.square()
        return None, torch.mm(squares.t(), self._input.square()), squares.sum(0)

    @property
    def _general(self) -> bool:
        """Whether the examples share x, too."""
        return self.ctx.needs_input_grad[0]

    @property
    def _input(self) -> Tensor:
        input = self.ctx.saved_tensors[0]
        assert input is not None
        return input


class _Given(ExampleGradients):
    """Gradients that there are already."""

    def __init__(self, gradients: _Gradients) -> None:
        self.gradients = gradients

    def double(self) -> "_Given":
        return _Given(tuple(None if each is None else each.double() for each in self.gradients))


class Contributions(list[tuple[ExampleGradients, int]]):
    """What the examples add to the gradient of one parameter: a part from each call that it is an input of."""

    def gradients(self) -> Tensor:
        """The gradient that each example adds, (N, *shape)."""
        return _sum(part.gradients[position] for part, position in self)

    def total(self) -> Tensor:
        """Their sum: the gradient."""
        return _sum(part.total[position] for part, position in self)

    def norms(self) -> Tensor:
        """How long each is, (N,)."""
        return _norms(self.gradients()) if self[1:] else _sum(part.norms[position] for part, position in self)

    def sums_of_squares(self) -> Tensor:
        """Their squares, summed over the examples, in the parameter's shape."""
        if self[1:]:
            return self.gradients().square().sum(0)
        return _sum(part.sums_of_squares[position] for part, position in self)

    def double(self) -> "Contributions":
        """The same in float64, for sums whose differences matter."""
        return Contributions((part.double(), position) for part, position in self)


def contributions(tape: Tape, cost: Tensor, examples: int) -> dict[Tensor, Contributions]:
    """What each example adds to the gradient of every parameter.

    A Tensor that comes from the model's inputs has a row for each example, and so has its gradient. All others,
    parameters and what is computed from them alone, are shared by the examples: their gradients are kept apart, one for
    each example.

    Args:
        tape: as `bp_torch.engine.Backprop.trace` recorded it.
        cost: the last output on it.
        examples: how many there are, N.

    Returns:
        By parameter.

    Raises:
        TypeError: naming function and module, if examples meet in the model, as in a mean over them; or if the cost
            takes a parameter itself.
        RuntimeError: as `bp_torch.engine.backward`.
    """
    rows = _of_outputs(tape, cost, examples)
    shared: dict[Tensor, Contributions] = {}
    for call in reversed(tape[: tape.model_calls]):
        if call.output in rows:
            _split(call, rows, shared, tape.from_inputs)
        elif call.output in shared:
            call.require_valid()
            each = _Given(_vmapped(call.function, call.ctx, shared.pop(call.output).gradients()))
            for position, input in _needing(call):
                shared.setdefault(input, Contributions()).append((each, position))
    return shared


def _of_outputs(tape: Tape, cost: Tensor, examples: int) -> dict[Tensor, Tensor]:
    """The gradients of the model's outputs, which must have a row for each example."""
    after = tape[tape.model_calls :]
    gradients = {x: gradient for x, gradient in backward(after, cost).items() if x not in {c.output for c in after}}
    for call in tape:
        if call.output in gradients and call.output in tape.from_inputs and call.output.shape[:1] != (examples,):
            raise _examples_meet(call)
    if any(x not in tape.from_inputs for x in gradients):
        raise TypeError("the cost takes what no example has a row of, such as a parameter: it is no sum over examples")
    return gradients


def _split(
    call: Call, rows: dict[Tensor, Tensor], shared: dict[Tensor, Contributions], from_inputs: set[Tensor]
) -> None:
    """One call back: rows go on as they do without examples kept apart, what is shared gets its contributions."""
    grad_output, needs = rows[call.output], call.ctx.needs_input_grad
    own = tuple(needed and input not in from_inputs for input, needed in zip(call.inputs, needs, strict=True))
    if True in own:
        rule = _RULES.get(call.function, ExampleGradients)
        each = rule(call.function, _with_needs(call.ctx, own), grad_output)
        for position, input in enumerate(call.inputs):
            if own[position]:
                shared.setdefault(input, Contributions()).append((each, position))
    on = tuple(needed and not shares for needed, shares in zip(needs, own, strict=True))
    for input, gradient in _separate(dataclasses.replace(call, ctx=_with_needs(call.ctx, on)), grad_output):
        rows[input] = rows[input] + gradient if input in rows else gradient


def _separate(call: Call, grad_output: Tensor) -> list[tuple[Tensor, Tensor]]:
    """One call back; TypeError unless each row of the gradients comes from the same row of ∂C/∂output.

    The numbers of any two examples differ in a bit. So of ∂C/∂output with 0 where a bit is 1, and with 0 where it is 0,
    one has the row of the first alone: if the second's gradient is not 0 then, it comes from the first.
    """
    gradients = call.backward(grad_output)
    number = torch.arange(len(grad_output), device=grad_output.device)
    if any(gradient.shape[:1] != number.shape for _, gradient in gradients):
        raise _examples_meet(call)
    bits = [(number >> bit) % 2 == 0 for bit in range((len(number) - 1).bit_length())]
    if gradients and bits and not issubclass(call.function, Elementwise):
        empty = torch.stack([*bits, *(~bit for bit in bits)])
        found = _vmapped(call.function, call.ctx, torch.where(_rows(empty, grad_output), 0, grad_output))
        for (_, gradient), each in zip(gradients, (x for x in found if x is not None), strict=True):
            if ((each != 0) & _rows(empty, gradient) & gradient.isfinite()).any():
                raise _examples_meet(call)
    return gradients


def _rows(chosen: Tensor, like: Tensor) -> Tensor:
    """(K, N) as (K, N, 1, ...)."""
    return chosen.reshape(*chosen.shape, *[1] * (like.dim() - 1))


def _examples_meet(call: Call) -> TypeError:
    where = f"module {call.module}: examples meet or change rows in {call.function.__name__}"
    return TypeError(f"{where}, so that none has its own gradient")


def _with_needs(ctx: Context, needs: tuple[bool, ...]) -> Context:
    """The same, asking for other gradients."""
    other = copy.copy(ctx)
    other.needs_input_grad = needs
    return other


def _needing(call: Call) -> list[tuple[int, Tensor]]:
    """The inputs that need a gradient, with their positions."""
    return [(i, input) for i, input in enumerate(call.inputs) if call.ctx.needs_input_grad[i]]


def _apart(gradient: Tensor) -> Tensor:
    """(N, N, ...): in each of the first N, one row alone and the others 0."""
    n = torch.arange(len(gradient), device=gradient.device)
    apart = gradient.new_zeros(len(n), *gradient.shape)
    apart[n, n] = gradient
    return apart


def _vmapped(function: Any, ctx: Context, grad_outputs: Tensor) -> _Gradients:
    """The backward of many gradients at once, (K, *output's shape) each."""
    needs = ctx.needs_input_grad

    def needed(grad_output: Tensor) -> tuple[Tensor, ...]:
        found = function.backward(ctx, grad_output)
        return tuple(g for g, need in zip(found if type(found) is tuple else (found,), needs, strict=True) if need)

    if len(grad_outputs):
        found = iter(torch.func.vmap(needed)(grad_outputs))
    else:  # which vmap refuses
        found = iter(g.new_zeros(0, *g.shape) for g in needed(grad_outputs.new_zeros(grad_outputs.shape[1:])))
    return tuple(next(found) if need else None for need in needs)


def _double(tensor: Tensor | None) -> Tensor | None:
    return tensor.double() if tensor is not None and tensor.is_floating_point() else tensor


def _sum(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    return sum(others, start=first)


def _norms(each: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(each.unsqueeze(1).flatten(1), dim=1)
    return norms
