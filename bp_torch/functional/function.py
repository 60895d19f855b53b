"""The base class of every hand-written Function, and the context of a recorded call."""

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad


class _ActiveTape(threading.local):
    tape: Any = None


active_tape = _ActiveTape()
"""`active_tape.tape`, if not None, is the `bp_torch.engine.Tape` that records this thread's calls."""

transform_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
_is_compiling = torch.compiler.is_compiling


class Function(torch.autograd.Function):
    """A `torch.autograd.Function` for double backward, forward mode, `torch.func`, `vmap` and `torch.compile`.

    A subclass states one equation in four static methods:

    * `forward(*inputs)`: the value. It takes no ctx and has no default arguments.
    * `setup_context(ctx, inputs, output)`: save what `backward` needs, by default all inputs. Save inputs and outputs
      only and recompute intermediates in `backward`: autograd takes a saved intermediate for a constant, which makes
      second derivatives silently wrong.
    * `backward(ctx, grad_output)`: ∂C/∂input from g = ∂C/∂output, in differentiable operations that vmap supports.
    * `jvp(ctx, *tangents)`: the directional derivative, for forward mode.

    Call it by `Subclass.call(*inputs)`, which also records the call on an active `bp_torch.engine.Tape`.

    Attributes:
        accumulate: optional. `accumulate(ctx, grad_output, into, alpha)` adds α ∂C/∂input in place to each Tensor of
            `into`, which holds a Tensor or None for each input after the first. The gradient itself is never stored.
            It may read the first input from ctx, but no other: the others may have changed since.
    """

    generate_vmap_rule = True
    call: ClassVar[Callable[..., Tensor]]
    accumulate: ClassVar[Callable[..., None] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Set `call` of the subclass."""
        super().__init_subclass__(**options)
        cls.call = staticmethod(_make_call(cls))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the inputs, which must all be Tensors."""
        save(ctx, *inputs)


def _make_call(function: type[Function]) -> Callable[..., Tensor]:
    """Return `function.call`, which picks the fastest correct way to run in the current mode."""
    # torch.compile does not support a class with a jvp, so it gets a copy without one
    members = {name: staticmethod(getattr(function, name)) for name in ("forward", "setup_context", "backward")}
    without_jvp: Any = type(function.__name__, (torch.autograd.Function,), members)
    # the C++ method under Function.apply; the latter spends 8 to 16 µs on binding default arguments, and there are none
    apply_directly = super(torch.autograd.Function, function).apply  # type: ignore[misc]

    def call(*inputs: Any) -> Tensor:
        if _is_compiling():
            # if no gradient is needed, Dynamo miscounts the arguments of forward(*inputs)
            differentiable = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
            return without_jvp.apply(*inputs) if differentiable else function.forward(*inputs)
        if transform_active():
            return function.apply(*map(_as_leaf, inputs))  # type: ignore[no-untyped-call]
        if (tape := active_tape.tape) is not None:
            return tape.record(function, inputs)
        return apply_directly(*inputs)

    return call


class _Leaf(tuple[Any, ...]):
    """A tuple that torch.func takes for one constant: for a plain one it wants a gradient or tangent of each member."""


def _as_leaf(input: Any) -> Any:
    return _Leaf(input) if isinstance(input, tuple | list) else input


class Context:
    """The `ctx` of a call that a tape records: which inputs need a gradient, and the saved Tensors."""

    saved_tensors: tuple[Tensor | None, ...] = ()
    version = 0

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        """Start without saved Tensors."""
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Save the Tensors, and the sum of their version counters: each in-place change increments it."""
        self.saved_tensors = tensors
        self.version = self._versions()

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Do nothing: a tape has no forward mode."""

    def set_materialize_grads(self, value: bool) -> None:
        """Do nothing: on a tape the output's gradient is never missing."""

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Record that no input needs a gradient."""
        self.needs_input_grad = (False,) * len(self.needs_input_grad)

    def modified(self) -> bool:
        """Return whether a saved Tensor was changed in place."""
        return self._versions() != self.version

    def _versions(self) -> int:
        """Sum the version counters; Tensors of inference mode have none."""
        total = 0
        for tensor in self.saved_tensors:
            if tensor is not None and not tensor.is_inference():
                total += tensor._version
        return total


def save(ctx: Any, *tensors: Tensor | None) -> None:
    """Save inputs or outputs for `backward` and `jvp`; both read them from `ctx.saved_tensors`."""
    ctx.save_for_backward(*tensors)
    if transform_active():
        ctx.save_for_forward(*tensors)
    else:
        ctx.saved_for_forward = tensors  # as save_for_forward does, after slower checks


def may_work_in_place(grad_output: Tensor) -> bool:
    """Whether the running backward is neither differentiated, by reverse or forward mode, nor vmapped."""
    if _is_compiling() or torch.is_grad_enabled() or forward_ad._current_level >= 0:
        return False
    return not (transform_active() or torch._C._functorch.is_legacy_batchedtensor(grad_output))


def scalar_like(value: float, like: Tensor) -> Any:
    """`value` as a cached 0-dim Tensor in the dtype of `like`; arithmetic with a Python number is slower.

    Subclasses of Tensor, transforms and compilers get the Python number: they cannot mix their Tensors with real ones.
    """
    if type(like) is not Tensor or transform_active() or _is_compiling():
        return value
    cached = _constants.get((value, (), like.dtype, _CPU))  # looked up here to save a call on the hot path
    return constant(value, (), like.dtype, _CPU) if cached is None else cached


_CPU = torch.device("cpu")
_constants: dict[Any, Tensor] = {}


def constant(value: float, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A cached Tensor filled with `value`; do not change it in place. Not cached under a transform or a Tensor mode."""
    key = value, shape, dtype, device
    if (tensor := _constants.get(key)) is None:
        with torch.inference_mode(False):
            tensor = torch.full(shape, value, dtype=dtype, device=device)
        if len(_constants) >= 256:
            _constants.clear()
        if type(tensor) is Tensor and not transform_active():
            _constants[key] = tensor
    return tensor
