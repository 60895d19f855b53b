"""A model as a chain of hand-written functions: each is applied to the activations that the one before gave."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch.functional.tape import FIRST_INPUT_ALONE, Call, Context, Tape


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
        """∂C/∂argument of each of the link's arguments that learns, by the Function's own backward."""
        self.context.needs_input_grad = (False, *(name is not None for name in self.link.names))
        gradients: tuple[Any, ...] = self.link.function.backward(self.context, self.grad_output)
        return gradients[1:]


class Chain:
    """The links of a model, as they were when a mini-batch of some kind was led through.

    Attributes:
        links: what is applied, one after the other.
        lowest: the first link that learns; nobody asks what is below it.
        parameters: what is learned, by its name in the model: the parameter's own memory.
        one: ∂C/∂C.
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
        first = inputs[:1] if inputs.dim() else inputs
        self.links = _links_of(model, first, {id(parameter): name for name, parameter in learning.items()})
        if unused := learning.keys() - {name for link in self.links for name in link.names}:
            raise TypeError(f"Backprop cannot drive {min(unused)!r}: no hand-written function is given it as it is")
        self.lowest = next(link for link in self.links if link.learns)
        self.parameters = {name: parameter.detach() for name, parameter in learning.items()}
        self.one = torch.ones((), dtype=inputs.dtype, device=inputs.device)
        self._kind = inputs.shape[1:], inputs.dtype, inputs.device
        self._layers = [(m._modules, tuple(m._modules.values())) for m in model.modules() if m._modules]
        self._owned = [
            (module._parameters, name, parameter, parameter.data_ptr(), parameter.requires_grad)
            for module in model.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]

    def fits(self, inputs: Tensor) -> bool:
        """Whether these inputs are of the same kind, and the model has the layers and parameters that it had."""
        if (inputs.shape[1:], inputs.dtype, inputs.device) != self._kind:
            return False
        for layers, before in self._layers:
            if tuple(layers.values()) != before:
                return False
        for owned, name, parameter, memory, learns in self._owned:
            if owned[name] is not parameter or parameter.data_ptr() != memory or parameter.requires_grad is not learns:
                return False
        return True


def _links_of(model: torch.nn.Module, inputs: Tensor, names: dict[int, str]) -> list[Link]:
    links: list[Link] = []
    activation = inputs
    for layer, module in _layers(model):
        with Tape() as tape:
            outputs = module(activation)
        require_chain(f"layer {layer}", tape, activation, outputs)
        for call in tape:
            for function, arguments in _parts(call):
                links.append(
                    _link(layer, function, arguments, names, bounded=bool(links) and links[-1].function.bounded)
                )
        activation = outputs
    return links


def require_chain(what: str, calls: Sequence[Call], inputs: Tensor, outputs: Tensor) -> None:
    """Raise TypeError unless each call was applied to what the one before gave, and the last gave the outputs."""
    reached = inputs
    for call in calls:
        if call.inputs[0] is not reached:
            break
        reached = call.output
    else:
        if reached is outputs:
            return
    given = f"{tuple(inputs.shape)} {inputs.dtype}"
    done = "does more than apply hand-written functions" if calls else "applies no hand-written function"
    raise TypeError(f"Backprop cannot drive {what}: it {done} to what it is given, {given}")


def _layers(module: torch.nn.Module, place: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """What a chain of chains applies, one after the other."""
    if type(module).forward is not torch.nn.Sequential.forward:
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
    return Link(layer, function, plain, known, parameters, any(known), watched, FIRST_INPUT_ALONE[: 1 + len(plain)])
