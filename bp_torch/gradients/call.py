"""A call of a function: the inputs it is differentiated with respect to, and the arguments held fixed."""

import copy
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.constraints import Projection, projection
from bp_torch.gradients.containers import float_tensors, leaves, rebuild
from bp_torch.gradients.randomness import replayed
from bp_torch.sample import Sample


class CannotCheck(ValueError):
    """The check cannot run: the message names the function, reference or sample at fault."""


NO_ARGUMENTS = Sample(())
RANDOM = "random: the random numbers are the same in each call; .eval() leaves out a module's dropout"
SYMMETRIC = "the gradient is correct along symmetric matrices only, as by constraint='symmetric'"
IN_PLACE = "changes its input in place and returns it: each call is given copies"


@dataclass(frozen=True)
class Structure:
    """How a flat list of leaves becomes the arguments of a function."""

    sample: Sample = NO_ARGUMENTS  # the template; leaves beyond its own are further arguments
    complex_positions: tuple[int, ...] = ()  # leaves that are complex numbers, as pairs of real ones
    projections: Mapping[int, Projection] = field(default_factory=dict)  # of constrained leaves
    copies: bool = False  # whether the function modifies its inputs by design: it is given copies
    outputs: tuple[int, ...] = ()  # the outputs with a gradient, if some have none
    seed: int | None = None  # of a random function, before each call
    buffers: Mapping[int, str] = field(default_factory=dict)  # arguments that each call updates in place, copied
    constants: tuple[str, ...] = ()  # names of floating-point arguments that require no gradient

    @property
    def remarks(self) -> list[str]:
        """What the report says about how the function is called."""
        remarks = [RANDOM] if self.seed is not None else []
        remarks += [IN_PLACE] if self.copies else []
        remarks += [SYMMETRIC] if self.projections and self.sample.constraint is None else []
        remarks += [f"constant, without requires_grad: {', '.join(self.constants)}"] if self.constants else []
        outputs = ", ".join(map(str, self.outputs))
        return remarks + ([f"only these outputs have a gradient: {outputs}"] if outputs else [])

    def call(self, function: Callable[..., Any], leaves: Sequence[Any]) -> Any:
        """Call a function, which returns a Tensor, or nested Tensors."""
        changed = list(leaves)
        for position in self.complex_positions:
            changed[position] = torch.view_as_complex(changed[position].contiguous())
        for position, project in self.projections.items():
            changed[position] = project(changed[position])
        for position, leaf in enumerate(changed):
            if (self.copies and isinstance(leaf, Tensor)) or position in self.buffers:
                changed[position] = leaf.clone()
        new = iter(changed)
        args, options = rebuild((self.sample.args, dict(self.sample.options)), new)
        with replayed(self.seed):
            return function(*args, *new, **options)


