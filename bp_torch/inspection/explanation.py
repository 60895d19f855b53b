"""One example's wishes: what a single image asks of every activation, weight, bias and pixel.

A nudge is what one would wish: minus the gradient of the example's cost, so that following it lowers the cost. The
numbers come from the same `backward`s that train the network; nothing is derived here a second time.
"""

import copy
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from bp_torch.engine import Backprop, Chain, Passage
from bp_torch.functional.tape import Tape
from bp_torch.inspection.dense_chain import dense_layers
from bp_torch.inspection.per_example import Cost


class Avenues(NamedTuple):
    """The three ways to change one neuron's weighted sum z = Σₖ wₖ xₖ + b, as far as its wish δ = −∂C/∂z asks.

    Attributes:
        bias: δ · 1; None where there is no bias.
        weights: δ · xₖ, in proportion to the activations they carry, (in,).
        inputs: δ · wₖ, the previous activations in proportion to the weights, (in,).
    """

    bias: float | None
    weights: Tensor
    inputs: Tensor


@dataclass(frozen=True)
class LayerExplanation:
    """A dense layer y = f(z), z = W x + b, as one example passes through it; all without the dimension N.

    Attributes:
        names: of W and of b in the model; None of a bias that is not there.
        weight: W, (out, in).
        bias: b, (out,), or None.
        inputs: x, the previous layer's activations or the pixels, (in,).
        weighted_inputs: z, (out,).
        activations: y, (out,).
        nudges: −∂C/∂y, what is wished of each activation, (out,).
        weighted_input_nudges: δ = −∂C/∂z = f′(z) · nudge, (out,).
        weight_nudges: −∂C/∂W = δ xᵀ, (out, in).
        bias_nudges: −∂C/∂b = δ, (out,), or None.
        contributions: δⱼ wⱼₖ, what neuron j alone asks of previous activation k, (out, in).
        input_nudges: −∂C/∂x = Wᵀ δ, the contributions of all neurons added up, (in,).
    """

    names: tuple[str, str | None]
    weight: Tensor
    bias: Tensor | None
    inputs: Tensor
    weighted_inputs: Tensor
    activations: Tensor
    nudges: Tensor
    weighted_input_nudges: Tensor
    weight_nudges: Tensor
    bias_nudges: Tensor | None
    contributions: Tensor
    input_nudges: Tensor

    def avenues(self, neuron: int) -> Avenues:
        """What one neuron asks for along each of its avenues."""
        bias = None if self.bias_nudges is None else self.bias_nudges[neuron].item()
        return Avenues(bias, self.weight_nudges[neuron], self.contributions[neuron])


@dataclass(frozen=True)
class Explanation:
    """What one example asks of a network, from its outputs down to its pixels, as the network was then.

    Attributes:
        cost: of this example.
        image: its pixels as the network takes them, (in,).
        target: what is wanted of the outputs, (classes,).
        layers: every dense layer, the first one first.
        difference: the largest difference of a gradient here from autograd's, of pixels, weights and biases, in units
            of the largest of its kind; NaN if one is.
    """

    cost: float
    image: Tensor
    target: Tensor
    layers: tuple[LayerExplanation, ...]
    difference: float

    @property
    def outputs(self) -> Tensor:
        """The last activations, (classes,)."""
        return self.layers[-1].activations

    @property
    def output_nudges(self) -> Tensor:
        """What is wished of them, (classes,); of the squared error in proportion to their distance from the target."""
        return self.layers[-1].nudges

    def chosen(self, output: int | None) -> int:
        """An output to look at: this one, or, of None, the one that is wanted most.

        Raises:
            ValueError: if there is none of that number.
        """
        if output is not None and not 0 <= output < len(self.outputs):
            raise ValueError(f"output must be from 0 to {len(self.outputs) - 1}, got {output}")
        return int(self.target.argmax()) if output is None else output

    @property
    def pixel_nudges(self) -> Tensor:
        """What is wished of every pixel, (in,): where the recursion ends."""
        return self.layers[0].input_nudges


