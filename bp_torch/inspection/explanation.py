"""The nudges of one example: the changes of activations, weights, biases and pixels that lower its cost.

A nudge is minus the gradient of the example's cost. All gradients come from the `backward`s that train the network.
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

__all__ = ["Explanation", "LayerExplanation", "LayerState", "NeuronNudges", "explain", "layer_states"]


class NeuronNudges(NamedTuple):
    """The nudges of the terms of one neuron's weighted sum z = Σₖ wₖ xₖ + b. That of z is −δ = −∂C/∂z."""

    bias: float | None  # −δ · 1
    weights: Tensor  # −δ · xₖ, proportional to the previous activations, (in,)
    inputs: Tensor  # −δ · wₖ, proportional to the weights, (in,)


@dataclass(frozen=True)
class LayerExplanation:
    """A dense layer y = f(z), z = W x + b, for one example; all tensors without the dimension N."""

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
    contributions: Tensor  # −δⱼ wⱼₖ, the nudge of previous activation k by neuron j alone, (out, in)
    input_nudges: Tensor  # −∂C/∂x = −Wᵀ δ, the sum of the contributions, (in,)

    @property
    def name(self) -> str:
        """The module's name in the model, such as "hidden1"; "layer 0" if it is a number."""
        name = self.names[0].rpartition(".")[0]
        return f"layer {name}" if name.isdecimal() else name

    def neuron_nudges(self, neuron: int) -> NeuronNudges:
        """The nudges of one neuron's bias, weights and inputs."""
        bias = None if self.bias_nudges is None else self.bias_nudges[neuron].item()
        return NeuronNudges(bias, self.weight_nudges[neuron], self.contributions[neuron])


@dataclass(frozen=True)
class Explanation:
    """The nudges of one example, from the outputs of a network to its pixels.

    `difference` is the largest difference between a gradient here and autograd's, of pixels, weights and biases,
    relative to the largest gradient of the same tensor; NaN if one is NaN.
    """

    cost: float
    image: Tensor  # the inputs of the network, (in,)
    target: Tensor  # (classes,)
    layers: tuple[LayerExplanation, ...]  # from the first to the last
    difference: float

    @property
    def outputs(self) -> Tensor:
        """The last activations, (classes,)."""
        return self.layers[-1].activations

    @property
    def output_nudges(self) -> Tensor:
        """Their nudges, (classes,); for the squared error proportional to their distance from the target."""
        return self.layers[-1].nudges

    def chosen(self, output: int | None) -> int:
        """The index of an output: this one, or by default the one with the largest target."""
        if output is not None and not 0 <= output < len(self.outputs):
            raise ValueError(f"output must be from 0 to {len(self.outputs) - 1}, got {output}")
        return int(self.target.argmax()) if output is None else output

    @property
    def pixel_nudges(self) -> Tensor:
        """The nudges of the pixels, (in,), where the recursion ends."""
        return self.layers[0].input_nudges


def explain(
    model: torch.nn.Module, cost: Cost, image: Tensor, target: SupportsIndex | Tensor | Sequence[float]
) -> Explanation:
    """Compute the nudges of one example in a chain of dense layers, whether its parameters are frozen or not.

    Args:
        model: such as `bp_torch.nn.mlp`'s.
        cost: its cost.
        image: its pixels in any shape; uint8 from 0 to 255, or finite floats in the range that the model takes.
        target: a class index, for a target of 1 at that output and 0 at the others; or the target of each output,
            (classes,).

    Raises:
        TypeError: if the model is not a chain of dense layers, or an argument has the wrong type.
        ValueError: if image or target do not fit the model.

    Source:
        The lecture's statements 6, 7 and 9.
    """
    with torch.inference_mode(False), torch.no_grad():
        trainable = _trainable_copy(model)
        inputs = _row(trainable, image).requires_grad_()
        one_hot, targets = _targets(cost, target, _outputs(trainable, inputs.detach()))
        value, tape = Backprop(trainable, cost).trace(inputs, targets)
        names = {parameter: name for name, parameter in trainable.named_parameters()}
        gradients = backward(tape, value)
        try:
            layers = tuple(_layer(calls[0], calls[-1], gradients, names) for calls in _dense_layers(tape))
        except TypeError as error:
            raise TypeError(f"explain(): {error}") from None
        difference = _difference(trainable, cost, inputs.detach(), targets, layers)
        return Explanation(value.item(), inputs.detach()[0], one_hot[0], layers, difference)


def _layer(weighted: Call, active: Call, gradients: dict[Tensor, Tensor], names: Mapping[Any, str]) -> LayerExplanation:
    """Make a LayerExplanation from the calls of the weighted sum and of the activation."""
    input, weight, bias = weighted.inputs
    delta = gradients[weighted.output]  # (1, out)
    grads = dict(weighted.backward(delta))
    weighted.ctx.needs_input_grad = True, False, False
    each, *_ = weighted.function.backward(weighted.ctx, delta[0].diag())  # for the δ of each neuron alone: (out, in)
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