@dataclass(frozen=True)
class Call:
    """A function and its arguments, as a flat list of leaves."""

    function: Callable[..., Any]
    args: tuple[Any, ...]  # the leaves of positional, then of keyword arguments; a module's parameters come last
    names: Mapping[int, str]  # differentiable inputs: position -> name
    structure: Structure = Structure()
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
    def own(self) -> int:
        """The number of leaves that are not parameters of a module."""
        return len(self.args) - len(self.parameters)

    @property
    def fixed(self) -> dict[int, Tensor]:
        """The Tensors held fixed, by position."""
        return {i: x for i, x in enumerate(self.args) if isinstance(x, Tensor) and i not in self.names}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first differentiable input."""
        return self.inputs[0].dtype

    @property
    def dtypes(self) -> str:
        """The dtypes of the differentiable inputs, as "bfloat16, float32"."""
        return ", ".join(sorted({str(x.dtype).removeprefix("torch.") for x in self.inputs}))

    def at(self, inputs: Sequence[Tensor]) -> "Call":
        """The same call with other values for the differentiable inputs."""
        return self.with_args(dict(zip(self.names, inputs, strict=True)))

    def with_args(self, changes: Mapping[int, Any]) -> "Call":
        """The same call with other leaves at these positions."""
        return replace(self, args=tuple(changes.get(i, arg) for i, arg in enumerate(self.args)))

    def to(self, dtype: torch.dtype) -> "Call":
        """The same call with its floating-point Tensors in another dtype."""
        return self._map_tensors(lambda tensor: _cast(tensor, dtype))

    def times(self, factor: float) -> "Call":
        """The same call with all floating-point numbers, fixed ones too, multiplied by a factor."""
        return self._map_tensors(lambda tensor: tensor * factor if tensor.is_floating_point() else tensor)

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
        return replace(self, args=tuple(change(arg) if isinstance(arg, Tensor) else arg for arg in self.args))

    def result(self) -> Any:
        """What the function returns for these Tensors, which are not copied."""
        return self.structure.call(self.function, self.args)

    def parts(self) -> list[Tensor]:
        """The outputs that have a gradient."""
        parts, chosen = float_tensors(self.result()), self.structure.outputs
        return [parts[i] for i in chosen] if chosen and len(parts) > max(chosen) else parts

    def output(self) -> Tensor:
        """The result as one Tensor."""
        return as_tensor(tuple(self.parts()) if self.structure.outputs else self.result())

    def value(self) -> Tensor:
        """The output for copies of the Tensors, without a graph."""
        with torch.no_grad():
            return self.clone().output()

    def updated_buffers(self) -> dict[str, Tensor]:
        """The buffers after a call, by name."""
        call = replace(self.clone(), structure=replace(self.structure, buffers={}))
        with torch.no_grad():
            call.result()
        return {name: call.args[position] for position, name in self.structure.buffers.items()}

    def run(self) -> tuple[Tensor, list[Tensor]]:
        """Call the function on new leaf Tensors; return the output and the leaves."""
        call = self.clone()
        leaves = [input.requires_grad_() for input in call.inputs]
        with torch.enable_grad():
            return call.output(), leaves

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
    gradients: tuple[Tensor | None, ...]
    try:
        kept = {"retain_graph": True, **options}  # for the second try
        gradients = torch.autograd.grad(output, leaves, _copied(upstream, output), allow_unused=True, **kept)
    except RuntimeError as error:
        if ".backward()" not in str(error) or options.keys() - {"retain_graph"}:
            raise
        output.backward(upstream.to(output.dtype), **options)  # type: ignore[no-untyped-call]
        gradients = tuple(leaf.grad for leaf in leaves)
        for leaf in leaves:
            leaf.grad = None
    return tuple(
        leaf.new_zeros(batch + leaf.shape) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)
    )


def _copied(upstream: Tensor, output: Tensor) -> Tensor:
    """A copy of the upstream gradient, which a wrong backward may modify; differentiable if it requires a gradient."""
    upstream = upstream.to(output.dtype)
    return upstream if upstream.requires_grad or type(upstream) is not Tensor else clone_with_layout(upstream)


def as_tensor(output: Any) -> Tensor:
    """A function's output as one Tensor: several are flattened and concatenated, complex numbers become pairs.

    Raises:
        CannotCheck: if the output contains no dense floating-point Tensor.
    """
    parts = float_tensors(output)
    if not parts:
        kind = f"{output.dtype} ({output.layout})" if isinstance(output, Tensor) else type(output).__name__
        raise CannotCheck(f"returns {kind}, not a dense Tensor of floating-point numbers")
    return parts[0] if isinstance(output, Tensor) else torch.cat([part.reshape(-1) for part in parts])


def clone_with_layout(tensor: Tensor) -> Tensor:
    """A copy with the same strides and storage offset, including strides of 0 and gaps."""
    tensor, begin = tensor.detach(), tensor.storage_offset()
    if not tensor.numel() or (tensor.is_contiguous() and not begin):
        return tensor.clone()
    end = begin + 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((end,), (1,), 0).clone().as_strided(tensor.shape, tensor.stride(), begin)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_complex():
        return tensor.to(dtype.to_complex()) if dtype in (torch.float64, torch.float32) else tensor
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


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
    parameters = dict(function.named_parameters()) if isinstance(function, torch.nn.Module) else {}
    called = as_callable(function, tuple(parameters), "the function")
    paths = _paths(function, sample)
    args = [leaf for _, leaf in paths]
    _require_dense(paths, number)
    buffers = _buffers(sample, paths, number)
    names = _input_names(paths, len([*leaves(sample.args)]), buffers)
    others = {i: x for i, x in enumerate(paths) if i not in names and i not in buffers}
    constants = tuple(repr(name) for name, x in others.values() if _is_differentiable(x))
    for position, (name, parameter) in enumerate(parameters.items(), start=len(args)):
        if parameter.requires_grad:
            names[position] = f"self.{name}"
    if not names:
        raise CannotCheck(f"sample {number} has no input that needs a gradient: pass a floating-point Tensor")
    args += parameters.values()
    pairs = tuple(position for position in names if args[position].is_complex())
    for position in pairs:
        args[position] = torch.view_as_real(args[position].detach().resolve_conj())
    projections = _projections(sample, names, paths, number)
    structure = Structure(sample, pairs, projections, seed=sample.seed, buffers=buffers, constants=constants)
    return Call(called, tuple(args), names, structure, tuple(parameters)).clone()


def _paths(function: Any, sample: Sample) -> list[tuple[str, Any]]:
    """Every leaf of the arguments, named by the function's signature."""
    try:
        signature = [*inspect.signature(getattr(function, "forward", function)).parameters.values()]
    except (TypeError, ValueError):  # a builtin without a signature
        signature = []
    positional = [p.name for p in signature if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = dict(enumerate(name for name in positional if name not in ("ctx", "self")))
    arguments = [(names.get(i, f"argument {i}"), arg) for i, arg in enumerate(sample.args)]
    return [leaf for name, arg in [*arguments, *sample.options.items()] for leaf in leaves(arg, name)]


def _require_dense(paths: Sequence[tuple[str, Any]], number: int) -> None:
    for name, leaf in paths:
        if isinstance(leaf, Tensor) and leaf.layout != torch.strided:
            raise CannotCheck(f"sample {number}: {name!r} is {leaf.layout}: only dense Tensors can be checked")
        if isinstance(leaf, Tensor) and leaf.is_meta:
            raise CannotCheck(f"sample {number}: {name!r} is on the meta device, which has no numbers")


def _buffers(sample: Sample, paths: Sequence[tuple[str, Any]], number: int) -> dict[int, str]:
    """The arguments that the function updates in place by design; CannotCheck if one is not a Tensor."""
    positions = {name: position for position, (name, leaf) in enumerate(paths) if isinstance(leaf, Tensor)}
    if unknown := set(sample.buffers) - positions.keys():
        raise CannotCheck(f"sample {number}: buffer {unknown.pop()!r} is not one of {[*positions]}")
    return {positions[name]: name for name in sample.buffers}


def _input_names(paths: Sequence[tuple[str, Any]], positional: int, buffers: Collection[int]) -> dict[int, str]:
    """Name the Tensors that require a gradient, or every floating-point Tensor passed by position if none does."""
    each = enumerate(paths)
    floating = {i: name for i, (name, leaf) in each if _is_differentiable(leaf) and i not in buffers}
    requiring = {position: name for position, name in floating.items() if paths[position][1].requires_grad}
    return requiring or {position: name for position, name in floating.items() if position < positional}


def _is_differentiable(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def _projections(
    sample: Sample, names: Mapping[int, str], paths: Sequence[tuple[str, Any]], number: int
) -> dict[int, Projection]:
    """The projection of each constrained argument.

    Raises:
        CannotCheck: if a constraint is unknown, or names no Tensor.
    """
    constraints = sample.constraint or {}
    if not isinstance(constraints, Mapping):
        constraints = dict.fromkeys((name for name in names.values() if not name.startswith("self.")), constraints)
    positions = {name: position for position, (name, leaf) in enumerate(paths) if isinstance(leaf, Tensor)}
    if unknown := constraints.keys() - positions.keys():
        raise CannotCheck(f"sample {number}: constraint of {unknown.pop()!r}, which is not one of {[*positions]}")
    try:
        return {positions[name]: projection(constraint) for name, constraint in constraints.items()}
    except ValueError as error:
        raise CannotCheck(f"sample {number}: {error}") from None


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
    """A module as a function of its inputs, followed by these parameters; the module itself is not changed.

    Each call uses a copy of the module that holds the given Tensors: its backward may call submodules again, as with
    checkpointing.
    """
    parameters = dict(module.named_parameters())

    def function(*args: Any, **options: Any) -> Any:
        inputs = len(args) - len(names)
        given = dict(zip(names, args[inputs:], strict=True))
        state = {id(parameters[name]): tensor for name, tensor in given.items()}
        dtypes = {arg.dtype for arg in args if isinstance(arg, Tensor) and arg.is_floating_point()}
        for own in (*module.buffers(), *(() if names else module.parameters())):
            dtype = dtypes.copy().pop() if len(dtypes) == 1 and own.is_floating_point() else own.dtype
            state[id(own)] = own.detach().to(dtype, copy=True)
        return copy.deepcopy(module, state)(*args[:inputs], **options)  # a memo: the copy holds these Tensors

    return function
