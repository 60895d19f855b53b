"""A call of a function: the inputs it is differentiated with respect to, and the arguments held fixed."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue import Sample


class CannotCheck(ValueError):
    """The check cannot run: the message names the function, reference or sample at fault."""


@dataclass(frozen=True)
class Call:
    """A function and its arguments."""

    function: Callable[..., Any]  # returns a Tensor, or a nested tuple, list or dict of them
    args: tuple[Any, ...]  # positional; a module's parameters come last
    names: Mapping[int, str]  # differentiable inputs: position -> name
    options: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments, held fixed
    parameters: tuple[str, ...] = ()  # names of a module's parameters

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The differentiable inputs."""
        return tuple(self.args[position] for position in self.names)

    @property
    def by_name(self) -> dict[str, Tensor]:
        """The differentiable inputs, by name."""
        return self.named(self.inputs)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first differentiable input."""
        return self.inputs[0].dtype

    def at(self, inputs: Sequence[Tensor]) -> "Call":
        """The same call with other values for the differentiable inputs."""
        args = list(self.args)
        for position, input in zip(self.names, inputs, strict=True):
            args[position] = input
        return replace(self, args=tuple(args))

    def to(self, dtype: torch.dtype) -> "Call":
        """The same call with its floating-point Tensors in another dtype."""
        return self._map_tensors(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def with_respect_to(self, positions: Iterable[int]) -> "Call":
        """The same call, differentiated with respect to these positions only."""
        return replace(self, names={position: self.names[position] for position in positions})

    def of(self, function: Callable[..., Any]) -> "Call":
        """The same arguments for another function."""
        return replace(self, function=function)

    def clone(self) -> "Call":
        """The same call on copies of all Tensors, with the same strides."""
        return self._map_tensors(clone_with_layout)

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> "Call":
        args = tuple(change(arg) if isinstance(arg, Tensor) else arg for arg in self.args)
        options = {name: change(value) if isinstance(value, Tensor) else value for name, value in self.options.items()}
        return replace(self, args=args, options=options)

    def output(self) -> Tensor:
        """The output for these Tensors, which are not copied."""
        return as_tensor(self.function(*self.args, **self.options))

    def value(self) -> Tensor:
        """The output for copies of the Tensors, without a graph."""
        with torch.no_grad():
            return self.clone().output()

    def run(self) -> tuple[Tensor, list[Tensor]]:
        """Call the function on new leaf Tensors; return the output and the leaves."""
        copy = self.clone()
        leaves = [input.requires_grad_() for input in copy.inputs]
        with torch.enable_grad():
            return copy.output(), leaves

    def vjp(self, upstream: Tensor) -> dict[str, Tensor]:
        """The gradients ∂⟨upstream, output⟩/∂input by reverse mode, by input name."""
        return self.named(vjp(*self.run(), upstream))

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Pair one Tensor per differentiable input with the input's name."""
        return dict(zip(self.names.values(), tensors, strict=True))


def vjp(output: Tensor, leaves: Sequence[Tensor], upstream: Tensor, **options: bool) -> tuple[Tensor, ...]:
    """The gradients of ⟨upstream, output⟩; zeros for leaves that the output does not depend on."""
    batch = upstream.shape[: upstream.dim() - output.dim()]
    if not output.requires_grad:  # detached from its inputs
        return tuple(leaf.new_zeros(batch + leaf.shape) for leaf in leaves)
    gradients = torch.autograd.grad(output, leaves, upstream.to(output.dtype), allow_unused=True, **options)
    return tuple(
        leaf.new_zeros(batch + leaf.shape) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)
    )


def as_tensor(output: Any) -> Tensor:
    """A function's output as one Tensor: several are flattened and concatenated.

    Raises:
        CannotCheck: if the output contains no dense floating-point Tensor.
    """
    parts = float_tensors(output)
    if not parts:
        kind = f"{output.dtype} ({output.layout})" if isinstance(output, Tensor) else type(output).__name__
        raise CannotCheck(f"returns {kind}, not a dense Tensor of real floating-point numbers")
    return parts[0] if isinstance(output, Tensor) else torch.cat([part.reshape(-1) for part in parts])


