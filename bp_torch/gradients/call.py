"""One call of a function: what it is differentiated with respect to, and what is held fixed."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue import Sample


class CannotCheck(ValueError):
    """Nothing can be compared: the function, its reference or a sample is unusable; the message says which."""


@dataclass(frozen=True)
class Call:
    """A function at one point."""

    function: Callable[..., Any]  # returns a Tensor, or several in tuples, lists and dicts: one long vector
    args: tuple[Any, ...]  # by position; a module's parameters come last
    names: Mapping[int, str]  # the positions of those it is differentiated with respect to, and what to call them
    options: Mapping[str, Any] = field(default_factory=dict)  # arguments by name, held fixed
    parameters: tuple[str, ...] = ()  # the names of a module's parameters; their sizes are its own affair

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The Tensors it is differentiated with respect to."""
        return tuple(self.args[position] for position in self.names)

    @property
    def by_name(self) -> dict[str, Tensor]:
        """The same, each under its name."""
        return self.named(self.inputs)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first of them."""
        return self.inputs[0].dtype

    def at(self, inputs: Sequence[Tensor]) -> "Call":
        """The same call at another point."""
        args = list(self.args)
        for position, input in zip(self.names, inputs, strict=True):
            args[position] = input
        return replace(self, args=tuple(args))

    def to(self, dtype: torch.dtype) -> "Call":
        """The same call in another dtype."""
        return self._changed(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def only(self, positions: Iterable[int]) -> "Call":
        """The same call, differentiated with respect to these arguments alone."""
        return replace(self, names={position: self.names[position] for position in positions})

    def of(self, function: Callable[..., Any]) -> "Call":
        """The same call of another function."""
        return replace(self, function=function)

    def fresh(self) -> "Call":
        """The same call on copies of all Tensors, strides and all: whatever is done to those spoils nothing."""
        return self._changed(copied)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Call":
        args = tuple(change(arg) if isinstance(arg, Tensor) else arg for arg in self.args)
        options = {name: change(value) if isinstance(value, Tensor) else value for name, value in self.options.items()}
        return replace(self, args=args, options=options)

    def output(self) -> Tensor:
        """What it returns, called on these very Tensors."""
        return as_tensor(self.function(*self.args, **self.options))

    def value(self) -> Tensor:
        """What it returns, without a graph."""
        with torch.no_grad():
            return self.fresh().output()

    def run(self) -> tuple[Tensor, list[Tensor]]:
        """Call it on fresh leaves, and return the output with them."""
        fresh = self.fresh()
        leaves = [input.requires_grad_() for input in fresh.inputs]
        with torch.enable_grad():
            return fresh.output(), leaves

    def pull(self, upstream: Tensor) -> dict[str, Tensor]:
        """The gradients by reverse mode, ∂⟨upstream, output⟩/∂input, each under its input's name."""
        return self.named(pulled_back(*self.run(), upstream))

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """One Tensor for each input, under its name."""
        return dict(zip(self.names.values(), tensors, strict=True))


def pulled_back(output: Tensor, leaves: Sequence[Tensor], upstream: Tensor, **options: bool) -> tuple[Tensor, ...]:
    """The gradients of ⟨upstream, output⟩; zeros for what the output does not depend on."""
    batch = upstream.shape[: upstream.dim() - output.dim()]
    if not output.requires_grad:  # cut off from its inputs: no gradient arrives
        return tuple(leaf.new_zeros(batch + leaf.shape) for leaf in leaves)
    found = torch.autograd.grad(output, leaves, upstream.to(output.dtype), allow_unused=True, **options)
    return tuple(leaf.new_zeros(batch + leaf.shape) if g is None else g for leaf, g in zip(leaves, found, strict=True))


def as_tensor(output: Any) -> Tensor:
    """A function's output as one Tensor; CannotCheck if there is none of real floating-point numbers in it."""
    parts = parts_of(output)
    if not parts:
        kind = f"{output.dtype} ({output.layout})" if isinstance(output, Tensor) else type(output).__name__
        raise CannotCheck(f"returns {kind}, not a dense Tensor of real floating-point numbers")
    return parts[0] if isinstance(output, Tensor) else torch.cat([part.reshape(-1) for part in parts])


