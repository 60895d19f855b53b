"""The gradient of each example of a mini-batch: fast rules for some functions, vmap for all others.

Row n of a call's ∂C/∂output belongs to example n, and its backward is linear in ∂C/∂output. So the contribution of
example n is the backward of row n, with zeros in all other rows. vmap computes it for all n and any function; a rule
needs a single product.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.tape import Call, Tape, backward
from bp_torch.functional.convolution import Convolution, ConvTranspose, kernel_gradient
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.function import Context
from bp_torch.functional.gru import GRU
from bp_torch.functional.linear import Linear
from bp_torch.functional.lstm import LSTM
from bp_torch.functional.pooling import AvgPool, MaxPool
from bp_torch.functional.rnn import RNN
from bp_torch.functional.shape import Reshape
from bp_torch.functional.windows import MAX_COMPONENTS, Windows

BY_ROW = Elementwise, Linear, Reshape, Convolution, ConvTranspose, MaxPool, AvgPool
"""Functions that compute each row of ∂C/∂(first input) from that row of ∂C/∂output, if it has two axes or more."""


class ExampleGradients:
    """The contributions of N examples to a gradient of shape (*)."""

    def __init__(self, gradients: Tensor) -> None:
        """Store the contributions, (N, *)."""
        self._gradients = gradients

    def gradients(self) -> Tensor:
        """The contributions, (N, *)."""
        return self._gradients

    def total(self) -> Tensor:
        """Their sum, the gradient, (*)."""
        return self._gradients.sum(0)

    def norms(self) -> Tensor:
        """The norm of each contribution, (N,)."""
        return _norms(self._gradients)

    def sums_of_squares(self) -> Tensor:
        """The squares, summed over the examples, (*)."""
        return self._gradients.square().sum(0)

    def double(self) -> "ExampleGradients":
        """Convert to float64, for sums that are subtracted."""
        return ExampleGradients(self._gradients.double())


class _OuterProducts(ExampleGradients):
    """The outer products δₙ xₙᵀ, (N, out, in), from δ (N, out) and x (N, in).

    ‖δₙ xₙᵀ‖ = ‖δₙ‖ ‖xₙ‖ and Σₙ (δₙ xₙᵀ)² = (δ²)ᵀ x²: norms and squares need no outer products.

    Source: Goodfellow, Efficient Per-Example Gradient Computations (2015); Dangel, Kunstner, Hennig, BackPACK (2020).
    """

    def __init__(self, delta: Tensor, input: Tensor) -> None:
        """Store the factors."""
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


class _PatchProducts(ExampleGradients):
    """The kernel gradients of N examples, Σᵢ gₙᵢ xₙᵢᵀ over the windows i: from g (N, O, *out) and x (N, C, *).

    They are computed for a few examples at a time, and never kept for more: norms and squares need no more memory.
    """

    def __init__(self, grad: Tensor, input: Tensor, windows: Windows, groups: int) -> None:
        """Store the factors."""
        self._grad, self._input, self._windows, self._groups = grad, input, windows, groups

    def gradients(self) -> Tensor:
        return torch.cat(list(self._parts()))

    def total(self) -> Tensor:
        shape = torch.Size((self._grad.shape[1], self._input.shape[1] // self._groups, *self._windows.kernel))
        return kernel_gradient(self._input, self._grad, shape, self._windows, self._groups)

    def norms(self) -> Tensor:
        return torch.cat([_norms(part) for part in self._parts()])

    def sums_of_squares(self) -> Tensor:
        return torch.stack([part.square().sum(0) for part in self._parts()]).sum(0)

    def double(self) -> "_PatchProducts":
        return _PatchProducts(self._grad.double(), self._input.double(), self._windows, self._groups)

    def _parts(self) -> Iterator[Tensor]:
        """The gradients, (n, O, C/groups, *kernel), for n examples at a time."""
        out, kernel = self._grad.shape[2:], self._windows.kernel
        order = 0, 1, *range(-len(out), 0), *range(2, 2 + len(out))  # (n, C, *kernel, *out)
        n = max(1, MAX_COMPONENTS // max(1, self._input[:1].numel() * math.prod(kernel)))
        for x, g in zip(torch.split(self._input, n), torch.split(self._grad, n), strict=True):
            patches = self._windows.view(x, out).permute(order).reshape(len(x), self._groups, -1, math.prod(out))
            each = g.reshape(len(x), self._groups, -1, math.prod(out)) @ patches.mT
            yield each.reshape(len(x), g.shape[1], -1, *kernel)


Rule = Callable[[Context, Tensor], tuple[ExampleGradients | None, ...] | None]
"""`rule(ctx, grad_output)`: the contributions to each input's gradient, or None to use vmap."""
_RULES: dict[Any, Rule] = {}


