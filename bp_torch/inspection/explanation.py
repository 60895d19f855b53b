"""One example's nudges: how a single image would change every activation, weight, bias and pixel; and many at once.

A nudge is minus the gradient of the example's cost: following it lowers the cost. The numbers come from the same
`backward`s that train the network; nothing is derived here a second time.
"""

import copy
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from bp_torch.engine import Backprop, Call, Tape, backward
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.linear import Linear
from bp_torch.inspection.per_example import Cost

__all__ = ["Explanation", "LayerExplanation", "LayerState", "NeuronGradient", "explain", "layer_states"]


class NeuronGradient(NamedTuple):
    """The three ways to change one neuron's weighted sum z = Σₖ wₖ xₖ + b, as nudges; −δ = −∂C/∂z is that of z."""

    bias: float | None  # −δ · 1
    weights: Tensor  # −δ · xₖ, in proportion to the activations they carry, (in,)
    inputs: Tensor  # −δ · wₖ, the previous activations in proportion to the weights, (in,)


@dataclass(frozen=True)
class LayerExplanation:
    """A dense layer y = f(z), z = W x + b, as one example passes through it; all without the dimension N."""

    names: tuple[str, str | None]  # of W and b in the model
    weight: Tensor  # W, (out, in)
    bias: Tensor | None  # b, (out,)
    inputs: Tensor  # x, the previous layer's activations or the pixels, (in,)
    weighted_inputs: Tensor  # z, (out,)
    activations: Tensor  # y, (out,)
    nudges: Tensor  # −∂C/∂y, of each activation, (out,)
    weighted_input_nudges: Tensor  # −δ = −∂C/∂z = f′(z) · nudge, (out,)
    weight_nudges: Tensor  # −∂C/∂W = −δ xᵀ, (out, in)
    bias_nudges: Tensor | None  # −∂C/∂b = −δ, (out,)
    contributions: Tensor  # −δⱼ wⱼₖ, the nudge that neuron j alone gives previous activation k, (out, in)
    input_nudges: Tensor  # −∂C/∂x = −Wᵀ δ, the contributions of all neurons added up, (in,)

    @property
    def name(self) -> str:
        """The module's name in the model, such as "hidden1"; "layer 0" if it is a number."""
        name = self.names[0].rpartition(".")[0]
        return f"layer {name}" if name.isdecimal() else name

    def neuron_gradient(self, neuron: int) -> NeuronGradient:
        """The nudges of one neuron's bias, weights and inputs."""
        bias = None if self.bias_nudges is None else self.bias_nudges[neuron].item()
        return NeuronGradient(bias, self.weight_nudges[neuron], self.contributions[neuron])


@dataclass(frozen=True)
class Explanation:
    """The nudges that one example gives a network, from its outputs down to its pixels, as the network was then.

    `difference` is the largest of a gradient here from autograd's, of pixels, weights and biases, in units of the
    largest of its kind; NaN if one is.
    """

    cost: float
    image: Tensor  # the pixels as the network takes them, (in,)
    target: Tensor  # what is wanted of the outputs, (classes,)
    layers: tuple[LayerExplanation, ...]  # the first one first
    difference: float

    @property
    def outputs(self) -> Tensor:
        """The last activations, (classes,)."""
        return self.layers[-1].activations

    @property
    def output_nudges(self) -> Tensor:
        """Their nudges, (classes,); of the squared error in proportion to their distance from the target."""
        return self.layers[-1].nudges

    def chosen(self, output: int | None) -> int:
        """An output to look at: this one, which must exist, or, of None, the one that is wanted most."""
        if output is not None and not 0 <= output < len(self.outputs):
            raise ValueError(f"output must be from 0 to {len(self.outputs) - 1}, got {output}")
        return int(self.target.argmax()) if output is None else output

    @property
    def pixel_nudges(self) -> Tensor:
        """The nudges of the pixels, (in,): where the recursion ends."""
        return self.layers[0].input_nudges


def explain(
    model: torch.nn.Module, cost: Cost, image: Tensor, target: SupportsIndex | Tensor | Sequence[float]
) -> Explanation:
    """Trace one example forward, and its gradients back, through a chain of dense layers; also through a frozen one.

    Args:
        model: such as `bp_torch.nn.mlp`'s.
        cost: its cost.
        image: its pixels in any shape; uint8 from 0 to 255, or finite floats as the model takes them.
        target: a class index, which stands for 1 of that output and 0 of the others; or what is wanted of each output,
            (classes,).

    Raises:
        TypeError: if the model is no chain of dense layers, or an argument is of the wrong kind.
        ValueError: if image or target do not fit the model.

    Source:
        The lecture's statements 6, 7 and 9.
    """
    with torch.inference_mode(False), torch.no_grad():
        learning = _learning(model)
        inputs = _row(learning, image).requires_grad_()
        wanted, targets = _wanted(cost, target, _outputs(learning, inputs.detach()))
        value, tape = Backprop(learning, cost).trace(inputs, targets)
        names = {parameter: name for name, parameter in learning.named_parameters()}
        gradients = backward(tape, value)
        try:
            layers = tuple(_layer(calls[0], calls[-1], gradients, names) for calls in _dense_layers(tape))
        except TypeError as error:
            raise TypeError(f"explain(): {error}") from None
        difference = _difference(learning, cost, inputs.detach(), targets, layers)
        return Explanation(value.item(), inputs.detach()[0], wanted[0], layers, difference)


