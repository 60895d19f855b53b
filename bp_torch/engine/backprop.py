"""Training without autograd: forward on a tape, backward through it, and a step of SGD or AdamW."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.operations import unsupported_error
from bp_torch.engine.optimizers import SGD, AdamW, Update
from bp_torch.engine.tape import Call, Tape, backpropagate, backward
from bp_torch.engine.undisturbed import undisturbed
from bp_torch.functional.function import constant

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
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """Check and store the arguments.

        Args:
            model: a module whose differentiable operations are functions of `bp_torch`.
            cost: called with the model's outputs and the targets; returns a scalar.
            momentum: μ ≥ 0, of SGD.
            weight_decay: λ ≥ 0.
            betas: β₁ and β₂ in [0, 1), of AdamW.
            eps: ε ≥ 0, of AdamW.

        Raises:
            ValueError: if a number is out of its range or exceeds float32, or a parameter is expanded.
            TypeError: if `model` is not a module, or is a wrapper for autograd: compiled or distributed.
        """
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"Backprop: model must be a torch.nn.Module, not {type(model).__name__}")
        if type(model).__name__ in _WRAPPERS:
            raise TypeError(f"Backprop: model must be the module itself, not a {type(model).__name__} around it")
        for name, parameter in model.named_parameters():
            if any(stride == 0 and size > 1 for stride, size in zip(parameter.stride(), parameter.shape, strict=True)):
                raise ValueError(f"Backprop: {name!r} is expanded, so it cannot be changed in place; clone it")
        _require_rates(momentum=momentum, weight_decay=weight_decay, eps=eps)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Backprop: betas must be from 0 to below 1, got {betas}")
        self.model = model
        self.cost = cost
        self._weight_decay = weight_decay
        self._sgd = SGD(momentum, weight_decay)
        self._adamw = AdamW(betas, eps, weight_decay)

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
        return self._step(self._sgd, inputs, targets, learning_rate)

    def adamw_step(self, inputs: Inputs, targets: Any, learning_rate: float) -> Tensor:
        """One step of AdamW, in place: w ← w − η λ w − η m̂ / (√v̂ + ε). See `bp_torch.engine.optimizers.AdamW`.

        Arguments, result and errors are those of `sgd_step`.
        """
        return self._step(self._adamw, inputs, targets, learning_rate)

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the optimizers.

        Of SGD with momentum the velocity of each parameter, by its name; of AdamW `exp_avg`, `exp_avg_sq` and `step`,
        each after the parameter's name and a dot. Empty before the first step.
        """
        return {**self._sgd.state, **self._adamw.state}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of the optimizers, by copies.

        Args:
            state: the `state_dict` of a Backprop with the same model.

        Raises:
            ValueError: if it does not match this model's parameters, or holds velocities and there is no momentum.
        """
        sgd, adamw = self._sgd.shapes(self.model), self._adamw.shapes(self.model)
        for name, tensor in state.items():
            if (sgd | adamw).get(name) != tensor.shape:
                shape = tuple(tensor.shape)
                raise ValueError(f"Backprop: there is no state {name!r} of shape {shape}; load that of the same model")
        self._sgd.state = {name: tensor.clone() for name, tensor in state.items() if name in sgd}
        self._adamw.state = {name: tensor.clone() for name, tensor in state.items() if name in adamw}

    def _step(self, optimizer: SGD | AdamW, inputs: Inputs, targets: Any, learning_rate: float) -> Tensor:
        _require_rates(learning_rate=learning_rate * max(1.0, self._weight_decay))
        if learning_rate > _LARGEST_HALF and any(p.dtype == torch.float16 for p in self.model.parameters()):
            raise ValueError(f"Backprop: learning_rate must be at most {_LARGEST_HALF} for parameters of float16")
        cost, tape = self._record_unnamed(inputs, targets)
        with _InferenceMode(True):
            update = self._backward(tape, cost, optimizer.fuses)
            if not update.is_finite():
                raise FloatingPointError(self._describe_non_finite(inputs, targets))
            optimizer.step(update, self.model, learning_rate)
        return cost.detach()

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

    def _backward(self, tape: Tape, cost: Tensor, fuse: bool) -> Update:
        """Compute all gradients; the tape is emptied on the way, to free memory."""
        addresses, update = _parameter_addresses(self.model, {}), Update(cost)
        gradients = {cost: constant(1.0, cost.shape, cost.dtype, cost.device)}
        for call, grad_output in backpropagate(_pop_calls(tape), gradients):
            if fuse and call.function.accumulate is not None:
                update.fuse(call, grad_output, addresses)
        update.added = [(x, gradient) for x, gradient in gradients.items() if id(x) in addresses]
        return update

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