def per_example(function: Any) -> Callable[[Rule], Rule]:
    """Register a function's rule: `@per_example(Linear)`."""

    def register(rule: Rule) -> Rule:
        _RULES[function] = rule
        return rule

    return register


@per_example(Linear)
def linear_gradients(ctx: Context, grad_output: Tensor) -> tuple[ExampleGradients | None, ...] | None:
    """∂Cₙ/∂W = δₙᵀ xₙ and ∂Cₙ/∂b = Σₜ δₙₜ over the rows t of example n, for x (N, T, in) or (N, in)."""
    input = ctx.saved_tensors[0]
    if input is None or ctx.needs_input_grad[0] or grad_output.dim() < 2:
        return None
    if grad_output.dim() == 2:
        return None, _OuterProducts(grad_output, input), ExampleGradients(grad_output)
    delta, rows = grad_output.flatten(1, -2), input.flatten(1, -2)
    return None, ExampleGradients(torch.bmm(delta.mT, rows)), ExampleGradients(delta.sum(1))


@per_example(Convolution)
def convolution_gradients(ctx: Any, grad_output: Tensor) -> tuple[ExampleGradients | None, ...] | None:
    """The kernel's gradients as products of windows and g, and ∂Cₙ/∂b = Σᵢ gₙᵢ."""
    input = ctx.saved_tensors[0]
    if input is None or ctx.needs_input_grad[0]:
        return None
    kernels = _PatchProducts(grad_output, input, ctx.windows, ctx.groups)
    return None, kernels, ExampleGradients(grad_output.flatten(2).sum(2)), None, None, None, None


def _recurrent_gradients(function: Any, states: int) -> Rule:
    """The rule of a recurrent layer: each example's own backpropagation through time, by vmap over the examples."""

    def rule(ctx: Any, grad_output: Tensor) -> tuple[ExampleGradients | None, ...] | None:
        own, shared, needs = ctx.saved_tensors[: 1 + states], ctx.saved_tensors[1 + states :], ctx.needs_input_grad
        if ctx.time != 1 or True in needs[: 1 + states] or not len(grad_output):
            return None

        def of_one(grad_output: Tensor, *own: Tensor) -> tuple[Tensor, ...]:
            one = copy.copy(ctx)
            one.saved_tensors = *(x.unsqueeze(0) for x in own), *shared
            result = function.backward(one, grad_output.unsqueeze(0))
            return tuple(g for g, need in zip(result, needs, strict=True) if need)

        each = iter(torch.func.vmap(of_one)(grad_output, *own))
        return tuple(ExampleGradients(next(each)) if need else None for need in needs)

    return rule


for _function, _states in ((RNN, 1), (GRU, 1), (LSTM, 2)):  # with so many initial states, after the first input
    per_example(_function)(_recurrent_gradients(_function, _states))


def vmap_gradients(function: Any, ctx: Context, grad_output: Tensor) -> tuple[ExampleGradients | None, ...]:
    """The contributions to each input's gradient, for any function."""
    n = torch.arange(len(grad_output), device=grad_output.device)
    single_rows = grad_output.new_zeros(len(n), *grad_output.shape)  # (N, N, ...): item n has row n, otherwise zeros
    single_rows[n, n] = grad_output
    return _as_examples(_vmap_backward(function, ctx, single_rows))


def contributions(tape: Tape, cost: Tensor, examples: int) -> dict[Tensor, ExampleGradients]:
    """Compute each example's contribution to the gradient of every parameter.

    A Tensor computed from the model's inputs has a row for each example, and so has its gradient. All others, the
    parameters and what is computed from them alone, are shared: each example contributes to their gradients.

    Args:
        tape: a tape from `bp_torch.engine.Backprop.trace`.
        cost: the last output on it.
        examples: the number of examples, N.

    Returns:
        The contributions by parameter.

    Raises:
        TypeError: naming function and module, if the model mixes examples, as a mean over them does; or if the cost
            uses a parameter.
        RuntimeError: as `bp_torch.engine.backward`.
    """
    rows = _output_gradients(tape, cost, examples)
    shared: dict[Tensor, ExampleGradients] = {}
    for call in reversed(tape[: tape.model_calls]):
        if call.output in rows:
            _backward_call(call, rows, shared, tape.from_inputs)
        elif call.output in shared:
            call.require_valid()
            each = _vmap_backward(call.function, call.ctx, shared.pop(call.output).gradients())
            _add_gradients(shared, call.inputs, _as_examples(each))
    return shared


def _output_gradients(tape: Tape, cost: Tensor, examples: int) -> dict[Tensor, Tensor]:
    """∂C/∂output of the model's outputs, which must have a row for each example."""
    cost_calls = tape[tape.model_calls :]
    inner = {call.output for call in cost_calls}
    gradients = {x: gradient for x, gradient in backward(cost_calls, cost).items() if x not in inner}
    for call in tape:
        if call.output in gradients and call.output in tape.from_inputs and call.output.shape[:1] != (examples,):
            raise _mixing_error(call)
    if any(x not in tape.from_inputs for x in gradients):
        raise TypeError("the cost must be a sum over examples, but it uses a parameter or another shared Tensor")
    return gradients


