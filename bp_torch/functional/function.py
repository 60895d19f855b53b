"""The base class that makes a hand-written Function a full citizen of PyTorch."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor


class _ActiveTape(threading.local):
    tape: Any = None


active_tape = _ActiveTape()
"""Its `tape`, if not None, records this thread's calls: a `bp_torch.engine.Tape`."""

transform_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
_is_compiling = torch.compiler.is_compiling


class Function(torch.autograd.Function):
    """A `torch.autograd.Function` that works under every way PyTorch has of running it.

    A subclass states one equation in four static methods:

    * `forward(*inputs)`: the value, without a context and without default arguments;
    * `setup_context(ctx, inputs, output)`: what to keep, by default all inputs. Only inputs and outputs: an
      intermediate kept here would give silently wrong second derivatives, so `backward` computes those again;
    * `backward(ctx, grad_output)`: ∂C/∂input from ∂C/∂output, in differentiable, vmappable operations;
    * `jvp(ctx, *tangents)`: the directional derivative, for forward mode.

    Call it by `Subclass.call(*inputs)`. Beside autograd that serves forward mode, double backward,
    `torch.func`, `vmap` and `torch.compile(fullgraph=True)`; and `bp_torch.engine`, which walks back without autograd.

    Attributes:
        accumulate: optional. `accumulate(ctx, grad_output, into, alpha)` adds α ∂C/∂input in place to each Tensor in
            `into`, one for each input after the first or None, without the gradient ever standing in memory. It
            may read the first input, if that is saved, but no other: they may have been changed by then.
    """

    generate_vmap_rule = True
    call: ClassVar[Callable[..., Tensor]]
    accumulate: ClassVar[Callable[..., None] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Give the subclass its `call`."""
        super().__init_subclass__(**options)
        cls.call = staticmethod(_caller(cls))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the inputs, all of them Tensors."""
        save(ctx, *inputs)


def _caller(function: type[Function]) -> Callable[..., Tensor]:
    """The quickest right way to run `function`, chosen at each call."""
    # torch.compile refuses a class with a jvp: it meets a twin without one
    members = {name: staticmethod(getattr(function, name)) for name in ("forward", "setup_context", "backward")}
    twin: Any = type(function.__name__, (torch.autograd.Function,), members)
    # the C++ beneath Function.apply, which spends 8 to 16 µs on binding default arguments: there are none
    apply_directly = super(torch.autograd.Function, function).apply  # type: ignore[misc]

    def call(*inputs: Any) -> Tensor:
        if _is_compiling():
            # without a gradient to take, Dynamo miscounts the arguments of a `forward(*inputs)`
            differentiable = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
            return twin.apply(*inputs) if differentiable else function.forward(*inputs)
        if transform_active():
            return function.apply(*inputs)  # type: ignore[no-untyped-call]
        if (tape := active_tape.tape) is not None:
            return tape.record(function, inputs)
        return apply_directly(*inputs)

    return call


class Context:
    """Stands in for autograd's `ctx` where a tape records: which inputs need a gradient, and what was saved."""

    saved_tensors: tuple[Tensor | None, ...] = ()
    version = 0

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        """Nothing is saved yet."""
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep the tensors, and the sum of their versions: an in-place change raises it."""
        self.saved_tensors = tensors
        self.version = self._versions()

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Nothing: a tape has no forward mode."""

    def set_materialize_grads(self, value: bool) -> None:
        """Nothing: the gradient of the output is always there."""

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """No input needs the gradient of this output."""
        self.needs_input_grad = (False,) * len(self.needs_input_grad)

    def changed(self) -> bool:
        """Whether one of them was changed in place."""
        return self._versions() != self.version

    def _versions(self) -> int:
        """Tensors of inference mode have none."""
        total = 0
        for tensor in self.saved_tensors:
            if tensor is not None and not tensor.is_inference():
                total += tensor._version
        return total


def save(ctx: Any, *tensors: Tensor | None) -> None:
    """Keep inputs or outputs for `backward` and for `jvp`; both read them from `ctx.saved_tensors`."""
    ctx.save_for_backward(*tensors)
    ctx.saved_for_forward = tensors  # what save_for_forward does, without its checks in Python


def scalar_like(value: float, like: Tensor) -> Any:
    """A number for a Tensor to meet, as a constant Tensor of its dtype: torch takes longer for Python's numbers.

    Tensors of other kinds, such as a compiler's fake ones, refuse to meet a real one; they are given the number.
    """
    if type(like) is not Tensor or transform_active() or _is_compiling():
        return value
    found = _constants.get((value, (), like.dtype, _CPU))  # spares a call on the hot path
    return constant(value, (), like.dtype, _CPU) if found is None else found


_CPU = torch.device("cpu")
_constants: dict[Any, Tensor] = {}


def constant(value: float, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A Tensor that holds one value everywhere and must not be changed; kept, unless a transform makes its own kind."""
    key = value, shape, dtype, device
    if (found := _constants.get(key)) is None:
        with torch.inference_mode(False):
            found = torch.full(shape, value, dtype=dtype, device=device)
        if len(_constants) >= 256:
            _constants.clear()
        if type(found) is Tensor and not transform_active():
            _constants[key] = found
    return found
