"""A tape: while it runs, each hand-written function that is called is written down with what its backward needs.

Autograd builds a graph of such calls by itself. Whoever wants to walk back without it records them here.
"""

import threading
from typing import Any, NamedTuple, Self

from torch import Tensor


class Context:
    """What stands in for autograd's `ctx`: it holds what `backward` will read, and what is asked of it."""

    saved_tensors: tuple[Tensor | None, ...] = ()

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        """Say of which inputs the gradient is wanted."""
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep them as they are."""
        self.saved_tensors = tensors


def first_alone(inputs: int) -> tuple[bool, ...]:
    """The `needs_input_grad` of so many inputs that asks for the gradient of the first."""
    return True, *[False] * (inputs - 1)


class Call(NamedTuple):
    """One hand-written function, applied.

    Attributes:
        function: the `bp_torch.functional.function.Function`.
        inputs: what it was applied to.
        output: what came out.
        context: as its `setup_context` left it; it asks for the gradient of the first input alone.
    """

    function: Any
    inputs: tuple[Any, ...]
    output: Tensor
    context: Context


class Tape(list[Call]):
    """`with Tape() as tape:` appends each call of this thread's to it; its value is computed by `forward` alone.

    Run it where gradients are off: autograd, if on, follows what `forward` does, instead of calling `backward`.
    """

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self._before: list[Tape | None] = []

    def __enter__(self) -> Self:
        """Run, in place of a tape that may run already."""
        self._before.append(running.tape)
        running.tape = self
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop, and let that one go on."""
        running.tape = self._before.pop()

    def apply(self, function: Any, *inputs: Any) -> Tensor:
        """Apply a function and write it down."""
        context = Context(first_alone(len(inputs)))
        output: Tensor = function.forward(*inputs)
        function.setup_context(context, inputs, output)
        self.append(Call(function, inputs, output, context))
        return output


class _Running(threading.local):
    tape: Tape | None = None


running = _Running()
"""Its `tape` is the one that runs in this thread, or None."""
