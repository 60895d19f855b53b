"""The tape: every call of a hand-written function, in order. Backpropagation is walking it in reverse."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from bp_torch.engine.operations import Operations, caller, hooked, unsupported
from bp_torch.functional.function import Context, active_tape

_set_grad_enabled = torch._C._set_grad_enabled  # torch.no_grad() takes 4 µs


@dataclass(eq=False, slots=True)
class Call:
    """One call of a hand-written function.

    Attributes:
        function: the `bp_torch.functional.function.Function`.
        inputs: what it was called with.
        output: what it returned.
        ctx: what its `backward` reads.
        module: the module that called it, such as "0 (Linear)", if the tape was given the model.
    """

    function: Any
    inputs: tuple[Any, ...]
    output: Tensor
    ctx: Context
    module: str

    def backward(self, grad_output: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each input that needs a gradient, with ∂C/∂input from ∂C/∂output by the function's own equation.

        Raises:
            RuntimeError: if a gradient is missing or of the wrong shape; or as `require_valid`.
        """
        self.require_valid()
        if True not in self.ctx.needs_input_grad:
            return []
        found = self.function.backward(self.ctx, grad_output)
        gradients = found if type(found) is tuple else (found,)
        needed = []
        for input, gradient, needs in zip(self.inputs, gradients, self.ctx.needs_input_grad, strict=True):
            if needs:
                if gradient is None or gradient.shape != input.shape:
                    name, given = self.function.__name__, "none" if gradient is None else tuple(gradient.shape)
                    raise RuntimeError(f"{name}.backward must return a gradient {tuple(input.shape)}, not {given}")
                needed.append((input, gradient))
        return needed

    def require_valid(self) -> None:
        """Raise RuntimeError if a saved Tensor was changed in place since, or if the output's gradient has a hook."""
        if self.ctx.modified():
            name = self.function.__name__
            raise RuntimeError(f"a tensor that {name}.backward needs was modified by an inplace operation")
        if self.output._backward_hooks:
            raise hooked(self.function.__name__)


class Tape(list[Call]):
    """Records this thread's calls of hand-written functions: `with Tape() as tape: cost = ...`.

    The output of a call requires a gradient if one of its inputs does, but has no graph. So a tensor that has a graph
    comes from one of torch's own differentiable operations, and the call that is given it raises. A tensor that
    requires no gradient, such as a mask, is a constant, as for autograd.

    Attributes:
        model_calls: how many calls are the model's, if the tape was given one: the first; all others are the cost's.
        from_inputs: the model's inputs, and every Tensor that was computed from one.
    """

    def __init__(self, model: torch.nn.Module | None = None, inputs: Iterable[Tensor] = ()) -> None:
        """Begin empty.

        With a model and its inputs, which take time, calls know their module, errors name the operation, and
        `from_inputs` is filled.
        """
        super().__init__()
        self._outer: list[Tape | None] = []
        self.model_calls = 0
        self.operations = None if model is None else Operations(model, inputs)
        self.from_inputs = set[Tensor]() if self.operations is None else self.operations.from_inputs

    def __enter__(self) -> Self:
        """Record, in place of a tape that may be active already."""
        if self.operations is not None:
            self.operations.__enter__()
        self._outer.append(active_tape.tape)
        active_tape.tape = self
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop."""
        active_tape.tape = self._outer.pop()
        if self.operations is not None:
            self.operations.__exit__(*exception)

    def record(self, function: Any, inputs: tuple[Any, ...]) -> Tensor:
        """Call a function and record the call.

        Raises:
            UnsupportedOperation: if an input comes from a differentiable operation that is not hand-written.
            RuntimeError: if an input has a hook on its gradient.
        """
        enabled, needs = torch.is_grad_enabled(), []
        for input in inputs:
            needs.append(enabled and isinstance(input, Tensor) and input.requires_grad)
            if needs[-1]:
                if input.grad_fn is not None:
                    raise unsupported(input, self.operations)
                if input._backward_hooks or input._post_accumulate_grad_hooks:
                    raise hooked(caller(self.operations))
        ctx = Context(tuple(needs))
        _set_grad_enabled(False)
        try:
            output: Tensor = function.forward(*inputs)
            for input in inputs:
                if output is input:
                    output = output.view_as(output)  # a Tensor of its own, for a gradient of its own
            function.setup_context(ctx, inputs, output)
            if not output.is_floating_point():
                ctx.mark_non_differentiable(output)
        finally:
            _set_grad_enabled(enabled)
        if True in ctx.needs_input_grad:
            output.requires_grad_()
        self.append(Call(function, inputs, output, ctx, "" if self.operations is None else self.operations.module))
        if self.operations is not None:
            self.operations.follow(inputs, output)
        return output


def backward(tape: Sequence[Call], output: Tensor) -> dict[Tensor, Tensor]:
    """Backpropagation: ∂C/∂x for every Tensor x on the tape that needs one and that C, the output, depends on."""
    gradients = {output: torch.ones_like(output)}
    of_outputs = {call.output: grad_output for call, grad_output in walk(reversed(tape), gradients)}
    return {**of_outputs, **gradients}


def walk(calls: Iterable[Call], gradients: dict[Tensor, Tensor]) -> Iterator[tuple[Call, Tensor]]:
    """Backpropagation, call by call: each that C depends on, with ∂C/∂output, before its backward is asked.

    Args:
        calls: the last one first.
        gradients: ∂C/∂C by C; in the end ∂C/∂x of each x that is no output of a call.
    """
    for call in calls:
        if call.output in gradients:
            grad_output = gradients.pop(call.output)
            yield call, grad_output
            for input, gradient in call.backward(grad_output):
                gradients[input] = gradients[input] + gradient if input in gradients else gradient
