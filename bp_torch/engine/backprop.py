"""Backpropagation as the lecture tells it: forward once, back once, and a step downhill."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.chain import Chain, Passage, Wish, of_activations, require_chain
from bp_torch.functional.tape import Context, Tape

_InferenceMode: Any = torch._C._InferenceMode  # torch.inference_mode(), without the 5 µs that making one takes
_LARGEST = torch.finfo(torch.float32).max


class Backprop:
    """Drives a chain of hand-written layers without autograd, by the very same `backward`s that autograd calls.

    A composition, such as a dense layer, is driven as the two Functions that it is composed of.

    The layers are read when the first mini-batch comes, and again when one of another kind does, or when layers,
    parameters or buffers of the model were exchanged or moved. Not watched are a layer's constants, such as a slope. A
    layer's hooks are called when it is read, a parameter's never. Half precision, which the functions widen inside, is
    not driven.

    Attributes:
        model: the chain; its parameters are changed in place.
        cost: what it is to make small.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        cost: Callable[[Tensor, Tensor], Tensor],
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """Take a model and its cost.

        Args:
            model: a torch.nn.Sequential of `bp_torch.nn` layers, or such chains nested.
            cost: a cost of `bp_torch.functional` or `bp_torch.nn`, called with outputs and targets.
            momentum: μ, from 0.
            weight_decay: λ, from 0.

        Raises:
            ValueError: if `momentum` or `weight_decay` is negative, or beyond float32.
            TypeError: if `model` is no module.
        """
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"Backprop: model must be a torch.nn.Module, not {type(model).__name__}")
        for name, value in {"momentum": momentum, "weight_decay": weight_decay}.items():
            _require_rate(name, value)
        self.model = model
        self.cost = cost
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._velocity: dict[str, Tensor] = {}
        self._parameters: dict[str, Tensor] = {}
        self._chain: Chain | None = None

    @torch.no_grad()
    def walk(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, list[Wish]]:
        """Forward through the chain, and back to the lowest layer that learns.

        Args:
            inputs: (N, in), as the model takes them.
            targets: as the cost takes them.

        Returns:
            The cost, and what is asked of each link that learns, the last link first.

        Raises:
            TypeError: naming the layer or cost that is not made of hand-written functions alone.
            ValueError, RuntimeError, IndexError: from the layers and the cost, if what they are given does not fit.
        """
        return self._walk(inputs, targets)

    def _walk(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, list[Wish]]:
        chain = self._chain_for(inputs)
        activation, passed = inputs, []
        for link in chain.links:  # forward: each layer's activations from those before
            given, context = (activation, *link.arguments), Context(link.passes_on)
            activation = link.function.forward(*given)
            link.function.setup_context(context, given, activation)
            passed.append((link, context, activation.shape, activation.sum() if link.watched else None))
        cost, grad = self._nudges(chain, activation, targets)  # what the cost asks of the outputs
        wishes = []
        for link, context, shape, total in reversed(passed):  # backward: what that asks of each layer before
            if link.learns:
                wishes.append(Wish(link, context, shape, total, grad))
            if link is chain.lowest:
                break
            grad = of_activations(link.function.backward(context, grad))
        return cost, wishes

    @torch.no_grad()
    def trace(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, list[Passage]]:
        """The same walk down to the inputs, with everything that is met on it kept.

        Args:
            inputs: (N, in), as the model takes them.
            targets: as the cost takes them.

        Returns:
            The cost, and each link as it was passed, the first link first.

        Raises:
            As `walk`.
        """
        chain, activation = self._chain_for(inputs), inputs
        with Tape() as tape:
            for link in chain.links:
                activation = tape.apply(link.function, activation, *link.arguments)
        cost, grad = self._nudges(chain, activation, targets)
        passages = []
        for link, call in zip(reversed(chain.links), reversed(tape), strict=True):
            grad_output, grad = grad, of_activations(call.function.backward(call.context, grad))
            passages.append(Passage(link, call.context, call.inputs[0], call.output, grad_output, grad))
        return cost, passages[::-1]

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The gradient of every parameter that needs one.

        Args:
            inputs: (N, in), as the model takes them.
            targets: as the cost takes them.

        Returns:
            The cost, a scalar, and ∂C/∂parameter by the parameter's name.

        Raises:
            As `walk`. What is not finite is returned as it is.
        """
        with torch.no_grad():
            cost, wishes = self._walk(inputs, targets)
            gradients: dict[str, Tensor] = {}
            for wish in wishes:
                for name, gradient in zip(wish.link.names, wish.gradients(), strict=True):
                    if name is not None:  # a parameter met twice is asked twice
                        gradients[name] = gradients[name] + gradient if name in gradients else gradient
        return cost, {name: gradients[name] for name, _ in self.model.named_parameters() if name in gradients}

    def sgd_step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """One step downhill, in place: w ← w − η (∂C/∂w + λ w), or with momentum v ← μ v + ∂C/∂w + λ w; w ← w − η v.

        Args:
            inputs: (N, in), as the model takes them.
            targets: as the cost takes them.
            learning_rate: η, from 0.

        Returns:
            The cost before the step, a scalar; made in inference mode, so clone it to reckon with it in place.

        Raises:
            ValueError: if the learning rate is negative, or beyond float32.
            FloatingPointError: naming the layer, if the cost, the sum of what a layer gives, or the gradient that
                reaches it is not finite. Not looked for is what overflows only when these are multiplied.
            Otherwise as `walk`; nothing has been changed then.
        """
        _require_rate("learning_rate", learning_rate * max(1.0, self._weight_decay))
        with _InferenceMode(True):
            cost, wishes = self._walk(inputs, targets)
            _require_applicable(cost, wishes)
            additions = [_addition(wish) for wish in wishes]
            self._descend(wishes, additions, learning_rate)
        return cost

    def state_dict(self) -> dict[str, Tensor]:
        """What is remembered from step to step: with momentum, the velocity v of each parameter by its name."""
        return dict(self._velocity)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what was remembered; copies are made.

        Args:
            state: as `state_dict` gave it, for the same model.

        Raises:
            ValueError: if it is not of this model's parameters.
        """
        shapes = {name: parameter.shape for name, parameter in self.model.named_parameters()}
        for name, velocity in state.items():
            if not self._momentum or shapes.get(name) != velocity.shape:
                raise ValueError(f"Backprop: there is no velocity of {name!r} of shape {tuple(velocity.shape)}")
        self._velocity = {name: velocity.clone() for name, velocity in state.items()}
        self._chain = None  # so that a velocity is made for those that came without

    def _descend(self, wishes: Sequence[Wish], additions: Sequence[Callable[..., None]], learning_rate: float) -> None:
        """Add the gradients to the parameters, or to their velocities and these to the parameters."""
        parameters, decay = self._parameters, self._weight_decay
        if self._momentum:
            for name, parameter in parameters.items():
                self._velocity[name].mul_(self._momentum).add_(parameter, alpha=decay)
            for wish, add in zip(wishes, additions, strict=True):
                add(tuple(self._velocity[name] if name else None for name in wish.link.names), 1.0)
            for name, parameter in parameters.items():
                parameter.add_(self._velocity[name], alpha=-learning_rate)
            return
        if decay:
            for parameter in parameters.values():
                parameter.mul_(1 - learning_rate * decay)
        for wish, add in zip(wishes, additions, strict=True):
            add(wish.link.parameters, -learning_rate)

    def _nudges(self, chain: Chain, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The cost, and ∂C/∂outputs."""
        with Tape() as tape:
            cost = self.cost(outputs, targets)
        require_chain("the cost", tape, outputs, cost, targets)
        if chain.cost is not self.cost:
            self._require_cost(outputs, targets, cost)
            chain.cost = self.cost
        grad = chain.one
        for call in reversed(tape):
            grad = of_activations(call.function.backward(call.context, grad))
        return cost, grad

    def _require_cost(self, outputs: Tensor, targets: Tensor, cost: Tensor) -> None:
        """Raise unless it is one number, and of nothing that learns but the outputs."""
        if cost.dim():
            raise ValueError(
                f"Backprop: the cost must be one number, not {tuple(cost.shape)}; reduce it to a mean or sum"
            )
        with torch.inference_mode(False), torch.enable_grad(), Tape() as again:
            self.cost(outputs.clone().requires_grad_(), targets)
        for argument in (argument for call in again for argument in call.inputs[1:]):
            if isinstance(argument, Tensor) and argument.requires_grad:
                raise TypeError("Backprop cannot drive the cost: it is of more that learns than the outputs")

    def _chain_for(self, inputs: Tensor) -> Chain:
        """The chain, read anew where the inputs are of another kind than before, or the model was changed."""
        if not isinstance(inputs, Tensor):
            raise TypeError(f"Backprop: inputs must be a Tensor, not {type(inputs).__name__}")
        if self._chain is None or not self._chain.fits(self.model, inputs):
            with torch.inference_mode(False), torch.no_grad():
                self._chain = Chain(self.model, inputs)
                self._parameters = self._chain.parameters
                if self._momentum:
                    self._velocity |= {name: self._velocity_of(name, p) for name, p in self._parameters.items()}
        return self._chain

    def _velocity_of(self, name: str, parameter: Tensor) -> Tensor:
        """The one it had, if it had one of its shape."""
        kept = self._velocity.get(name)
        return torch.zeros_like(parameter) if kept is None or kept.shape != parameter.shape else kept.to(parameter)


def _addition(wish: Wish) -> Callable[..., None]:
    """How a link's gradients are added to what learns: by its Function's own statement, or as they stand."""
    if accumulate := wish.link.function.accumulate:
        return partial(accumulate, wish.context, wish.grad_output)
    gradients = wish.gradients()
    for name, gradient in zip(wish.link.names, gradients, strict=True):
        if name is not None and not gradient.isfinite().all():
            raise FloatingPointError(f"the gradient of {name!r} is not finite")
    return partial(_add, gradients)


def _add(gradients: Sequence[Any], into: Sequence[Tensor | None], alpha: float) -> None:
    for tensor, gradient in zip(into, gradients, strict=True):
        if tensor is not None:
            tensor.add_(gradient, alpha=alpha)


def _require_rate(name: str, value: float) -> None:
    if not 0 <= value <= _LARGEST:
        raise ValueError(f"Backprop: {name} must be a number from 0 to {_LARGEST:.2g}, got {value}")


def _require_applicable(cost: Tensor, wishes: Sequence[Wish]) -> None:
    """Raise if a step would write what is not finite, or fail half-way: a sum shows both NaN and infinity."""
    total = cost.item()
    for link, _, shape, given, grad_output in wishes:
        if grad_output.shape != shape:
            raise RuntimeError(
                f"Backprop: layer {link.layer} gave {tuple(shape)} but is asked for {tuple(grad_output.shape)}: the "
                "backward of the function after it is wrong"
            )
        total += grad_output.sum().item() + (0.0 if given is None else given.item())
    if not math.isfinite(total) and (what := _not_finite(cost, wishes)):
        raise FloatingPointError(what)


def _not_finite(cost: Tensor, wishes: Sequence[Wish]) -> str | None:
    """What is not finite first, as it was computed; nothing, where gradients were only too large to be summed."""
    for wish in reversed(wishes):
        if wish.total is not None and not wish.total.isfinite():
            return f"the sum of what layer {wish.link.layer} gives is not finite: {wish.total.item()}"
    if not cost.isfinite():
        return f"the cost is not finite: {cost.item()}"
    for wish in wishes:
        if not wish.grad_output.isfinite().all():
            return f"the gradient that reaches layer {wish.link.layer} is not finite"
    return None