def float_tensors(value: Any) -> list[Tensor]:
    """The dense floating-point Tensors in a value, including nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() and value.layout == torch.strided else []
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [part for each in inner for part in float_tensors(each)]


def clone_with_layout(tensor: Tensor) -> Tensor:
    """A copy with the same strides and storage offset, including strides of 0 and gaps."""
    tensor, begin = tensor.detach(), tensor.storage_offset()
    if not tensor.numel() or (tensor.is_contiguous() and not begin):
        return tensor.clone()
    end = begin + 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((end,), (1,), 0).clone().as_strided(tensor.shape, tensor.stride(), begin)


def as_calls(function: Callable[..., Any], samples: Sequence[Any]) -> list[Call]:
    """One call of the function for each sample.

    Raises:
        CannotCheck: if there are no samples, or a sample is not a tuple of arguments or has no differentiable input.
    """
    if isinstance(samples, Tensor | Sample) or not isinstance(samples, Sequence):
        raise CannotCheck(f"samples must be a list of argument tuples, not {type(samples).__name__}")
    if not samples:
        raise CannotCheck("there are no samples: nothing to check")
    return [_as_call(function, sample, number) for number, sample in enumerate(samples)]


def _as_call(function: Callable[..., Any], sample: Any, number: int) -> Call:
    if not isinstance(sample, Sample):
        if not isinstance(sample, tuple | list):
            raise CannotCheck(f"sample {number} must be a tuple of arguments, not {type(sample).__name__}")
        sample = Sample(tuple(sample))
    _require_flat_arguments(sample, f"sample {number}: argument")
    parameters = dict(function.named_parameters()) if isinstance(function, torch.nn.Module) else {}
    called = as_callable(function, tuple(parameters), "the function")
    names = _input_names(function, sample.args)
    for position, (name, parameter) in enumerate(parameters.items(), start=len(sample.args)):
        if parameter.requires_grad:
            names[position] = f"self.{name}"
    if not names:
        raise CannotCheck(f"sample {number} has no input that needs a gradient: pass a floating-point Tensor")
    args = (*sample.args, *parameters.values())
    return Call(called, args, names, sample.options, tuple(parameters)).clone()


def _require_flat_arguments(sample: Sample, argument: str) -> None:
    """Raise CannotCheck for Tensors that would not be checked: nested in an argument, sparse, or in an option."""
    for name, value in [*enumerate(sample.args), *sample.options.items()]:
        if not isinstance(value, Tensor) and float_tensors(value):
            kind = type(value).__name__
            raise CannotCheck(f"{argument} {name!r} holds Tensors in a {kind}: pass each as a separate argument")
        if isinstance(value, Tensor) and value.layout != torch.strided:
            raise CannotCheck(f"{argument} {name!r} is sparse: only dense Tensors can be checked")
        if isinstance(value, Tensor) and value.requires_grad and name in sample.options:
            raise CannotCheck(
                f"{argument} {name!r} requires a gradient, but options are held fixed: pass it by position"
            )


def _input_names(function: Any, args: tuple[Any, ...]) -> dict[int, str]:
    """Name the Tensors that require a gradient, or every floating-point Tensor if none does."""
    floating = [i for i, arg in enumerate(args) if isinstance(arg, Tensor) and arg.is_floating_point()]
    requiring = [i for i in floating if args[i].requires_grad]
    try:
        signature = [*inspect.signature(getattr(function, "forward", function)).parameters.values()]
    except (TypeError, ValueError):  # a builtin without a signature
        signature = []
    positional = [p.name for p in signature if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = dict(enumerate(name for name in positional if name not in ("ctx", "self")))
    return {i: names.get(i, f"argument {i}") for i in requiring or floating}


def as_callable(function: Any, parameters: tuple[str, ...], label: str) -> Callable[..., Any]:
    """The function itself, a Function's `apply`, or a module as a function of its inputs and parameters.

    Args:
        function: the function, Function class or module.
        parameters: names of the module parameters passed as the last arguments; without any, a module uses its own.
        label: what to call the function in an error.

    Raises:
        CannotCheck: if the object is not callable, or is a module with other parameters.
    """
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        return function.apply
    if isinstance(function, type) and issubclass(function, torch.nn.Module):
        raise CannotCheck(f"{label} {function.__name__} is a class: pass an instance")
    if isinstance(function, torch.nn.Module):
        own = {name for name, _ in function.named_parameters()}
        if parameters and own != set(parameters):
            raise CannotCheck(f"{label}'s parameters are {sorted(own)}, not {sorted(parameters)}")
        return _functional(function, parameters)
    if not callable(function):
        raise CannotCheck(f"{label} cannot be called: it is {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def _functional(module: torch.nn.Module, names: Sequence[str]) -> Callable[..., Any]:
    """A module as a function of its inputs, followed by these parameters; the module itself is not changed."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    tied = len({id(tensor) for _, tensor in tensors}) < len(tensors)  # the search takes longer than most layers

    def function(*args: Any, **options: Any) -> Any:
        inputs = len(args) - len(names)
        dtype = next(arg.dtype for arg in args if isinstance(arg, Tensor) and arg.is_floating_point())
        state = dict(zip(names, args[inputs:], strict=True))
        for name, own in (*module.named_buffers(), *(() if names else module.named_parameters())):
            state[name] = own.detach().to(dtype if own.is_floating_point() else own.dtype, copy=True)
        return torch.func.functional_call(module, state, args[:inputs], options, tie_weights=tied)

    return function