def _trainable_copy(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of the model with all parameters trainable."""
    if not isinstance(model, torch.nn.Module) or not list(model.parameters()):
        raise TypeError(f"explain(): model must be a chain of dense layers, not {type(model).__name__} without any")
    return copy.deepcopy(model).requires_grad_()


def _outputs(model: torch.nn.Module, inputs: Tensor) -> Tensor:
    try:
        return model(inputs)  # type: ignore[no-any-return]
    except RuntimeError as error:  # from a layer with inputs of the wrong shape
        raise TypeError(f"explain(): the model is not a chain of dense layers: {error}") from None


def _row(model: torch.nn.Module, image: Tensor) -> Tensor:
    """The image as a mini-batch of one, in the dtype and on the device of the model."""
    if not isinstance(image, Tensor):
        raise TypeError(f"explain(): image must be a Tensor, not {type(image).__name__}")
    if not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise TypeError(f"explain(): image must be uint8, or floats in the range of the model, not {image.dtype}")
    if not image.isfinite().all():
        raise ValueError("explain(): image has pixels that are not finite")
    first = next(model.parameters())  # (out, in), if the model begins with a dense layer
    if first.dim() == 2 and image.numel() != first.shape[1]:
        given = f"{image.numel()} pixels, {tuple(image.shape)}"
        raise ValueError(f"explain(): image has {given}, but the model takes {first.shape[1]}")
    pixels = image.detach().to(first.device, first.dtype).reshape(1, -1).clone()
    return pixels / 255 if image.dtype == torch.uint8 else pixels


def _targets(cost: Cost, target: SupportsIndex | Tensor | Sequence[float], outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The target of each output, (1, classes), and the same in the form that the cost takes."""
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
    one_hot = torch.eye(classes, dtype=outputs.dtype, device=outputs.device)[index : index + 1]
    try:
        cost(outputs, one_hot)
        return one_hot, one_hot
    except (RuntimeError, TypeError, ValueError):  # from costs that take only class indices, such as nll_loss
        return one_hot, one_hot.argmax(1)


def _difference(
    model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor, layers: Sequence[LayerExplanation]
) -> float:
    """The largest relative difference from autograd's gradients of the functions' `forward`s."""
    found = {"": -layers[0].input_nudges.unsqueeze(0)}
    for layer in layers:
        for name, nudges in zip(layer.names, (layer.weight_nudges, layer.bias_nudges), strict=True):
            if name is not None and nudges is not None:
                found[name] = found.get(name, 0) - nudges  # layers may share a parameter
    parameters = dict(model.named_parameters())
    with torch.enable_grad(), _ForwardOnly():
        pixels = inputs.clone().requires_grad_()
        value = cost(model(pixels), targets)
        expected = torch.autograd.grad(value, [parameters.get(name, pixels) for name in found])
    differences = torch.stack(
        [(mine - truth).abs().max() for mine, truth in zip(found.values(), expected, strict=True)]
    )
    largest = torch.stack([truth.abs().max() for truth in expected])
    return (differences / largest.clamp_min(torch.finfo(largest.dtype).tiny)).max().item()  # max keeps NaN


class _ForwardOnly(Tape):
    """A tape whose calls run only `forward`, so that autograd differentiates it without the hand-written `backward`."""

    def record(self, function: Any, inputs: tuple[Any, ...]) -> Tensor:
        return function.forward(*inputs)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class LayerState:
    """A dense layer y = f(z), z = W x + b, for N examples.

    All gradients follow from these tensors: δ = ∂C/∂z = f′(z) · ∂C/∂y; δⱼ xₖ for a weight, δⱼ for a bias. Neuron j adds
    δⱼ wⱼₖ to the gradient of the previous activation k.
    """

    names: tuple[str | None, str | None]  # of W and b in the model; None if it is frozen or missing
    weight: Tensor  # W, (out, in); like b, shared with the model
    bias: Tensor | None  # b, (out,)
    function: str  # the name of f, such as "sigmoid"; "identity" if there is none
    activations: Tensor  # y, (N, out)
    slopes: Tensor  # f′(z), the `backward` of f for an upstream gradient of 1, (N, out)
    nudges: Tensor  # −∂Cₙ/∂y, for the cost of example n alone, (N, out)


def layer_states(backprop: Backprop, inputs: Tensor, targets: Tensor) -> tuple[LayerState, ...]:
    """Compute a LayerState for each layer of a chain of dense layers; the cost averages over the examples.

    Raises:
        TypeError: if the model is not a chain of dense layers, each with at most one elementwise activation.
        Otherwise as `Backprop.trace`.

    Source:
        The lecture's statements 2, 6 and 9.
    """
    if not inputs.is_floating_point():
        raise TypeError(f"the inputs are {inputs.dtype}")
    cost, tape = backprop.trace(inputs.detach().requires_grad_(), targets)
    names = {parameter: name for name, parameter in backprop.model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        gradients = backward(tape, cost)
        return tuple(_state(layer, gradients, names) for layer in _dense_layers(tape))


def _dense_layers(tape: Tape) -> Iterator[Sequence[Call]]:
    """The calls of each dense layer of a traced model: the weighted sum, and the calls up to the next one."""
    calls = tape[: tape.model_calls]
    for before, call in pairwise(calls):
        if call.inputs[0] is not before.output:
            raise TypeError(f"module {call.module}: the model is not sequential")
    starts = [index for index, call in enumerate(calls) if call.function is Linear]
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