def _backward_call(
    call: Call, rows: dict[Tensor, Tensor], shared: dict[Tensor, ExampleGradients], from_inputs: set[Tensor]
) -> None:
    """Backpropagate one call: gradients by rows to inputs with example rows, contributions to shared inputs."""
    grad_output, needs = rows[call.output], call.ctx.needs_input_grad
    shared_needs = tuple(need and input not in from_inputs for input, need in zip(call.inputs, needs, strict=True))
    if True in shared_needs:
        rule, ctx = _RULES.get(call.function), _replace_needs(call.ctx, shared_needs)
        each = (rule and rule(ctx, grad_output)) or vmap_gradients(call.function, ctx, grad_output)
        _add_gradients(shared, call.inputs, tuple(x if n else None for x, n in zip(each, shared_needs, strict=True)))
    row_needs = tuple(need and not shares for need, shares in zip(needs, shared_needs, strict=True))
    row_call = dataclasses.replace(call, ctx=_replace_needs(call.ctx, row_needs))
    for input, gradient in _backward_rows(row_call, grad_output):
        rows[input] = rows[input] + gradient if input in rows else gradient


def _backward_rows(call: Call, grad_output: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Run a call's backward; TypeError unless each row of the gradients depends on that row of ∂C/∂output alone.

    Any two row numbers differ in at least one bit. For each bit, the backward runs again with zeros in the rows whose
    bit is 0, and with zeros in those whose bit is 1. A zeroed row whose gradient is not 0 depends on another row.
    `BY_ROW` need not be tested.
    """
    gradients = call.backward(grad_output)
    number = torch.arange(len(grad_output), device=grad_output.device)
    if any(gradient.shape[:1] != number.shape for _, gradient in gradients):
        raise _mixing_error(call)
    bits = [(number >> bit) % 2 == 0 for bit in range((len(number) - 1).bit_length())]
    by_row = issubclass(call.function, BY_ROW) and grad_output.dim() > 1 and not any(call.ctx.needs_input_grad[1:])
    if gradients and bits and not by_row:
        zeroed = torch.stack([*bits, *(~bit for bit in bits)])  # (K, N)
        result = _vmap_backward(call.function, call.ctx, torch.where(_expand_rows(zeroed, grad_output), 0, grad_output))
        for (_, gradient), each in zip(gradients, (x for x in result if x is not None), strict=True):
            if ((each != 0) & _expand_rows(zeroed, gradient) & gradient.isfinite()).any():
                raise _mixing_error(call)
    return gradients


def _expand_rows(mask: Tensor, like: Tensor) -> Tensor:
    """Reshape (K, N) to (K, N, 1, ...), to broadcast with `like`."""
    return mask.reshape(*mask.shape, *[1] * (like.dim() - 1))


def _mixing_error(call: Call) -> TypeError:
    name = call.function.__name__
    return TypeError(f"module {call.module}: {name} mixes or reorders examples, so per-example gradients do not exist")


def _replace_needs(ctx: Context, needs: tuple[bool, ...]) -> Context:
    """Copy a context, with other `needs_input_grad`."""
    other = copy.copy(ctx)
    other.needs_input_grad = needs
    return other


def _add_gradients(shared: dict[Tensor, ExampleGradients], inputs: tuple[Any, ...], gradients: tuple[Any, ...]) -> None:
    """Add the contributions of one call to those of earlier calls with the same inputs."""
    for input, each in zip(inputs, gradients, strict=True):
        if each is not None:
            earlier = shared.get(input)
            shared[input] = ExampleGradients(earlier.gradients() + each.gradients()) if earlier else each


def _as_examples(gradients: tuple[Tensor | None, ...]) -> tuple[ExampleGradients | None, ...]:
    return tuple(None if each is None else ExampleGradients(each) for each in gradients)


def _vmap_backward(function: Any, ctx: Context, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
    """Run the backward of K upstream gradients, (K, *output shape), at once."""
    needs = ctx.needs_input_grad

    def needed(grad_output: Tensor) -> tuple[Tensor, ...]:
        result = function.backward(ctx, grad_output)
        return tuple(g for g, need in zip(result if type(result) is tuple else (result,), needs, strict=True) if need)

    if len(grad_outputs):
        gradients = iter(torch.func.vmap(needed)(grad_outputs))
    else:  # vmap does not support a batch of size 0
        gradients = iter(g.new_zeros(0, *g.shape) for g in needed(grad_outputs.new_zeros(grad_outputs.shape[1:])))
    return tuple(next(gradients) if need else None for need in needs)


def _norms(each: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(each.unsqueeze(1).flatten(1), dim=1)
    return norms
