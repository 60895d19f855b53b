"""The base class that makes a hand-written Function a full citizen of PyTorch."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from bp_torch.functional.tape import running

_transform_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
_is_compiling = torch.compiler.is_compiling


class Function(torch.autograd.Function):
    """A `torch.autograd.Function` that works under every way PyTorch has of running it.

    A subclass states one equation in four static methods:

    * `forward(*inputs)`: the value, without a context and without default arguments;
    * `setup_context(ctx, inputs, output)`: what to keep. Only inputs and outputs: an intermediate kept
      here would give silently wrong second derivatives, so `backward` computes those again;
    * `backward(ctx, grad_output)`: ∂C/∂input from ∂C/∂output, in differentiable, vmappable operations;
    * `jvp(ctx, *tangents)`: the directional derivative, for forward mode.

    Call it by `Subclass.call(*inputs)`. Beside autograd that serves forward mode, double backward,
    `torch.func`, `vmap` and `torch.compile(fullgraph=True)`; and `bp_torch.engine`, which walks back without autograd.

    Attributes:
        parts: of a composition, the Functions it is composed of, the first to be applied first; that one takes all the
            inputs, the others take activations alone.
        bounded: whether its outputs are finite whatever numbers it is given, infinite ones included; NaN stays NaN.
        accumulate: where a subclass has it, `accumulate(ctx, grad_output, into, alpha)` adds α ∂C/∂input in place to
            each Tensor in `into`, one for each input after the first or None, without the gradient ever standing in
            memory by itself.
    """

    generate_vmap_rule = True
    call: ClassVar[Callable[..., Tensor]]
    parts: ClassVar[tuple["type[Function]", ...]] = ()
    bounded: ClassVar[bool] = False
    accumulate: ClassVar[Callable[..., None] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Give the subclass its `call`."""
        super().__init_subclass__(**options)
        cls.call = staticmethod(_caller(cls))

    @staticmethod
    def mixes_examples(*inputs: Any) -> bool:
        """Whether, given these inputs, an example (a row of axis 0) affects another's output row, or axis 0 moves."""
        return False


def _caller(function: type[Function]) -> Callable[..., Tensor]:
    """The quickest right way to run `function`, chosen at each call.

    * `torch.compile` refuses a class with a `jvp`, so the compiler meets a twin without one;
    * where a tape runs, it takes down the call;
    * under a `torch.func` transform, `Function.apply` knows what to do;
    * otherwise the C++ `apply` beneath it, which spares the 8 to 16 µs that `Function.apply`
      spends on binding default arguments (there are none).
    """
    members = {name: staticmethod(getattr(function, name)) for name in ("forward", "setup_context", "backward")}
    twin: Any = type(function.__name__, (torch.autograd.Function,), members)
    apply_directly = super(torch.autograd.Function, function).apply  # type: ignore[misc]

    def call(*inputs: Any) -> Tensor:
        if _is_compiling():
            return twin.apply(*inputs) if _needs_graph(inputs) else function.forward(*inputs)
        if running.tape is not None:
            return running.tape.apply(function, *inputs)
        if _transform_active():
            return function.apply(*inputs)  # type: ignore[no-untyped-call]
        return apply_directly(*inputs)

    return call


def _needs_graph(inputs: tuple[Any, ...]) -> bool:
    """Asked while compiling: without a gradient to take, Dynamo miscounts the arguments of a `forward(*inputs)`."""
    return torch.is_grad_enabled() and any(isinstance(input, Tensor) and input.requires_grad for input in inputs)


def save(ctx: Any, *tensors: Tensor | None) -> None:
    """Keep inputs or outputs for `backward` and for `jvp`; both read them from `ctx.saved_tensors`."""
    ctx.save_for_backward(*tensors)
    ctx.saved_for_forward = tensors  # what save_for_forward does, without its checks in Python


constants: dict[Any, Tensor] = {}
"""Tensors that never change, by what they are."""


def scalar_like(value: float, like: Tensor) -> Any:
    """A number for a Tensor to meet: a constant Tensor of its dtype, for on the way of Python's numbers lies more work.

    Tensors of other kinds, such as a compiler's fake ones, refuse to meet a real one; they are given the number.
    """
    if type(like) is not Tensor or _transform_active() or _is_compiling():
        return value
    key = value, like.dtype
    constant = constants.get(key)
    return constant_of(key, torch.tensor, value, dtype=like.dtype, device="cpu") if constant is None else constant


def constant_of(key: Any, make: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
    """Make a constant, and keep it, unless all that is made just now is of another kind."""
    with torch.inference_mode(False):
        constant = make(*args, **options)
    if len(constants) >= 256:
        constants.clear()
    if type(constant) is Tensor and not _transform_active():
        constants[key] = constant
    return constant
