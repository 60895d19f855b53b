"""Planted bugs: wrong derivatives made from correct Functions.

A bug takes one line: the correct Function (an `Original`), a name, a kind and the alteration:

    SIGMOID.backward("1 − y dropped", "dropped term", lambda g, y: g * y)            another equation
    TANH.upstream("|g| for g", torch.abs)                                            another upstream gradient
    LINEAR.result("bias gradient doubled", "factor", bias=lambda d: 2 * d)           another result
    SIGMOID.methods("tangent doubled", "forward mode", jvp=lambda ctx, t: ...)       another static method

The forward stays correct: only derivatives are wrong.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import in_float32
from bp_torch.sample import Sample

KINDS = (
    "factor",  # a wrong constant
    "sign",
    "transposed",
    "reduction",  # sum for mean, the wrong dimension, the wrong divisor
    "dropped term",
    "wrong formula",
    "position",  # one element, row or column wrong, or all shifted
    "upstream gradient",  # not linear in grad_output
    "saturation",  # wrong only for large or very small inputs
    "overflow",  # NaN, infinite or 0 where the correct gradient is not
    "epsilon",  # a small constant added to a divisor
    "kink",  # differs from PyTorch only where the function has no derivative
    "precision",  # too few digits
    "low precision",  # correct in float64 and float32
    "sizes",  # wrong only for some shapes
    "layout",  # wrong only for some strides
    "stale",  # a saved value has changed since the forward
    "side effect",  # modifies another Tensor in place
    "subset",  # depends on which inputs require a gradient
    "second derivative",  # the first derivative is correct
    "forward mode",  # the backward is correct
    "batched",  # correct except under vmap
    "repeatability",  # differs from call to call
    "fixed argument",  # wrong for some values of an argument that is not differentiated, or once it is changed
    "random",  # differs from the random numbers that the forward drew
    "complex",  # wrong for complex numbers: a conjugate is missing, or a factor 2
    "composition",  # wrong when checkpointed, compiled, under autocast, in a second backward, or if .grad is set
    "domain",  # wrong for packed halves, lengths, offsets, or inputs that are constrained
    "cancellation",  # of a function that subtracts nearly equal numbers
    "mixed dtypes",  # wrong, or raises, for inputs of several dtypes
)

memory: dict[Any, Tensor] = {}
"""Tensors that bugs keep between calls; cleared before each check."""

Samples = tuple[tuple[Any, ...] | Sample, ...]
"""Argument tuples or `Sample`s: Tensors that do not require a gradient unless others are held fixed, and integers.