def explain(
    model: torch.nn.Module, cost: Cost, image: Tensor, target: SupportsIndex | Tensor | Sequence[float]
) -> Explanation:
    """Follow one example forward, and its wishes back.

    Args:
        model: a chain of dense layers that `bp_torch.engine.Backprop` drives, such as `bp_torch.nn.mlp`'s; also one
            that is frozen.
        cost: its cost.
        image: as many pixels as the model has inputs, in any shape; uint8 from 0 to 255, or finite floats as the model
            takes them.
        target: a class index, which stands for 1 of that output and 0 of the others; or what is wanted of each output,
            (classes,).

    Returns:
        All activations and all wishes.

    Raises:
        TypeError: if the model is no chain of dense layers, or an argument is of the wrong kind.
        ValueError: if image or target do not fit the model.

    Source:
        The lecture's statements 6, 7 and 9.
    """
    with torch.inference_mode(False), torch.no_grad():
        learning = _learning(model)
        inputs = _row(learning, image)
        _require_chain(learning, inputs)
        wanted, targets = _wanted(cost, target, learning(inputs))
        value, passages = Backprop(learning, cost).trace(inputs, targets)
        layers = tuple(_layers(passages))
        difference = _difference(learning, cost, inputs, targets, layers)
        return Explanation(value.item(), inputs[0], wanted[0], layers, difference)


def _layers(passages: Sequence[Passage]) -> Iterator[LayerExplanation]:
    try:
        for layer in dense_layers(passages):
            yield _layer(layer[0], layer[-1])
    except TypeError as error:
        raise TypeError(f"explain(): {error}") from None


def _layer(weighted: Passage, active: Passage) -> LayerExplanation:
    """From where the weighted sum was passed, and where its activation was."""
    backward, context, wishes = weighted.link.function.backward, weighted.context, weighted.grad_output
    weight, bias = weighted.link.arguments
    context.needs_input_grad = (True, True, bias is not None)
    grad_input, grad_weight, grad_bias = backward(context, wishes)
    context.needs_input_grad = (True, False, False)
    each, *_ = backward(context, wishes[0].diag())  # every neuron's wish alone, as if it were an example: (out, in)
    return LayerExplanation(
        names=weighted.link.names,  # type: ignore[arg-type]
        weight=weight,
        bias=bias,
        inputs=weighted.input[0],
        weighted_inputs=weighted.output[0],
        activations=active.output[0],
        nudges=-active.grad_output[0],
        weighted_input_nudges=-wishes[0],
        weight_nudges=-grad_weight,
        bias_nudges=None if grad_bias is None else -grad_bias,
        contributions=-each,
        input_nudges=-grad_input[0],
    )


def _learning(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of which everything learns, and which stays as it is."""
    if not isinstance(model, torch.nn.Module) or not list(model.parameters()):
        raise TypeError(f"explain(): model must be a chain of dense layers, not {type(model).__name__} without any")
    return copy.deepcopy(model).requires_grad_()


def _require_chain(model: torch.nn.Module, inputs: Tensor) -> None:
    try:
        Chain(model, inputs)
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
        raise ValueError(
            f"explain(): image has {image.numel()} pixels, {tuple(image.shape)}, but the model takes {first.shape[1]}"
        )
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
    except (RuntimeError, TypeError, ValueError):  # as of nll_loss, which takes classes alone
        return wanted, wanted.argmax(1)
    return wanted, wanted


def _difference(
    model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor, layers: Sequence[LayerExplanation]
) -> float:
    """The largest relative difference from autograd, which differentiates what each function's `forward` does."""
    asked = {"": -layers[0].input_nudges.unsqueeze(0)}
    for layer in layers:
        for name, nudges in zip(layer.names, (layer.weight_nudges, layer.bias_nudges), strict=True):
            if name is not None and nudges is not None:
                asked[name] = asked.get(name, 0) - nudges  # a parameter that layers share is asked by each
    parameters = dict(model.named_parameters())
    with torch.enable_grad(), Tape():
        pixels = inputs.clone().requires_grad_()
        value = cost(model(pixels), targets)
        truths = torch.autograd.grad(value, [parameters.get(name, pixels) for name in asked])
    relative = [_relative(nudge, truth) for nudge, truth in zip(asked.values(), truths, strict=True)]
    return torch.stack(relative).max().item()  # which keeps NaN


def _relative(found: Tensor, truth: Tensor) -> Tensor:
    largest = truth.abs().max()
    return (found - truth).abs().max() / largest.clamp_min(torch.finfo(truth.dtype).tiny)
