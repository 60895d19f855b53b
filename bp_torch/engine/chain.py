"""A model as a chain of hand-written functions: each is applied to the activations that the one before gave."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch.functional.precision import autocast_enabled
from bp_torch.functional.tape import Call, Context, Tape, first_alone


@dataclass(frozen=True, slots=True)
class Link:
    """One function of the chain: activation ← function(activation, *arguments).

    Attributes:
        layer: its layer's place in the model and kind, for messages.
        function: the `bp_torch.functional.function.Function`.
        arguments: what it is applied to besides the activations, parameters and constants.
        names: of each argument the parameter's name in the model, or None if it is none that learns.
        parameters: of each argument the parameter, or None.
        learns: whether there are any.
        watched: whether it learns of activations that might not be finite, although the cost is.
        passes_on: the `needs_input_grad` that asks for the activations' gradient alone.
    """

    layer: str
    function: Any
    arguments: tuple[Any, ...]
    names: tuple[str | None, ...]
    parameters: tuple[Tensor | None, ...]
    learns: bool
    watched: bool
    passes_on: tuple[bool, ...]


class Wish(NamedTuple):
    """What is asked of a link that learns.

    Attributes:
        link: the link.
        context: what its forward kept.
        shape: of its output, (N, out).
        total: the sum of its output, if it is watched.
        grad_output: ∂C/∂output, (N, out).
    """

    link: Link
    context: Context
    shape: torch.Size
    total: Tensor | None
    grad_output: Tensor

    def gradients(self) -> tuple[Any, ...]:
        """∂C/∂argument of each of the link's arguments that learns, by the Function's own backward.

        Raises:
            RuntimeError: if it gives none, or one of another shape.
        """
        self.context.needs_input_grad = (False, *(name is not None for name in self.link.names))
        gradients: tuple[Any, ...] = self.link.function.backward(self.context, self.grad_output)[1:]
        for name, gradient, parameter in zip(self.link.names, gradients, self.link.parameters, strict=True):
            if parameter is not None and (gradient is None or gradient.shape != parameter.shape):
                raise RuntimeError(f"Backprop: layer {self.link.layer} gives no gradient of the shape of {name!r}")
        return gradients

    def double(self) -> "Wish":
        """The same in float64, for sums whose differences matter."""
        context = Context(self.context.needs_input_grad)
        context.save_for_backward(
            *(None if tensor is None else tensor.double() for tensor in self.context.saved_tensors)
        )
        return self._replace(context=context, grad_output=self.grad_output.double())


class Passage(NamedTuple):
    """A link as mini-batch and wishes passed through it, forward and back.

    Attributes:
        link: the link.
        context: what its forward kept.
        input: what it was given, (N, in).
        output: what it gave, (N, out).
        grad_output: ∂C/∂output, what is asked of it.
        grad_input: ∂C/∂input, what it asks of the link before.
    """

    link: Link
    context: Context
    input: Tensor
    output: Tensor
    grad_output: Tensor
    grad_input: Tensor

    def back(self, grad_output: Tensor) -> Tensor:
        """∂C/∂input for another ∂C/∂output, by the Function's own backward."""
        return of_activations(self.link.function.backward(self.context, grad_output))


def of_activations(gradients: Any) -> Tensor:
    """The first input's, of what a backward returns."""
    return gradients[0] if type(gradients) is tuple else gradients  # type: ignore[no-any-return]


class Chain:
    """The links of a model, as they were when an example of some kind was led through.

    Attributes:
        links: what is applied, one after the other.
        lowest: the first link that learns; nobody asks what is below it.
        parameters: what is learned, by its name in the model: the parameter's own memory.
        one: ∂C/∂C.
        cost: the last one that was found to be a function of the outputs and the targets alone.
    """

    def __init__(self, model: torch.nn.Module, inputs: Tensor) -> None:
        """Run `model` on one example, and write down which hand-written functions that applies.

        Raises:
            TypeError: naming the layer, if it is not driven by such functions alone, or a parameter that none is given.
            ValueError: if nothing is to be learned.
        """
        learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not learning:
            raise ValueError("Backprop: the model has no parameter that needs a gradient")
        try:
            self.links = _links_of(model, inputs[:1])
        except Exception:  # whatever a layer raises for inputs that do not fit; of all of them it speaks as they came
            self.links = _links_of(model, inputs)
        if unused := learning.keys() - {name for link in self.links for name in link.names}:
            raise TypeError(f"Backprop cannot drive {min(unused)!r}: no hand-written function is given it as it is")
        self.lowest = next(link for link in self.links if link.learns)
        self.parameters = {name: parameter.detach() for name, parameter in learning.items()}
        self.one = torch.ones((), dtype=inputs.dtype, device=inputs.device)
        self.cost: object = None
        self._kind = inputs.shape[1:], inputs.dtype, inputs.device
        self._model = _Snapshot(model)

    def fits(self, model: torch.nn.Module, inputs: Tensor) -> bool:
        """Whether the inputs are of the same kind, and the model is as it was."""
        return (inputs.shape[1:], inputs.dtype, inputs.device) == self._kind and self._model.shows(model)


