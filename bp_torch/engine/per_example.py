"""What each example of a mini-batch adds to the gradient: quick rules for some functions, vmap for all others.

Row n of a call's ∂C/∂output belongs to example n, and a backward is linear in it: the backward of that row alone, the
others 0, is what example n adds. vmap computes that for all n, of any function; a rule does in one product.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.tape import Call, Tape, backward
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.function import Context
from bp_torch.functional.linear import Linear


class ExampleGradients:
    """What N examples add to one gradient, (N, *its shape)."""

    def __init__(self, gradients: Tensor) -> None:
        """Take them."""
        self._gradients = gradients

    def gradients(self) -> Tensor:
        """What each adds, (N, *shape)."""
        return self._gradients

    def total(self) -> Tensor:
        """Their sum: the gradient."""
        return self._gradients.sum(0)

    def norms(self) -> Tensor:
        """How long each is, (N,)."""
        return _norms(self._gradients)

    def sums_of_squares(self) -> Tensor:
        """The squares, summed over the examples, in the gradient's shape."""
        return self._gradients.square().sum(0)

    def double(self) -> "ExampleGradients":
        """The same in float64, for sums whose differences matter."""
        return ExampleGradients(self._gradients.double())


class _OuterProducts(ExampleGradients):
    """δₙ xₙᵀ of each example n, from δ (N, out) and x (N, in).

    ‖δₙ xₙᵀ‖ = ‖δₙ‖ ‖xₙ‖ and Σₙ (δₙ xₙᵀ)² = (δ²)ᵀ x²: neither needs the products.

    Source: Goodfellow, Efficient Per-Example Gradient Computations (2015); Dangel, Kunstner, Hennig, BackPACK (2020).
    """

    def __init__(self, delta: Tensor, input: Tensor) -> None:
        """Nothing is multiplied yet."""
        self._delta, self._input = delta, input

    def gradients(self) -> Tensor:
        return self._delta.unsqueeze(2) * self._input.unsqueeze(1)

    def total(self) -> Tensor:
        return self._delta.t() @ self._input

    def norms(self) -> Tensor:
        return _norms(self._delta) * _norms(self._input)

    def sums_of_squares(self) -> Tensor:
        return self._delta.square().t() @ self._input.square()

    def double(self) -> "_OuterProducts":
        return _OuterProducts(self._delta.double(), self._input.double())


Rule = Callable[[Context, Tensor], tuple[ExampleGradients | None, ...] | None]
"""From what a `backward` reads: of each input, or None to leave it to vmap."""
_RULES: dict[Any, Rule] = {}


def per_example(function: Any) -> Callable[[Rule], Rule]:
    """Make a rule that of a function: `@per_example(Linear)`."""

    def register(rule: Rule) -> Rule:
        _RULES[function] = rule
        return rule

    return register


@per_example(Linear)
def linear_gradients(ctx: Context, grad_output: Tensor) -> tuple[ExampleGradients | None, ...] | None:
    """∂Cₙ/∂W = δₙᵀ xₙ and ∂Cₙ/∂b = Σₜ δₙₜ, over the rows t of example n: (N, T, in), or one row, (N, in)."""
    input = ctx.saved_tensors[0]
    if input is None or ctx.needs_input_grad[0] or grad_output.dim() < 2:
        return None
    if grad_output.dim() == 2:
        return None, _OuterProducts(grad_output, input), ExampleGradients(grad_output)
    delta, rows = grad_output.flatten(1, -2), input.flatten(1, -2)
    return None, ExampleGradients(torch.bmm(delta.mT, rows)), ExampleGradients(delta.sum(1))


def by_vmap(function: Any, ctx: Context, grad_output: Tensor) -> tuple[ExampleGradients | None, ...]:
    """What the examples add to each input that needs a gradient, of any function."""
    n = torch.arange(len(grad_output), device=grad_output.device)
    apart = grad_output.new_zeros(len(n), *grad_output.shape)  # in each of the first N, one row alone
    apart[n, n] = grad_output
    return _as_examples(_vmapped(function, ctx, apart))


def contributions(tape: Tape, cost: Tensor, examples: int) -> dict[Tensor, ExampleGradients]:
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
    shared: dict[Tensor, ExampleGradients] = {}
    for call in reversed(tape[: tape.model_calls]):
        if call.output in rows:
            _split(call, rows, shared, tape.from_inputs)
        elif call.output in shared:
            call.require_valid()
            each = _vmapped(call.function, call.ctx, shared.pop(call.output).gradients())
            _add(shared, call.inputs, _as_examples(each))
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
    call: Call, rows: dict[Tensor, Tensor], shared: dict[Tensor, ExampleGradients], from_inputs: set[Tensor]
) -> None:
    """One call back: rows go on as they do without examples kept apart, what is shared gets its contributions."""
    grad_output, needs = rows[call.output], call.ctx.needs_input_grad
    own = tuple(needed and input not in from_inputs for input, needed in zip(call.inputs, needs, strict=True))
    if True in own:
        rule, ctx = _RULES.get(call.function), _with_needs(call.ctx, own)
        found = (rule and rule(ctx, grad_output)) or by_vmap(call.function, ctx, grad_output)
        _add(shared, call.inputs, tuple(x if needed else None for x, needed in zip(found, own, strict=True)))
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


def _add(shared: dict[Tensor, ExampleGradients], inputs: tuple[Any, ...], found: tuple[Any, ...]) -> None:
    """Of a Tensor that several calls are given, the sum."""
    for input, each in zip(inputs, found, strict=True):
        if each is not None:
            both = input in shared
            shared[input] = ExampleGradients(shared[input].gradients() + each.gradients()) if both else each


def _as_examples(gradients: tuple[Tensor | None, ...]) -> tuple[ExampleGradients | None, ...]:
    return tuple(None if each is None else ExampleGradients(each) for each in gradients)


def _vmapped(function: Any, ctx: Context, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
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


def _norms(each: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(each.unsqueeze(1).flatten(1), dim=1)
    return norms
