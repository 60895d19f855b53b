"""A network as a chain of dense layers, and what many examples at once do at each of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine import Backprop, Call, backward
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.linear import Linear

__all__ = ["LayerState", "layer_states"]


@dataclass(frozen=True)
class LayerState:
    """A dense layer y = f(z), z = W x + b, as N examples pass through it.

    All gradients follow from these: δ = ∂C/∂z = f′(z) · ∂C/∂y; of a weight δⱼ xₖ, of a bias δⱼ; and neuron j alone adds
    δⱼ wⱼₖ to the gradient of the previous activation k.
    """

    names: tuple[str | None, str | None]  # of W and b in the model; None of what does not learn, or is not there
    weight: Tensor  # W, (out, in); it and b are the model's own, and change with it
    bias: Tensor | None  # b, (out,)
    function: str  # f's name, such as "sigmoid"; "identity" where there is none
    activations: Tensor  # y, (N, out)
    slopes: Tensor  # f′(z), which is what f's `backward` makes of an upstream gradient of 1, (N, out)
    nudges: Tensor  # −∂Cₙ/∂y, how example n alone would change each activation, (N, out)


def layer_states(backprop: Backprop, inputs: Tensor, targets: Tensor) -> tuple[LayerState, ...]:
    """Trace a mini-batch through a chain of dense layers, and its gradients back; the cost averages over the examples.

    Raises:
        TypeError: if it is no chain of dense layers, each with at most one elementwise activation.
        Otherwise as `Backprop.trace`.

    Source:
        The lecture's statements 2, 6 and 9.
    """
    cost, tape = backprop.trace(inputs.detach().requires_grad_(), targets)
    names = {parameter: name for name, parameter in backprop.model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        gradients = backward(tape, cost)
        return tuple(_state(layer, gradients, names) for layer in dense_layers(tape))


def dense_layers(tape: Sequence[Call]) -> Iterator[Sequence[Call]]:
    """The calls of each dense layer of a traced model: its weighted sum, and what follows it.

    Raises:
        TypeError: if the model is not a chain that begins with a weighted sum.
    """
    calls = [call for call in tape if call.module]
    for before, call in pairwise(calls):
        if call.inputs[0] is not before.output:
            raise TypeError(f"module {call.module}: the model is not a chain, each layer after another")
    starts = [place for place, call in enumerate(calls) if call.function is Linear]
    if not starts or starts[0]:
        raise TypeError("the model must begin with a dense layer" + (f", not with {calls[0].module}" if calls else ""))
    for start, end in pairwise([*starts, len(calls)]):
        yield calls[start:end]


def _state(calls: Sequence[Call], gradients: dict[Tensor, Tensor], names: Mapping[Any, str]) -> LayerState:
    weighted, *after = calls
    if len(after) > 1 or not all(issubclass(call.function, Elementwise) for call in after):
        raise TypeError(f"module {after[-1].module}: only one elementwise activation may follow a weighted sum")
    weight, bias = weighted.inputs[1:]
    output = calls[-1].output
    slopes = torch.ones_like(output)
    for call in after:
        ((_, slopes),) = call.backward(slopes)
    return LayerState(
        names=(names.get(weight), names.get(bias)),
        weight=weight.detach(),
        bias=bias if bias is None else bias.detach(),
        function=after[0].function.__name__.lower() if after else "identity",
        activations=output.detach(),
        slopes=slopes,
        nudges=gradients[output] * -len(output),
    )