class _Snapshot:
    """What a model consists of: its modules, parameters and buffers, where these lie and whether they learn."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._modules = list(model.modules())
        self._training = [module.training for module in self._modules]
        owned: list[dict[str, Any]] = [held for m in self._modules for held in (m._modules, m._parameters, m._buffers)]
        self._empty = [held for held in owned if not held]
        self._held = [(held, list(held.values())) for held in owned if held]
        real = (parameter for parameter in model.parameters() if not parameter.is_meta)
        self._memory = [(parameter, parameter.detach(), parameter.requires_grad) for parameter in real]

    def shows(self, model: torch.nn.Module) -> bool:
        """Whether it is this one, unchanged."""
        if model is not self._model or any(self._empty) or [m.training for m in self._modules] != self._training:
            return False
        for held, before in self._held:
            if len(held) != len(before) or not all(map(is_, held.values(), before)):
                return False
        for parameter, memory, learns in self._memory:
            if not parameter.is_set_to(memory) or parameter.requires_grad is not learns:
                return False
        return True


def _links_of(model: torch.nn.Module, inputs: Tensor) -> list[Link]:
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    links: list[Link] = []
    activation = inputs
    for layer, module in _layers(model):
        with Tape() as tape:
            outputs = module(activation)
        require_chain(f"layer {layer}", tape, activation, outputs)
        for call in tape:
            if any(isinstance(argument, Tensor) and id(argument) not in own for argument in call.inputs[1:]):
                raise TypeError(
                    f"Backprop cannot drive layer {layer}: it computes what it gives a function beside its input"
                )
            for function, arguments in _parts(call):
                bounded = bool(links) and links[-1].function.bounded
                links.append(_link(layer, function, arguments, names, bounded=bounded))
        activation = outputs
    return links


def require_chain(
    what: str, calls: Sequence[Call], inputs: Tensor, outputs: Tensor, targets: Tensor | None = None
) -> None:
    """Raise TypeError unless each call was applied to what the one before gave, and the last gave the outputs."""
    reached = inputs
    for call in calls:
        if call.inputs[0] is not reached:
            break
        reached = call.output
    else:
        if reached is outputs:
            return
    done = "does more than apply hand-written functions" if calls else "applies no hand-written function"
    given = _told(inputs) if targets is None else f"{_told(inputs)} beside targets {_told(targets)}"
    raise TypeError(f"Backprop cannot drive {what}: it {done} to what it is given, {given}{_advice(inputs)}")


def _told(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__


def _advice(inputs: Tensor) -> str:
    if autocast_enabled():
        return "; autocast is on: turn it off"
    if inputs.dtype in (torch.float16, torch.bfloat16):
        return "; half precision is widened inside: use float32"
    return ""


def _layers(module: torch.nn.Module, place: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """What a chain of chains applies, one after the other; one that does anything else besides counts as a layer."""
    plain = type(module) is torch.nn.Sequential and "forward" not in vars(module)
    if not plain or module._forward_hooks or module._forward_pre_hooks:
        yield f"{place} ({type(module).__name__})".strip(), module
        return
    for name, child in module._modules.items():  # named_children() passes over a layer met before
        assert child is not None
        yield from _layers(child, f"{place}.{name}" if place else name)


def _parts(call: Call) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The functions of a composition and what each takes besides activations: the first takes all of it."""
    for place, function in enumerate(call.function.parts or (call.function,)):
        yield function, () if place else call.inputs[1:]


def _link(layer: str, function: Any, arguments: tuple[Any, ...], names: dict[int, str], *, bounded: bool) -> Link:
    """One link; `bounded` is what reaches it."""
    known = tuple(names.get(id(argument)) for argument in arguments)
    plain = tuple(a.detach() if isinstance(a, Tensor) else a for a in arguments)  # the same memory, less to ask
    parameters = tuple(a if name is not None else None for a, name in zip(plain, known, strict=True))
    watched = any(known) and not bounded
    return Link(layer, function, plain, known, parameters, any(known), watched, first_alone(1 + len(plain)))
