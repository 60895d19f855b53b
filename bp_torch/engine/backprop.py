"""Training without autograd: forward on a tape, backward through it, and a step of SGD."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.operations import unsupported_error
from bp_torch.engine.tape import Call, Tape, backpropagate, backward
from bp_torch.engine.undisturbed import undisturbed
from bp_torch.functional.function import Context, constant

_InferenceMode: Any = torch._C._InferenceMode  # without the Python wrapper, which takes 4 µs
_WRAPPERS = "DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "OptimizedModule", "ScriptModule"
_LARGEST = torch.finfo(torch.float32).max
_LARGEST_HALF = torch.finfo(torch.float16).max

Inputs = Tensor | Sequence[Tensor]
"""A model's inputs: one Tensor, or a sequence with one for each argument."""


class Backprop:
    """Trains a model without autograd, by the same `backward`s that autograd calls.

    The model is recorded at each step, so it may branch, share layers and change. Its differentiable operations must be
    functions of `bp_torch`, or your own subclasses of `bp_torch.functional.function.Function`.

    Attributes:
        model: the module whose parameters are updated in place.
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
        """Check and store the arguments.

        Args:
            model: a module whose differentiable operations are functions of `bp_torch`.
            cost: called with the model's outputs and the targets; returns a scalar.
            momentum: μ ≥ 0.
            weight_decay: λ ≥ 0.

        Raises:
            ValueError: if `momentum` or `weight_decay` is negative or exceeds float32, or a parameter is expanded.
            TypeError: if `model` is not a module, or is a wrapper for autograd: compiled or distributed.
        """
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"Backprop: model must be a torch.nn.Module, not {type(model).__name__}")
        if type(model).__name__ in _WRAPPERS:
            raise TypeError(f"Backprop: model must be the module itself, not a {type(model).__name__} around it")
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
        """Run the model and the cost, and record every call with the name of its module.

        Args:
            inputs: (N, ...), as the model takes them; a tuple for several.
            targets: as the cost takes them.

        Returns:
            The cost, and the tape for `bp_torch.engine.backward`, which includes ∂C/∂input if an input requires a
            gradient.

        Raises:
            TypeError: naming operation and module, if a differentiable operation is not a function of `bp_torch`.
            ValueError: if the cost is not a scalar, or depends on nothing that requires a gradient.
            ValueError, RuntimeError, IndexError: from the functions, for arguments that do not match.
        """
        return self._record(inputs, targets, self.model)

    def gradients(self, inputs: Inputs, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the gradient of every parameter that requires one and affects the cost.

        Args:
            inputs: (N, ...), as the model takes them; a tuple for several.
            targets: as the cost takes them.

        Returns:
            The cost, a scalar, and ∂C/∂parameter by parameter name.

        Raises:
            As `trace`. Non-finite gradients do not raise.
        """
        cost, tape = self._record_unnamed(inputs, targets)
        with torch.no_grad():
            gradients = backward(tape, cost)
        names = self.model.named_parameters()
        return cost.detach(), {name: gradients[parameter] for name, parameter in names if parameter in gradients}

    def sgd_step(self, inputs: Inputs, targets: Any, learning_rate: float) -> Tensor:
        """One step of SGD, in place: w ← w − η (∂C/∂w + λ w), or with momentum v ← μ v + ∂C/∂w + λ w; w ← w − η v.

        Args:
            inputs: (N, ...), as the model takes them; a tuple for several.
            targets: as the cost takes them.
            learning_rate: η ≥ 0.

        Returns:
            The cost before the step, a scalar.

        Raises:
            ValueError: if the learning rate is negative or exceeds float32.
            FloatingPointError: naming the module, if the cost or a gradient is not finite. For a function with
                `accumulate` the factors of the gradient are checked, not their product.
            Otherwise as `trace`. No parameter is changed then, but running statistics are, as by any forward pass.
        """
        _require_rates(learning_rate=learning_rate * max(1.0, self._weight_decay))
        if learning_rate > _LARGEST_HALF and any(p.dtype == torch.float16 for p in self.model.parameters()):
            raise ValueError(f"Backprop: learning_rate must be at most {_LARGEST_HALF} for parameters of float16")
        cost, tape = self._record_unnamed(inputs, targets)
        with _InferenceMode(True):
            update = self._backward(tape, cost)
            if not update.is_finite():
                raise FloatingPointError(self._describe_non_finite(inputs, targets))
            self._apply_update(update, learning_rate)
        return cost.detach()

    def state_dict(self) -> dict[str, Tensor]:
        """The velocity v of each parameter by name; empty without momentum."""
        return dict(self._velocity)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the velocities; they are copied.

        Args:
            state: the `state_dict` of a Backprop with the same model.

        Raises:
            ValueError: if it does not match this model's parameters, or there is no momentum.
        """
        shapes = {name: parameter.shape for name, parameter in self.model.named_parameters()}
        for name, velocity in state.items():
            if not self._momentum or shapes.get(name) != velocity.shape:
                shape = tuple(velocity.shape)
                raise ValueError(f"Backprop: {name!r} has no velocity of shape {shape}; load the same model's state")
        self._velocity = {name: velocity.clone() for name, velocity in state.items()}

    def _record_unnamed(self, inputs: Inputs, targets: Any) -> tuple[Tensor, Tape]:
        """`trace` without module names, which take time and are needed for errors only."""
        try:
            return self._record(inputs, targets)
        except (TypeError, RuntimeError):
            self.trace(inputs, targets)
            raise

    def _record(self, inputs: Inputs, targets: Any, model: torch.nn.Module | None = None) -> tuple[Tensor, Tape]:
        tensors = [_detached(input) for input in (inputs if isinstance(inputs, tuple | list) else (inputs,))]
        for input in tensors:
            if not isinstance(input, Tensor):
                raise TypeError(f"Backprop: inputs must be Tensors, not {type(input).__name__}")
        tape = Tape(model, tensors)
        with _InferenceMode(False), tape:  # also enables gradients
            outputs = self.model(*tensors)
            tape.model_calls = len(tape)
            cost = self.cost(outputs, _detached(targets))
        if not isinstance(cost, Tensor):
            raise TypeError(f"Backprop: the cost must be a Tensor, not {type(cost).__name__}")
        if cost.grad_fn is not None:
            raise unsupported_error(cost, tape.tracker)
        if cost.dim():
            raise ValueError(f"Backprop: the cost must be a scalar, not {tuple(cost.shape)}; reduce it by mean or sum")
        if not cost.requires_grad:
            raise ValueError("Backprop: the cost depends on no parameter that requires a gradient")
        return cost, tape

    def _backward(self, tape: Tape, cost: Tensor) -> "_Update":
        """Compute all gradients; the tape is emptied on the way, to free memory."""
        addresses, update = _parameter_addresses(self.model, {}), _Update(cost)
        gradients = {cost: constant(1.0, cost.shape, cost.dtype, cost.device)}
        for call, grad_output in backpropagate(_pop_calls(tape), gradients):
            if call.function.accumulate is not None:
                update.fuse(call, grad_output, addresses)
        update.added = [(x, gradient) for x, gradient in gradients.items() if id(x) in addresses]
        return update

    def _apply_update(self, update: "_Update", learning_rate: float) -> None:
        """Update the parameters, or with momentum first the velocities and then the parameters."""
        velocities = self._decay(update, learning_rate) if self._momentum or self._weight_decay else {}
        alpha = 1.0 if self._momentum else -learning_rate
        for parameter, gradient in update.added:
            velocities.get(parameter, parameter).add_(gradient, alpha=alpha)
        for function, ctx, parameters, grad_output in update.fused:
            into = [velocities.get(p, p) for p in parameters] if velocities else parameters
            function.accumulate(ctx, grad_output, into, alpha)
        for parameter, velocity in velocities.items():
            parameter.add_(velocity, alpha=-learning_rate)

    def _decay(self, update: "_Update", learning_rate: float) -> dict[Any, Tensor]:
        """Apply weight decay and the factor μ; return the velocities by parameter, none without momentum."""
        updated = {*(p for p, _ in update.added), *(p for _, _, parameters, _ in update.fused for p in parameters)}
        named = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter in updated]
        if not self._momentum:
            for _, parameter in named:
                parameter.mul_(1 - learning_rate * self._weight_decay)
            return {}
        velocities = {parameter: self._get_velocity(name, parameter) for name, parameter in named}
        for parameter, velocity in velocities.items():
            velocity.mul_(self._momentum).add_(parameter, alpha=self._weight_decay)
        return velocities

    def _get_velocity(self, name: str, parameter: Tensor) -> Tensor:
        """The velocity from earlier steps, or zeros if the parameter has none of its shape."""
        velocity = self._velocity.get(name)
        with torch.inference_mode(False), torch.no_grad():
            if velocity is None or velocity.shape != parameter.shape:
                velocity = torch.zeros_like(parameter)
            self._velocity[name] = velocity.to(parameter)
        return self._velocity[name]

    def _describe_non_finite(self, inputs: Inputs, targets: Any) -> str:
        """Name the first non-finite Tensor, in the order of computation."""
        with undisturbed(self.model):
            cost, tape = self.trace(inputs, targets)
        gradients = backward(tape, cost)
        model_calls = tape[: tape.model_calls]
        named = [(f"the output of module {call.module} is not finite", call.output) for call in model_calls]
        named += [(f"the cost is not finite: {cost.item()}", cost)]
        for call in reversed(model_calls):
            if call.output in gradients:
                message = f"the gradient of the output of module {call.module} is not finite"
                named += [(message, gradients[call.output])]
        names = self.model.named_parameters()
        named += [(f"the gradient of {name!r} is not finite", gradients[p]) for name, p in names if p in gradients]
        messages = (message for message, tensor in named if not tensor.isfinite().all())
        return next(messages, "the cost or a gradient is not finite")


def _detached(value: Any) -> Any:
    """Detach a Tensor with an autograd graph; return all else unchanged."""
    return value.detach() if isinstance(value, Tensor) and value.grad_fn is not None else value


def _parameter_addresses(module: torch.nn.Module, addresses: dict[int, int]) -> dict[int, int]:
    """The memory address of each parameter, by id. `module.parameters()` would take three times as long."""
    for parameter in module._parameters.values():
        if parameter is not None:
            addresses[id(parameter)] = parameter.untyped_storage().data_ptr()
    for child in module._modules.values():
        if child is not None:
            _parameter_addresses(child, addresses)
    return addresses


def _pop_calls(tape: Tape) -> Iterator[Call]:
    """Yield the calls in reverse, and drop each one after its backward."""
    while tape:
        yield tape.pop()


def _require_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 <= rate <= _LARGEST:
            raise ValueError(f"Backprop: {name} must be a number from 0 to {_LARGEST:.2g}, got {rate}")


class _Update:
    """The update of one step.

    Attributes:
        added: parameters and their gradients.
        fused: calls whose `accumulate` computes and adds the gradients in one operation: the function, its ctx, the
            parameters (one or None for each input after the first), and ∂C/∂output.
    """

    def __init__(self, cost: Tensor) -> None:
        self.added: list[tuple[Tensor, Tensor]] = []
        self.fused: list[tuple[Any, Context, list[Tensor | None], Tensor]] = []
        self._cost = cost
        self._sums = [cost]

    def fuse(self, call: Call, grad_output: Tensor, addresses: dict[int, int]) -> None:
        """Defer the gradients of a call's parameters to `accumulate`, if all that need one belong to the model.

        Skipped if a factor of the gradient shares memory with a parameter: an earlier update would change it.
        """
        first, *needs = call.ctx.needs_input_grad
        into = [input if needed else None for input, needed in zip(call.inputs[1:], needs, strict=True)]
        if True not in needs or not all([x is None or id(x) in addresses for x in into]):
            return
        if not any([x.untyped_storage().data_ptr() in addresses.values() for x in (call.inputs[0], grad_output)]):
            call.ctx.needs_input_grad = first, *[False] * len(into)
            self.fused.append((call.function, call.ctx, into, grad_output))
            self._sums += [call.output.sum(), grad_output.sum()]  # an infinite input shows in the output

    def is_finite(self) -> bool:
        """Whether the cost and all gradients are finite."""
        # one sum detects NaN and infinity; only then are the Tensors checked, as a sum of finite numbers may overflow
        gradients = [gradient for _, gradient in self.added]
        if math.isfinite(torch.stack([*self._sums, *(gradient.sum() for gradient in gradients)]).sum().item()):
            return True
        factors = [factor for _, ctx, _, grad_output in self.fused for factor in (*ctx.saved_tensors, grad_output)]
        return all(x is None or bool(x.isfinite().all()) for x in (self._cost, *gradients, *factors))