def parts_of(value: Any) -> list[Tensor]:
    """The dense Tensors of real floating-point numbers in a value, in tuples and lists and dicts to any depth."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() and value.layout == torch.strided else []
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [part for each in inner for part in parts_of(each)]


def copied(tensor: Tensor) -> Tensor:
    """A copy that lies in memory in the same way, also where strides are 0 or leave gaps, or it begins further on."""
    tensor, begin = tensor.detach(), tensor.storage_offset()
    if not tensor.numel() or (tensor.is_contiguous() and not begin):
        return tensor.clone()
    end = begin + 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((end,), (1,), 0).clone().as_strided(tensor.shape, tensor.stride(), begin)


def as_calls(function: Callable[..., Any], samples: Sequence[Any]) -> list[Call]:
    """One call of the function for each sample.

    Raises:
        CannotCheck: if there is no sample, or one is no tuple of arguments or has no input that needs a gradient.
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
    _require_plain(sample, f"sample {number}: argument")
    parameters = dict(function.named_parameters()) if isinstance(function, torch.nn.Module) else {}
    called = callable_of(function, tuple(parameters), "the function")
    names = _names_of_inputs(function, sample.args)
    for position, (name, parameter) in enumerate(parameters.items(), start=len(sample.args)):
        if parameter.requires_grad:
            names[position] = f"self.{name}"
    if not names:
        raise CannotCheck(f"sample {number} has no input that needs a gradient: no Tensor of floating-point numbers")
    args = (*sample.args, *parameters.values())
    return Call(called, args, names, sample.options, tuple(parameters)).fresh()


def _require_plain(sample: Sample, argument: str) -> None:
    """Raise CannotCheck if a gradient would go unnoticed: of a Tensor inside another argument, or of an option."""
    for name, value in [*enumerate(sample.args), *sample.options.items()]:
        if not isinstance(value, Tensor) and parts_of(value):
            kind = type(value).__name__
            raise CannotCheck(f"{argument} {name!r} holds Tensors in a {kind}: give each as an argument of its own")
        if isinstance(value, Tensor) and value.layout != torch.strided:
            raise CannotCheck(f"{argument} {name!r} is sparse: only dense Tensors can be checked")
        if isinstance(value, Tensor) and value.requires_grad and name in sample.options:
            raise CannotCheck(f"{argument} {name!r} requires a gradient, but options are fixed: give it by position")


def _names_of_inputs(function: Any, args: tuple[Any, ...]) -> dict[int, str]:
    """The Tensors among the arguments that require a gradient, or all of floating-point numbers if none does."""
    floating = [i for i, arg in enumerate(args) if isinstance(arg, Tensor) and arg.is_floating_point()]
    chosen = [i for i in floating if args[i].requires_grad]
    try:
        signature = [*inspect.signature(getattr(function, "forward", function)).parameters.values()]
    except (TypeError, ValueError):  # it has none
        signature = []
    plain = [p.name for p in signature if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = dict(enumerate(name for name in plain if name not in ("ctx", "self")))
    return {i: names.get(i, f"argument {i}") for i in chosen or floating}


def callable_of(function: Any, parameters: tuple[str, ...], whose: str) -> Callable[..., Any]:
    """What to call: a Function's `apply`, a module as a function, otherwise itself.

    A module takes the parameters of these names as its last arguments; if there are none, it uses its own.

    Raises:
        CannotCheck: if it cannot be called, or is a module with other parameters.
    """
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        return function.apply
    if isinstance(function, type) and issubclass(function, torch.nn.Module):
        raise CannotCheck(f"{whose} {function.__name__} is a class: give an instance of it")
    if isinstance(function, torch.nn.Module):
        own = {name for name, _ in function.named_parameters()}
        if parameters and own != set(parameters):
            raise CannotCheck(f"{whose}'s parameters are {sorted(own)}, not {sorted(parameters)}")
        return _functional(function, parameters)
    if not callable(function):
        raise CannotCheck(f"{whose} cannot be called: it is {type(function).__name__}")
    return function  # type: ignore[no-any-return]


def _functional(module: torch.nn.Module, names: Sequence[str]) -> Callable[..., Any]:
    """A module as a function of its arguments and then the parameters of these names; it is itself left alone."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    tied = len({id(tensor) for _, tensor in tensors}) < len(tensors)  # looking for them takes longer than most layers

    def function(*args: Any, **options: Any) -> Any:
        given = len(args) - len(names)
        dtype = next(arg.dtype for arg in args if isinstance(arg, Tensor) and arg.is_floating_point())
        called = dict(zip(names, args[given:], strict=True))
        for name, own in (*module.named_buffers(), *(() if names else module.named_parameters())):
            called[name] = own.detach().to(dtype if own.is_floating_point() else own.dtype, copy=True)
        return torch.func.functional_call(module, called, args[:given], options, tie_weights=tied)

    return function
