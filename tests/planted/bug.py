"""A planted bug, and the tools that plant one in a right Function.

A bug is told in one line: the right Function it lives in (its `Host`), its name, its kind, and what is altered:

    SIGMOID.backward("(1 − y) dropped", "dropped term", lambda g, y: g * y)          another equation
    TANH.upstream("takes |g|", torch.abs)                                            the equation of another g
    LINEAR.result("bias gradient doubled", "factor", bias=lambda d: 2 * d)           its result, altered
    SIGMOID.methods("tangent doubled", "forward mode", jvp=lambda ctx, t: ...)       any of its static methods

The value stays right: these are bugs of backwards, seen only by those who differentiate.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import in_float32

KINDS = (
    "factor",  # a constant too many or too few
    "sign",
    "transposed",
    "reduction",  # summed for averaged, over the wrong dimension, divided by the wrong number
    "dropped term",
    "wrong formula",
    "one place",  # one element, row or column, or all of them shifted
    "upstream gradient",  # takes something else for grad_output, or is not linear in it
    "saturation",  # wrong only for inputs far from 0, or very near to it
    "overflow",  # NaN, infinite or 0 where the true gradient is an ordinary number
    "epsilon",  # something small added where 0/0 was feared
    "kink",  # wrong only where the function has no derivative, measured by PyTorch's choice there
    "precision",  # too few digits
    "sizes",  # wrong only for some shapes
    "layout",  # wrong only for some strides
    "stale",  # what was kept for backward is no longer what it was
    "side effect",  # changes a tensor that is not its own
    "subset",  # wrong only when some inputs need no gradient, or when several do
    "second derivative",  # the first is right
    "forward mode",  # backward is right
    "batched",  # right by itself, wrong under vmap
    "repeatability",  # another answer at another call
)

memory: dict[Any, Tensor] = {}
"""What bugs carry from call to call; emptied before each question to a checker, so that none meets another's calls."""

Samples = tuple[tuple[Any, ...], ...]
"""Calls, as tuples of arguments: tensors in float64 that need no gradient yet, class indices in int64."""


@dataclass(frozen=True)
class RightFunction:
    """A function that is right, for counting false alarms."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    samples: Samples


@dataclass(frozen=True)
class Bug:
    """A function with the right value and a wrong derivative."""

    name: str
    kind: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    """PyTorch's own."""
    samples: Samples
    """What a careful engineer would write down: ordinary numbers of both signs, not chosen to expose the bug."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind {self.kind!r} is none of {', '.join(KINDS)}")


@dataclass(frozen=True)
class Host:
    """A right Function that bugs are planted in, PyTorch's reference, and ordinary calls.

    A bug offers forward mode only where that is the bug: few people write a jvp, and a right one beside a wrong
    backward would give it away.
    """

    name: str
    function: type[Function]
    reference: Callable[..., Tensor]
    samples: Samples
    constants: tuple[Any, ...] = ()
    """What the Function is given after a sample's arguments."""

    def right(self) -> RightFunction:
        """The host itself, unharmed."""
        return RightFunction(f"{self.name}, host of bugs", self._called(self.function), self.reference, self.samples)

    def methods(self, name: str, kind: str, *, samples: Samples = (), **methods: Callable[..., Any]) -> Bug:
        """A bug in any of the Function's static methods."""
        members: dict[str, Any] = {"jvp": staticmethod(torch.autograd.Function.jvp)}  # the one that says "none"
        members |= {name: staticmethod(method) for name, method in methods.items()}
        members["generate_vmap_rule"] = "vmap" not in methods  # PyTorch wants one or the other
        planted: type[Function] = type(self.function.__name__, (self.function,), members)
        return Bug(f"{self.name}: {name}", kind, self._called(planted), self.reference, samples or self.samples)

    def backward(
        self,
        name: str,
        kind: str,
        equation: Callable[..., Any],
        *,
        kept: Callable[[tuple[Any, ...], Tensor], Any] | None = None,
        samples: Samples = (),
    ) -> Bug:
        """A bug in the equation.

        Args:
            name: what is wrong.
            kind: one of `KINDS`.
            equation: from g and what was kept, the gradient; or a tuple, of the first inputs.
            kept: from the inputs and the output, what to keep instead of what the right Function keeps.
            samples: other samples than the host's.
        """
        methods = {"setup_context": _keeping(kept)} if kept else {}
        return self.methods(name, kind, samples=samples, backward=_by(equation), **methods)

    def upstream(self, name: str, change: Callable[[Tensor], Tensor], kind: str = "upstream gradient") -> Bug:
        """A bug in what is taken for g: the right equation, of change(g)."""
        right = self.function.backward
        return self.methods(name, kind, backward=lambda ctx, grad_output: right(ctx, change(grad_output)))

    def result(self, name: str, kind: str, *, samples: Samples = (), **changes: Callable[[Tensor], Tensor]) -> Bug:
        """A bug in the result: the right gradients, altered, by the names that `forward` gives its arguments."""
        return self.methods(name, kind, samples=samples, backward=_altered(self.function, changes))

    def _called(self, function: type[Function]) -> Callable[..., Tensor]:
        """`function` as bp_torch calls its own: half precision is computed in float32 and rounded once."""

        def call(*args: Any) -> Tensor:
            constants = [c.to(args[0].dtype) if isinstance(c, Tensor) else c for c in self.constants]
            return in_float32(function.call, *args, *constants)

        return call


def first_input(inputs: tuple[Any, ...], output: Tensor) -> Any:
    """Keep x where the right Function keeps y."""
    return inputs[0]


def _by(equation: Callable[..., Any]) -> Callable[..., Any]:
    """The backward that returns what the equation finds, for each input that needs a gradient."""

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _as_tuple(equation(grad_output, *ctx.saved_tensors))
        wanted = zip_longest(gradients, ctx.needs_input_grad)
        return tuple(gradient if needed else None for gradient, needed in wanted)

    return backward


def _altered(function: type[Function], changes: dict[str, Callable[[Tensor], Tensor]]) -> Callable[..., Any]:
    """The right backward, with some of its gradients changed."""
    names = tuple(inspect.signature(function.forward).parameters)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradients = zip(names, _as_tuple(function.backward(ctx, grad_output)), strict=True)
        return tuple(changes[name](d) if name in changes and d is not None else d for name, d in gradients)

    return backward


def _keeping(kept: Callable[[tuple[Any, ...], Tensor], Any]) -> Callable[..., None]:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        save(ctx, *_as_tuple(kept(inputs, output)))

    return setup_context


def _as_tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)
