"""Backpropagation as the lecture tells it: forward once, back once, and a step downhill."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.operations import unsupported
from bp_torch.engine.tape import Call, Tape, backward, walk
from bp_torch.functional.function import Context, constant

_InferenceMode: Any = torch._C._InferenceMode  # torch.inference_mode() takes 4 µs
_WRAPPERS = "DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "OptimizedModule", "ScriptModule"
_LARGEST = torch.finfo(torch.float32).max
_LARGEST_HALF = torch.finfo(torch.float16).max

Inputs = Tensor | Sequence[Tensor]
"""Of a model: one Tensor, or several, one for each argument."""


class Backprop:
    """Trains a model without autograd, by the very `backward`s that autograd calls.

    Each step records the model anew, so it may branch, share layers, and change from step to step. Its differentiable
    work must be done by functions of `bp_torch`, or your own that derive from `bp_torch.functional.function.Function`.

    Attributes:
        model: its parameters are changed in place.
        cost: the function to minimise.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        cost: Callable[[Any, Any], Tensor],
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """Take a model and its cost.

        Args:
            model: any module that is made of `bp_torch` functions.
            cost: called with the model's outputs and the targets; returns a scalar.
            momentum: μ, from 0.
            weight_decay: λ, from 0.

        Raises:
            ValueError: if `momentum` or `weight_decay` is negative, or beyond float32; or if a parameter is expanded.
            TypeError: if `model` is not a module, or is wrapped for autograd: compiled or distributed.
        """
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"Backprop: model must be a torch.nn.Module, not {type(model).__name__}")
        if type(model).__name__ in _WRAPPERS:
            raise TypeError(f"Backprop: give it the model itself, not a {type(model).__name__}")
        for name, parameter in model.named_parameters():
            if any(stride == 0 and size > 1 for stride, size in zip(parameter.stride(), parameter.shape, strict=True)):
                raise ValueError(f"Backprop: {name!r} is expanded, so it cannot be changed in place; clone it")
        _require_rates(momentum=momentum, weight_decay=weight_decay)
        self.model = model
        self.cost = cost
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._velocity: dict[str, Tensor] = {}

    def trace(self, inputs: Inputs, targets: Any) -> tuple[Tensor, Tape]:
        """Run model and cost, and record every call with the module that made it: "" in the cost.

        Args:
            inputs: (N, ...), as the model takes them; a tuple for several.
            targets: as the cost takes them.

        Returns:
            The cost, and the tape, for `bp_torch.engine.backward`. It gives the inputs a gradient too, if they require
            one.

        Raises:
            TypeError: naming the operation and the module, if a differentiable operation is not of `bp_torch`.
            ValueError: if the cost is not a scalar, or depends on nothing that requires a gradient.
            ValueError, RuntimeError, IndexError: from the functions, if what they are given does not fit.
        """
        return self._record(inputs, targets, self.model)

    def gradients(self, inputs: Inputs, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The gradient of every parameter that requires one and that the cost depends on.

        Args:
            inputs: (N, ...), as the model takes them; a tuple for several.
            targets: as the cost takes them.

        Returns:
            The cost, a scalar, and ∂C/∂parameter by the parameter's name.

        Raises:
            As `trace`. What is not finite is returned as it is.
        """
        cost, tape = self._record_quickly(inputs, targets)
        with torch.no_grad():
            found = backward(tape, cost)
        names = self.model.named_parameters()
        return cost.detach(), {name: found[parameter] for name, parameter in names if parameter in found}

    def sgd_step(self, inputs: Inputs, targets: Any, learning_rate: float) -> Tensor:
        """One step downhill, in place: w ← w − η (∂C/∂w + λ w), or with momentum v ← μ v + ∂C/∂w + λ w; w ← w − η v.

        Args:
            inputs: (N, ...), as the model takes them; a tuple for several.
            targets: as the cost takes them.
            learning_rate: η, from 0.

        Returns:
            The cost before the step, a scalar.

        Raises:
            ValueError: if the learning rate is negative, or beyond float32.
            FloatingPointError: naming the module, if the cost or a gradient is not finite. Of a function with
                `accumulate`, the factors are looked at, not the product that is added.
            Otherwise as `trace`. No parameter has been changed then; the model was run once more, to name the module.
        """
        _require_rates(learning_rate=learning_rate * max(1.0, self._weight_decay))
        if learning_rate > _LARGEST_HALF and any(p.dtype == torch.float16 for p in self.model.parameters()):
            raise ValueError(f"Backprop: learning_rate must be at most {_LARGEST_HALF} for parameters of float16")
        cost, tape = self._record_quickly(inputs, targets)
        with _InferenceMode(True):
            update = self._backward(tape, cost)
            if not update.finite():
                raise FloatingPointError(self._not_finite(inputs, targets))
            self._apply(update, learning_rate)
        return cost.detach()

    def state_dict(self) -> dict[str, Tensor]:
        """What is kept from step to step: with momentum, the velocity v of each parameter by its name."""
        return dict(self._velocity)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what was kept; copies are made.

        Args:
            state: as `state_dict` gave it, for the same model.

        Raises:
            ValueError: if it does not fit this model's parameters.
        """
        shapes = {name: parameter.shape for name, parameter in self.model.named_parameters()}
        for name, velocity in state.items():
            if not self._momentum or shapes.get(name) != velocity.shape:
                raise ValueError(f"Backprop: there is no velocity of {name!r} of shape {tuple(velocity.shape)}")
        self._velocity = {name: velocity.clone() for name, velocity in state.items()}

    def _record_quickly(self, inputs: Inputs, targets: Any) -> tuple[Tensor, Tape]:
        """`trace` without names; they take time, and only errors need them."""
        try:
            return self._record(inputs, targets)
        except (TypeError, RuntimeError):
            self.trace(inputs, targets)
            raise

    def _record(self, inputs: Inputs, targets: Any, model: torch.nn.Module | None = None) -> tuple[Tensor, Tape]:
        given = [_without_graph(input) for input in (inputs if isinstance(inputs, tuple | list) else (inputs,))]
        for input in given:
            if not isinstance(input, Tensor):
                raise TypeError(f"Backprop: inputs must be a Tensor or several, not {type(input).__name__}")
        tape = Tape(model, given)
        with _InferenceMode(False), tape:  # gradients are enabled there
            outputs = self.model(*given)
            tape.model_calls = len(tape)
            cost = self.cost(outputs, _without_graph(targets))
        if not isinstance(cost, Tensor):
            raise TypeError(f"Backprop: the cost must be a Tensor, not {type(cost).__name__}")
        if cost.grad_fn is not None:
            raise unsupported(cost, tape.operations)
        if cost.dim():
            raise ValueError(f"Backprop: the cost must be a scalar, not {tuple(cost.shape)}; reduce it by mean or sum")
        if not cost.requires_grad:
            raise ValueError("Backprop: the cost depends on no parameter that needs a gradient")
        return cost, tape

    def _backward(self, tape: Tape, cost: Tensor) -> "_Update":
        """Walk the tape, and forget it on the way."""
        own, update = _own_parameters(self.model, {}), _Update(cost)
        gradients = {cost: constant(1.0, cost.shape, cost.dtype, cost.device)}
        for call, grad_output in walk(_emptied(tape), gradients):
            if call.function.accumulate is not None:
                update.fuse(call, grad_output, own)
        update.added = [(x, gradient) for x, gradient in gradients.items() if id(x) in own]
        return update

    def _apply(self, update: "_Update", learning_rate: float) -> None:
        """Add gradients to the parameters, or with momentum to their velocities and these to the parameters."""
        velocities = self._decay(update, learning_rate) if self._momentum or self._weight_decay else {}
        alpha = 1.0 if self._momentum else -learning_rate
        for parameter, gradient in update.added:
            velocities.get(parameter, parameter).add_(gradient, alpha=alpha)
        for function, ctx, own, grad_output in update.fused:
            function.accumulate(ctx, grad_output, [velocities.get(p, p) for p in own] if velocities else own, alpha)
        for parameter, velocity in velocities.items():
            parameter.add_(velocity, alpha=-learning_rate)

    def _decay(self, update: "_Update", learning_rate: float) -> dict[Any, Tensor]:
        """Decay the parameters; or with momentum their velocities, to which gradients are then added."""
        learned = {*(p for p, _ in update.added), *(p for _, _, own, _ in update.fused for p in own)}
        changed = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter in learned]
        if not self._momentum:
            for _, parameter in changed:
                parameter.mul_(1 - learning_rate * self._weight_decay)
            return {}
        velocities = {parameter: self._velocity_of(name, parameter) for name, parameter in changed}
        for parameter, velocity in velocities.items():
            velocity.mul_(self._momentum).add_(parameter, alpha=self._weight_decay)
        return velocities

    def _velocity_of(self, name: str, parameter: Tensor) -> Tensor:
        """The one from the steps before, if there is one of the parameter's shape."""
        velocity = self._velocity.get(name)
        with torch.inference_mode(False), torch.no_grad():
            if velocity is None or velocity.shape != parameter.shape:
                velocity = torch.zeros_like(parameter)
            self._velocity[name] = velocity.to(parameter)
        return self._velocity[name]

    def _not_finite(self, inputs: Inputs, targets: Any) -> str:
        """Where numbers stop being finite, in the order in which they are computed."""
        cost, tape = self.trace(inputs, targets)
        gradients = backward(tape, cost)
        inner = tape[: tape.model_calls]
        places = [(f"the output of module {call.module} is not finite", call.output) for call in inner]
        places += [(f"the cost is not finite: {cost.item()}", cost)]
        for call in reversed(inner):
            if call.output in gradients:
                place = f"the gradient of the output of module {call.module} is not finite"
                places += [(place, gradients[call.output])]
        names = self.model.named_parameters()
        places += [(f"the gradient of {name!r} is not finite", gradients[p]) for name, p in names if p in gradients]
        found = (place for place, tensor in places if not tensor.isfinite().all())
        return next(found, "the cost or a gradient is not finite")