def _layer(weighted: Call, active: Call, gradients: dict[Tensor, Tensor], names: Mapping[Any, str]) -> LayerExplanation:
    """From the call of the weighted sum, and that of its activation."""
    input, weight, bias = weighted.inputs
    delta = gradients[weighted.output]  # (1, out)
    grads = dict(weighted.backward(delta))
    weighted.ctx.needs_input_grad = True, False, False
    each, *_ = weighted.function.backward(weighted.ctx, delta[0].diag())  # each neuron's δ alone: (out, in)
    return LayerExplanation(
        names=(names[weight], names.get(bias)),
        weight=weight.detach(),
        bias=None if bias is None else bias.detach(),
        inputs=input.detach()[0],
        weighted_inputs=weighted.output.detach()[0],
        activations=active.output.detach()[0],
        nudges=-gradients[active.output][0],
        weighted_input_nudges=-delta[0],
        weight_nudges=-grads[weight],
        bias_nudges=None if bias is None else -grads[bias],
        contributions=-each,
        input_nudges=-grads[input][0],
    )


def _learning(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of which everything learns, and which stays as it is."""
    if not isinstance(model, torch.nn.Module) or not list(model.parameters()):
        raise TypeError(f"explain(): model must be a chain of dense layers, not {type(model).__name__} without any")
    return copy.deepcopy(model).requires_grad_()


def _outputs(model: torch.nn.Module, inputs: Tensor) -> Tensor:
    try:
        return model(inputs)  # type: ignore[no-any-return]
    except RuntimeError as error:  # of a layer that is given what it does not take
        raise TypeError(f"explain(): the model is no chain of dense layers: {error}") from None


def _row(model: torch.nn.Module, image: Tensor) -> Tensor:
    """The image as a mini-batch of one, in the model's dtype and on its device."""
    if not isinstance(image, Tensor):
        raise TypeError(f"explain(): image must be a Tensor, not {type(image).__name__}")
    if not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise TypeError(
            f"explain(): image must be uint8 from 0 to 255, or floats as the model takes, not {image.dtype}"
        )
    if not image.isfinite().all():
        raise ValueError("explain(): image has pixels that are not finite")
    first = next(model.parameters())  # (out, in), if the model begins with a dense layer
    if first.dim() == 2 and image.numel() != first.shape[1]:
        given = f"{image.numel()} pixels, {tuple(image.shape)}"
        raise ValueError(f"explain(): image has {given}, but the model takes {first.shape[1]}")
    pixels = image.detach().to(first.device, first.dtype).reshape(1, -1).clone()
    return pixels / 255 if image.dtype == torch.uint8 else pixels


def _wanted(cost: Cost, target: SupportsIndex | Tensor | Sequence[float], outputs: Tensor) -> tuple[Tensor, Tensor]:
    """What is wanted of the outputs, (1, classes), and the same as the cost takes it."""
    classes = outputs.shape[1]
    if (isinstance(target, Tensor) and target.dim()) or isinstance(target, Sequence):
        vector = torch.as_tensor(target, dtype=outputs.dtype, device=outputs.device)
        if vector.shape != (classes,):
            raise ValueError(f"explain(): target has shape {tuple(vector.shape)}, but the outputs are ({classes},)")
        if not vector.isfinite().all():
            raise ValueError("explain(): target has numbers that are not finite")
        return vector.unsqueeze(0), vector.unsqueeze(0)
    try:
        index = operator.index(target)
    except TypeError:
        raise TypeError(f"explain(): target must be a class index or a vector, not {type(target).__name__}") from None
    if not 0 <= index < classes:
        raise ValueError(f"explain(): target must be a class from 0 to {classes - 1}, got {index}")
    wanted = torch.eye(classes, dtype=outputs.dtype, device=outputs.device)[index : index + 1]
    try:
        cost(outputs, wanted)
        return wanted, wanted
    except (RuntimeError, TypeError, ValueError):  # as of nll_loss, which takes classes alone
        return wanted, wanted.argmax(1)


def _difference(
    model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor, layers: Sequence[LayerExplanation]
) -> float:
    """The largest relative difference from autograd, which differentiates what each function's `forward` does."""
    found = {"": -layers[0].input_nudges.unsqueeze(0)}
    for layer in layers:
        for name, nudges in zip(layer.names, (layer.weight_nudges, layer.bias_nudges), strict=True):
            if name is not None and nudges is not None:
                found[name] = found.get(name, 0) - nudges  # layers may share a parameter
    parameters = dict(model.named_parameters())
    with torch.enable_grad(), _ForwardAlone():
        pixels = inputs.clone().requires_grad_()
        value = cost(model(pixels), targets)
        truths = torch.autograd.grad(value, [parameters.get(name, pixels) for name in found])
    apart = torch.stack([(mine - truth).abs().max() for mine, truth in zip(found.values(), truths, strict=True)])
    largest = torch.stack([truth.abs().max() for truth in truths])
    return (apart / largest.clamp_min(torch.finfo(largest.dtype).tiny)).max().item()  # which keeps NaN


class _ForwardAlone(Tape):
    """Calls run `forward` alone: autograd then differentiates that, and not by the hand-written `backward`."""

    def record(self, function: Any, inputs: tuple[Any, ...]) -> Tensor:
        return function.forward(*inputs)  # type: ignore[no-any-return]


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
        return tuple(_state(layer, gradients, names) for layer in _dense_layers(tape))


def _dense_layers(tape: Tape) -> Iterator[Sequence[Call]]:
    """The calls of each dense layer of a traced model: its weighted sum, and what follows it."""
    calls = tape[: tape.model_calls]
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
