"""What each example of a mini-batch adds to the gradient: quick rules for some functions, vmap for all others.

Row n of a call's ∂C/∂output belongs to example n, and a backward is linear in it: the backward of that row alone, the
others 0, is what example n adds. vmap computes that for all n, of any function; a rule does in one product.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from bp_torch.engine.tape import Call, Tape, backward, require_valid
from bp_torch.functional.function import Context
from bp_torch.functional.linear import Linear
from bp_torch.functional.reductions import Matmul

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
        return _vmapped(self.function, self.ctx, _apart(self.grad_output))

    @cached_property
    def total(self) -> _Gradients:
        """Their sum, in the input's shape: the gradient."""
        found = self.function.backward(self.ctx, self.grad_output)
        return found if type(found) is tuple else (found,)

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
        ctx.save_for_backward(*(None if tensor is None else tensor.double() for tensor in ctx.saved_tensors))
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
        delta, input = (
            x.unsqueeze(1) if x.dim() == 2 else x.flatten(1, -2) for x in (self.grad_output, self._input)
        )  # (N, T, ·)
        return None, torch.bmm(delta.mT, input), delta.sum(1)

    @cached_property
    def norms(self) -> _Gradients:
        """‖δₙ‖ ‖xₙ‖ and ‖δₙ‖."""
        if self.grad_output.dim() > 2:
            return super().norms
        lengths = _norms(self.grad_output)
        return None, lengths * _norms(self._input), lengths

    @cached_property
    def sums_of_squares(self) -> _Gradients:
        """(δ²)ᵀ x² and Σₙ δₙ²."""
        if self.grad_output.dim() > 2:
            return super().sums_of_squares
        squares = self.grad_output.square()
        return None, torch.mm(squares.t(), self._input.square()), squares.sum(0)

    @property
    def _input(self) -> Tensor:
        input = self.ctx.saved_tensors[0]
        assert input is not None
        return input


class _Given(ExampleGradients):
    """Gradients that there are already."""

    def __init__(self, gradients: _Gradients) -> None:
        self.gradients = gradients
        self.total = tuple(None if each is None else each.sum(0) for each in gradients)

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


def contributions(tape: Tape, cost: Tensor, inputs: Sequence[Tensor]) -> dict[Tensor, Contributions]:
    """What each example adds to the gradient of every parameter.

    A Tensor that depends on the inputs has a row for each example. All others, parameters and what is computed from
    them alone, are shared by the examples: their gradients are kept apart, one for each example.

    Args:
        tape: as `bp_torch.engine.Backprop.trace` recorded it.
        cost: the last output on it.
        inputs: of the model, (N, ...) each.

    Returns:
        By parameter.

    Raises:
        TypeError: naming function and module, if examples meet in the model, as in a mean over them; or if the cost
            takes a parameter itself.
    """
    require_valid(tape)
    calls = [call for call in tape if call.module]
    by_row = _with_rows(calls, inputs)
    rows, shared = _at_outputs(tape, cost, by_row, len(inputs[0]))
    for call in reversed(calls):
        if call.output in rows:
            _split(call, rows, shared, by_row)
        elif call.output in shared:
            each = _Given(_vmapped(call.function, call.ctx, shared.pop(call.output).gradients()))
            for position, input in _needing(call):
                shared.setdefault(input, Contributions()).append((each, position))
    return shared


def _with_rows(calls: Sequence[Call], inputs: Sequence[Tensor]) -> set[Tensor]:
    """The Tensors with a row for each example."""
    by_row, rows = set(inputs), inputs[0].shape[:1]
    for call in calls:
        if any(isinstance(input, Tensor) and input in by_row for input in call.inputs):
            if call.output.shape[:1] != rows or _examples_meet(call, by_row):
                name = call.function.__name__
                raise TypeError(f"module {call.module}: examples meet in {name}, so that none has its own gradient")
            by_row.add(call.output)
    return by_row


def _examples_meet(call: Call, by_row: set[Tensor]) -> bool:
    if call.function is Matmul and call.inputs[0] not in by_row:
        return call.inputs[1].dim() < 3  # type: ignore[no-any-return]  # W x adds up the rows of x, (N, ...)
    return call.function.mixes_examples(*call.inputs)  # type: ignore[no-any-return]


def _at_outputs(
    tape: Tape, cost: Tensor, by_row: set[Tensor], examples: int
) -> tuple[dict[Tensor, Tensor], dict[Tensor, Contributions]]:
    """The gradients of the model's outputs: by row, or where these are not known to be rows, kept apart."""
    made = {call.output for call in tape if call.module}
    after = [call for call in tape if not call.module]
    gradients = {x: gradient for x, gradient in backward(after, cost).items() if x not in {c.output for c in after}}
    if any(not (x in by_row or (x in made and x.dim() and len(x) == examples)) for x in gradients):
        raise TypeError("the cost takes what no example has a row of, such as a parameter: it is no sum over examples")
    rows = {x: gradient for x, gradient in gradients.items() if x in by_row}
    others = {x: _Given((_apart(gradient),)) for x, gradient in gradients.items() if x not in by_row}
    return rows, {x: Contributions([(each, 0)]) for x, each in others.items()}


def _split(call: Call, rows: dict[Tensor, Tensor], shared: dict[Tensor, Contributions], by_row: set[Tensor]) -> None:
    """One call back: rows go on as they do without examples kept apart, what is shared gets its contributions."""
    grad_output, needs = rows[call.output], call.ctx.needs_input_grad
    own = tuple(needed and input not in by_row for input, needed in zip(call.inputs, needs, strict=True))
    if True in own:
        rule = _RULES.get(call.function, ExampleGradients)
        each = rule(call.function, _with_needs(call.ctx, own), grad_output)
        for position, input in enumerate(call.inputs):
            if own[position]:
                shared.setdefault(input, Contributions()).append((each, position))
    on = tuple(needed and not shares for needed, shares in zip(needs, own, strict=True))
    for input, gradient in dataclasses.replace(call, ctx=_with_needs(call.ctx, on)).backward(grad_output):
        rows[input] = rows[input] + gradient if input in rows else gradient


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

    found = iter(torch.func.vmap(needed)(grad_outputs))
    return tuple(next(found) if need else None for need in needs)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    return sum(others, start=first)


def _norms(each: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(each.flatten(1), dim=1)
    return norms
