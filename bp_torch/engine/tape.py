"""The tape: a record of every call of a hand-written function. Backpropagation goes through it in reverse."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from bp_torch.engine.operations import OperationTracker, caller_name, hook_error, unsupported_error
from bp_torch.functional.function import Context, active_tape

_set_grad_enabled = torch._C._set_grad_enabled  # torch.no_grad() takes 4 µs


@dataclass(eq=False, slots=True)
class Call:
    """One call of a hand-written function.

    Attributes:
        function: the `bp_torch.functional.function.Function`.
        inputs: its arguments.
        output: its result.
        ctx: the context that its `backward` reads.
        module: the module that called it, such as "0 (Linear)", if the tape tracks a model; "" in the cost.
    """

    function: Any
    inputs: tuple[Any, ...]
    output: Tensor
    ctx: Context
    module: str

    def backward(self, grad_output: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Compute ∂C/∂input from ∂C/∂output, by the function's equation, for each input that needs a gradient.

        Returns:
            Pairs of the input and its gradient.

        Raises:
            RuntimeError: if a gradient is missing or has the wrong shape, or as `require_valid`.
        """
        self.require_valid()
        if True not in self.ctx.needs_input_grad:
            return []
        result = self.function.backward(self.ctx, grad_output)
        gradients = result if type(result) is tuple else (result,)
        pairs = []
        for input, gradient, needs in zip(self.inputs, gradients, self.ctx.needs_input_grad, strict=True):
            if needs:
                if gradient is None or gradient.shape != input.shape:
                    name, actual = self.function.__name__, None if gradient is None else tuple(gradient.shape)
                    raise RuntimeError(f"{name}.backward must return a gradient {tuple(input.shape)}, not {actual}")
                pairs.append((input, gradient))
        return pairs

    def require_valid(self) -> None:
        """Raise RuntimeError if a saved Tensor was modified in place, or if the output has a gradient hook."""
        if self.ctx.modified():
            name = self.function.__name__
            raise RuntimeError(f"a tensor that {name}.backward needs was modified by an inplace operation")
        if self.output._backward_hooks:
            raise hook_error(self.function.__name__)


class Tape(list[Call]):
    """Records this thread's calls of hand-written functions: `with Tape() as tape: cost = ...`.

    The output of a call requires a gradient if an input does, but it has no autograd graph. A Tensor with a graph
    therefore comes from a differentiable operation of torch's own, and a call that receives it raises. A Tensor that
    requires no gradient, such as a mask, is a constant, as in autograd.

    Attributes:
        model_calls: number of calls made by the model. They come first; those of the cost follow.
        from_inputs: the model's inputs, and every Tensor computed from them, if the tape tracks a model.
    """

    def __init__(self, model: torch.nn.Module | None = None, inputs: Iterable[Tensor] = ()) -> None:
        """Start empty.

        With a model and its inputs, the tape tracks PyTorch's operations as well. This takes time; it sets each call's
        `module`, fills `from_inputs`, and lets errors name the unsupported operation.
        """
        super().__init__()
        self._outer: list[Tape | None] = []
        self.model_calls = 0
        self.tracker = None if model is None else OperationTracker(model, inputs)
        self.from_inputs = set[Tensor]() if self.tracker is None else self.tracker.from_inputs

    def __enter__(self) -> Self:
        """Start recording, instead of an outer tape if one is active."""
        if self.tracker is not None:
            self.tracker.__enter__()
        self._outer.append(active_tape.tape)
        active_tape.tape = self
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop recording."""
        active_tape.tape = self._outer.pop()
        if self.tracker is not None:
            self.tracker.__exit__(*exception)

    def record(self, function: Any, inputs: tuple[Any, ...]) -> Tensor:
        """Call a function, and record the call.

        Raises:
            UnsupportedOperation: if an input comes from a differentiable operation that is not hand-written.
            RuntimeError: if an input has a gradient hook.
        """
        enabled, needs = torch.is_grad_enabled(), []
        for input in inputs:
            needs.append(enabled and isinstance(input, Tensor) and input.requires_grad)
            if needs[-1]:
                if input.grad_fn is not None:
                    raise unsupported_error(input, self.tracker)
                if input._backward_hooks or input._post_accumulate_grad_hooks:
                    raise hook_error(caller_name(self.tracker))
        ctx = Context(tuple(needs))
        _set_grad_enabled(False)
        try:
            output: Tensor = function.forward(*inputs)
            for input in inputs:
                if output is input:
                    output = output.view_as(output)  # a new Tensor, so that output and input have separate gradients
            function.setup_context(ctx, inputs, output)
            if not output.is_floating_point():
                ctx.mark_non_differentiable(output)
        finally:
            _set_grad_enabled(enabled)
        if True in ctx.needs_input_grad:
            output.requires_grad_()
        self.append(Call(function, inputs, output, ctx, "" if self.tracker is None else self.tracker.module))
        if self.tracker is not None:
            self.tracker.track(inputs, output)
        return output


def backward(tape: Sequence[Call], output: Tensor) -> dict[Tensor, Tensor]:
    """Backpropagation: ∂C/∂x of C = output for every Tensor x on the tape that needs a gradient and affects C."""
    gradients = {output: torch.ones_like(output)}
    of_outputs = {call.output: grad_output for call, grad_output in backpropagate(reversed(tape), gradients)}
    return {**of_outputs, **gradients}


def backpropagate(calls: Iterable[Call], gradients: dict[Tensor, Tensor]) -> Iterator[tuple[Call, Tensor]]:
    """Backpropagate call by call: yield each call that affects C, with ∂C/∂output, then run its backward.

    Args:
        calls: the calls, last one first.
        gradients: {C: ∂C/∂C} at first; at the end ∂C/∂x of each x that is not a call's output.
    """
    for call in calls:
        if call.output in gradients:
            grad_output = gradients.pop(call.output)
            yield call, grad_output
            for input, gradient in call.backward(grad_output):
                gradients[input] = gradients[input] + gradient if input in gradients else gradient
