"""PyTorch's operations while a model is recorded: those that are not hand-written are named, with the module."""

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
    """A differentiable operation that is not a function of `bp_torch`: the tape cannot give its gradient."""

    def __init__(self, caller: str, operation: str, *, verb: str = "calls", hint: str = "") -> None:
        """Name both."""
        name = operation.rpartition(".")[2].strip("_")
        if name in functional.__all__:
            hint = f"; use bp_torch.functional.{name}"
        super().__init__(f"{caller} {verb} {operation}, which is not a function of bp_torch{hint}")


def hooked(name: str) -> RuntimeError:
    """The error about a hook that would be left out."""
    return RuntimeError(f"{name} uses a tensor that has a hook, which only autograd calls: remove it")


class Operations(TorchFunctionMode):
    """While it is entered: what each torch operation makes of what, and which module is running.

    Attributes:
        module: the innermost one that is running, such as "0 (Linear)".
        made_by: by each tensor that has a graph, the caller and the operation.
        from_inputs: the model's inputs, and every tensor that was computed from one.
    """

    def __init__(self, model: torch.nn.Module, inputs: Iterable[Tensor]) -> None:
        """Nothing runs yet."""
        super().__init__()
        self.module = ""
        self.from_inputs = set(inputs)
        self.made_by: dict[Tensor, tuple[str, str]] = {}
        self._model = model
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        """Follow the model's modules."""
        super().__enter__()  # type: ignore[no-untyped-call]
        try:
            self._follow_modules()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _follow_modules(self) -> None:
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
        """Leave the modules as they were."""
        self._hooks.close()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def follow(self, given: Any, result: Any) -> None:
        """Note what was computed from the inputs; a parameter that was changed by them stays one."""
        if not self.from_inputs.isdisjoint(_tensors(given)):
            self.from_inputs.update(x for x in _tensors(result) if not isinstance(x, torch.nn.Parameter))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note what it made."""
        given = list(_tensors((args, kwargs or {})))
        without_graph = [x for x in given if x.grad_fn is None]
        try:
            result = func(*args, **(kwargs or {}))
        except RuntimeError as error:
            if _IN_PLACE in str(error):
                raise UnsupportedOperation(caller(self), resolve_name(func) or str(func)) from None
            raise
        name = getattr(func, "__name__", "")
        if name.endswith("_as") or name == "to":
            self.follow(args[:1], result)
        elif not name.endswith("_like") and not name.startswith("new_"):  # which take shape, dtype and device alone
            self.follow(given, [result, *_written(name, args)])
        for tensor in (*_tensors(result), *without_graph):  # these may have been given one: x[...] = y
            if tensor.grad_fn is not None:
                self.made_by[tensor] = caller(self), resolve_name(func) or str(func)
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """All that there are in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _written(name: str, args: tuple[Any, ...]) -> list[Any]:
    """What an operation changes in place: x in x.copy_(y) and x[...] = y, and what it is a view of."""
    in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    return [args[0], args[0]._base] if in_place else []


def caller(operations: Operations | None) -> str:
    """The module that is running, as errors name it."""
    return f"module {operations.module}" if operations and operations.module else "the cost"


def unsupported(tensor: Tensor, operations: Operations | None) -> UnsupportedOperation:
    """The error about the operation that gave a Tensor its graph."""
    if operations is not None and tensor in operations.made_by:
        return UnsupportedOperation(*operations.made_by[tensor])
    function = getattr(tensor.grad_fn, "_forward_cls", type(tensor.grad_fn))
    own = issubclass(function, torch.autograd.Function) and not function.__module__.startswith("torch.")
    hint = f"; derive it from {Function.__module__}.Function and use {function.__name__}.call" if own else ""
    return UnsupportedOperation(caller(operations), function.__name__, verb="is given the result of", hint=hint)