The Tensors are float64; for bugs and kernels of low precision, they have the dtypes of use, such as bfloat16.
"""
Reference = Callable[..., Any] | None


@dataclass(frozen=True)
class CorrectFunction:
    """A correct function, to count false alarms."""

    name: str
    function: Callable[..., Any]
    reference: Reference
    """A function to compare with; None: finite differences are all there is."""
    samples: Samples


@dataclass(frozen=True)
class Bug:
    """A function with a correct value and a wrong derivative."""

    name: str
    kind: str
    function: Callable[..., Any]
    reference: Reference
    """PyTorch's function, or the same forward differentiated by autograd; None: finite differences are all there is."""
    samples: Samples
    """Typical samples: values of both signs, not chosen to expose the bug."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind {self.kind!r} is not one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class Original:
    """A correct Function to plant bugs in, with PyTorch's reference and typical samples.

    A bug supports forward mode only if its kind is "forward mode": a correct jvp would expose a wrong backward.
    """

    name: str
    function: type[Function]
    reference: Callable[..., Tensor]
    samples: Samples
    constants: tuple[Any, ...] = ()
    """Further arguments of the Function, after those of a sample."""

    def correct_function(self) -> CorrectFunction:
        """The Function without a bug."""
        return CorrectFunction(f"{self.name}, original", self._as_called(self.function), self.reference, self.samples)

    def methods(self, name: str, kind: str, *, samples: Samples = (), **methods: Callable[..., Any]) -> Bug:
        """A bug in any static methods of the Function."""
        members: dict[str, Any] = {"jvp": staticmethod(torch.autograd.Function.jvp)}  # raises NotImplementedError
        members |= {name: staticmethod(method) for name, method in methods.items()}
        members["generate_vmap_rule"] = "vmap" not in methods  # PyTorch rejects both together
        planted: type[Function] = type(self.function.__name__, (self.function,), members)
        return Bug(f"{self.name}: {name}", kind, self._as_called(planted), self.reference, samples or self.samples)

    def backward(
        self,
        name: str,
        kind: str,
        equation: Callable[..., Any],
        *,
        saved: Callable[[tuple[Any, ...], Tensor], Any] | None = None,
        samples: Samples = (),
    ) -> Bug:
        """A bug in the equation of the backward.

        Args:
            name: description of the bug.
            kind: one of `KINDS`.
            equation: (g, *saved) -> the gradient of the first input, or a tuple of gradients.
            saved: (inputs, output) -> the Tensors to save; by default those that the correct Function saves.
            samples: samples for this bug, instead of the original's.
        """
        methods = {"setup_context": _saving(saved)} if saved else {}
        return self.methods(name, kind, samples=samples, backward=_backward_of(equation), **methods)

    def upstream(self, name: str, change: Callable[[Tensor], Tensor], kind: str = "upstream gradient") -> Bug:
        """A bug in the upstream gradient: the correct equation of change(g)."""
        correct = self.function.backward
        return self.methods(name, kind, backward=lambda ctx, grad_output: correct(ctx, change(grad_output)))

    def result(self, name: str, kind: str, *, samples: Samples = (), **changes: Callable[[Tensor], Tensor]) -> Bug:
        """A bug in the result: correct gradients, changed by the argument name of `forward`."""
        return self.methods(name, kind, samples=samples, backward=_altered(self.function, changes))

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        """The function as bp_torch calls it: half precision is computed in float32 and rounded once."""

        def call(*args: Any) -> Tensor:
            constants = [c.to(args[0].dtype) if isinstance(c, Tensor) else c for c in self.constants]
            return in_float32(function.call, *args, *constants)

        return call


def function_of(
    forward: Callable[..., Any], backward: Callable[..., Any], *, registered: bool = True
) -> Callable[..., Any]:
    """A Function of `forward`: inputs -> (output, *saved) and `backward`: (g, *saved) -> gradients.

    Args:
        forward: returns the output and what the backward needs.
        backward: returns a gradient, or a tuple of gradients; missing ones are None.
        registered: whether `save_for_backward` saves the Tensors; otherwise they are attributes of the context.
    """

    class Written(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output, *saved = forward(*inputs)
            ctx.count = len(inputs)
            if registered:
                ctx.save_for_backward(*saved)
            else:
                ctx.saved = saved
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *g: Tensor) -> Any:
            gradients = as_tuple(backward(*g, *(ctx.saved_tensors if registered else ctx.saved)))
            return *gradients, *(ctx.count - len(gradients)) * (None,)

    return lambda *inputs: Written.apply(*inputs)  # type: ignore[no-untyped-call]


def first_input(inputs: tuple[Any, ...], output: Tensor) -> Any:
    """Save the first input only."""
    return inputs[0]


def _backward_of(equation: Callable[..., Any]) -> Callable[..., Any]:
    """A backward that returns the gradients of the equation, None for inputs that do not require one."""

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradients = as_tuple(equation(grad_output, *ctx.saved_tensors))
        pairs = zip_longest(gradients, ctx.needs_input_grad)
        return tuple(gradient if needed else None for gradient, needed in pairs)

    return backward


def _altered(function: type[Function], changes: dict[str, Callable[[Tensor], Tensor]]) -> Callable[..., Any]:
    """The correct backward with some gradients changed."""
    names = tuple(inspect.signature(function.forward).parameters)

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradients = zip(names, as_tuple(function.backward(ctx, grad_output)), strict=True)
        return tuple(changes[name](d) if name in changes and d is not None else d for name, d in gradients)

    return backward


def _saving(saved: Callable[[tuple[Any, ...], Tensor], Any]) -> Callable[..., None]:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        save(ctx, *as_tuple(saved(inputs, output)))

    return setup_context


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One gradient or several."""
    return value if isinstance(value, tuple) else (value,)