def _without_graph(value: Any) -> Any:
    """A Tensor without what autograd knows of it, where it comes from elsewhere."""
    return value.detach() if isinstance(value, Tensor) and value.grad_fn is not None else value


def _own_parameters(module: torch.nn.Module, found: dict[int, int]) -> dict[int, int]:
    """By the id of each of `module.parameters()`, which takes three times as long, the address of its memory."""
    for parameter in module._parameters.values():
        if parameter is not None:
            found[id(parameter)] = parameter.untyped_storage().data_ptr()
    for child in module._modules.values():
        if child is not None:
            _own_parameters(child, found)
    return found


def _emptied(tape: Tape) -> Iterator[Call]:
    """The calls, the last one first; each is dropped with what it holds, once its gradients are there."""
    while tape:
        yield tape.pop()


def _require_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 <= rate <= _LARGEST:
            raise ValueError(f"Backprop: {name} must be a number from 0 to {_LARGEST:.2g}, got {rate}")


class _Update:
    """What a step adds to the parameters.

    Attributes:
        added: parameters and their gradients.
        fused: of a call that adds its parameters' gradients as it multiplies them out, its function, what it saved,
            these parameters, one for each input after the first or None, and ∂C/∂output.
    """

    def __init__(self, cost: Tensor) -> None:
        self.added: list[tuple[Tensor, Tensor]] = []
        self.fused: list[tuple[Any, Context, list[Tensor | None], Tensor]] = []
        self._cost = cost
        self._sums = [cost]

    def fuse(self, call: Call, grad_output: Tensor, own: dict[int, int]) -> None:
        """Leave the gradients of a call's parameters to its function, if all that need one are the model's own.

        Not if one of the two factors shares a parameter's memory: another call might change it before.
        """
        first, *needs = call.ctx.needs_input_grad
        into = [input if needed else None for input, needed in zip(call.inputs[1:], needs, strict=True)]
        if True not in needs or not all([x is None or id(x) in own for x in into]):
            return
        if not any([x.untyped_storage().data_ptr() in own.values() for x in (call.inputs[0], grad_output)]):
            call.ctx.needs_input_grad = first, *[False] * len(into)
            self.fused.append((call.function, call.ctx, into, grad_output))
            self._sums += [call.output.sum(), grad_output.sum()]  # an infinite input shows in the output

    def finite(self) -> bool:
        """One sum shows both NaN and infinity; only if it does, each Tensor is looked at: a sum may overflow alone."""
        gradients = [gradient for _, gradient in self.added]
        if math.isfinite(torch.stack([*self._sums, *(gradient.sum() for gradient in gradients)]).sum().item()):
            return True
        products = [factor for _, ctx, _, grad_output in self.fused for factor in (*ctx.saved_tensors, grad_output)]
        return all(x is None or bool(x.isfinite().all()) for x in (self._cost, *gradients, *products))
