"""Tracks PyTorch's operations while a model is recorded, to name the unsupported ones and their modules."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from bp_torch import functional
from bp_torch.functional.function import Function

_IN_PLACE = "a leaf Variable that requires grad is being used in an in-place operation"


class UnsupportedOperation(TypeError):
    """A differentiable operation that is not a function of `bp_torch`, so the tape has no gradient for it."""

    def __init__(self, caller: str, operation: str, *, verb: str = "calls", hint: str = "") -> None:
        """Compose the message."""
        name = operation.rpartition(".")[2].strip("_")
        if name in functional.__all__:
            hint = f"; use bp_torch.functional.{name}"
        super().__init__(f"{caller} {verb} {operation}, which is not a function of bp_torch{hint}")


def hook_error(name: str) -> RuntimeError:
    """The error for a gradient hook, which the engine would not call."""
    return RuntimeError(f"{name} uses a Tensor with a gradient hook, which only autograd calls; remove the hook")


class OperationTracker(TorchFunctionMode):
    """While entered, tracks the running module and the operations that it calls.

    Attributes:
        module: the innermost running module, such as "0 (Linear)".
        producers: for each Tensor with an autograd graph, the caller and the operation that returned it.
        from_inputs: the model's inputs, and every Tensor computed from them.
    """

    def __init__(self, model: torch.nn.Module, inputs: Iterable[Tensor]) -> None:
        """Start with the inputs; no module is running."""
        super().__init__()
        self.module = ""
        self.from_inputs = set(inputs)
        self.producers: dict[Tensor, tuple[str, str]] = {}
        self._model = model
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        """Start to intercept operations, and hook the model's modules."""
        super().__enter__()  # type: ignore[no-untyped-call]
        try:
            self._hook_modules()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _hook_modules(self) -> None:
        outer: list[str] = []
        for path, module in self._model.named_modules():

            def enter(*_: Any, name: str = f"{path} ({type(module).__name__})".strip()) -> None:
                outer.append(self.module)
                self.module = name

            def leave(*_: Any) -> None:
                self.module = outer.pop()

            self._hooks.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            self._hooks.callback(module.register_forward_hook(leave, always_call=True).remove)

    def __exit__(self, *exception: Any) -> None:
        """Stop, and remove the hooks."""
        self._hooks.close()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def track(self, args: Any, result: Any) -> None:
        """Add the result to `from_inputs` if an argument is in it; a parameter that was written to stays out."""
        if not self.from_inputs.isdisjoint(_tensors_in(args)):
            self.from_inputs.update(x for x in _tensors_in(result) if not isinstance(x, torch.nn.Parameter))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and track its result."""
        inputs = list(_tensors_in((args, kwargs or {})))
        without_graph = [x for x in inputs if x.grad_fn is None]
        try:
            result = func(*args, **(kwargs or {}))
        except RuntimeError as error:
            if _IN_PLACE in str(error):
                hint = "; the engine has no in-place operations, such as inplace=True"
                raise UnsupportedOperation(caller_name(self), resolve_name(func) or str(func), hint=hint) from None
            raise
        name = getattr(func, "__name__", "")
        if name.endswith("_as") or name == "to":
            self.track(args[:1], result)
        elif not name.endswith("_like") and not name.startswith("new_"):  # those read shape, dtype and device only
            self.track(inputs, [result, *_modified_in_place(name, args)])
        for tensor in (*_tensors_in(result), *without_graph):  # x[...] = y gives x a graph
            if tensor.grad_fn is not None:
                self.producers[tensor] = caller_name(self), resolve_name(func) or str(func)
        return result


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the Tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)


def _modified_in_place(name: str, args: tuple[Any, ...]) -> list[Any]:
    """The Tensor that an operation writes to, such as x in x.copy_(y) and x[...] = y, and the base of a view."""
    in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    return [args[0], args[0]._base] if in_place else []


def caller_name(tracker: OperationTracker | None) -> str:
    """The running module, as errors name it."""
    return f"module {tracker.module}" if tracker and tracker.module else "the cost"


def unsupported_error(tensor: Tensor, tracker: OperationTracker | None) -> UnsupportedOperation:
    """The error for the operation that returned a Tensor with an autograd graph."""
    if tracker is not None and tensor in tracker.producers:
        return UnsupportedOperation(*tracker.producers[tensor])
    function = getattr(tensor.grad_fn, "_forward_cls", type(tensor.grad_fn))
    custom = issubclass(function, torch.autograd.Function) and not function.__module__.startswith("torch.")
    hint = f"; derive it from {Function.__module__}.Function and use {function.__name__}.call" if custom else ""
    return UnsupportedOperation(caller_name(tracker), function.__name__, verb="receives the result of", hint=hint)
