"""What computes gradients and steps downhill beside the engine: autograd, and either of them in several processes."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from bp_torch.engine import Backprop
from bp_torch.gradients import Gradients
from bp_torch.training.processes import Processes

Cost = Callable[[Tensor, Tensor], Tensor]


class Driver(Protocol):
    """What `bp_torch.engine.Backprop` does, whoever does it."""

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Gradients]:
        """The cost of a mini-batch, and the gradient of each parameter by its name."""

    def sgd_step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """One step downhill; FloatingPointError, and none, if cost or gradient is not finite."""

    def state_dict(self) -> dict[Any, Any]:
        """What it remembers from step to step."""

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        """Take up what another one remembered."""


class Autograd:
    """The driver that everybody knows, in `Backprop`'s terms: autograd's engine, and torch.optim.SGD."""

    def __init__(self, model: torch.nn.Module, cost: Cost) -> None:
        """Take a model and its cost."""
        self.model = model
        self._cost = cost
        self._parameters = dict(model.named_parameters())

    @cached_property
    def _optimizer(self) -> torch.optim.SGD:
        """Made for the first step: torch takes a second over its first optimiser, and a judge takes no steps."""
        return torch.optim.SGD(self._parameters.values(), lr=0.0)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Gradients]:
        """The cost, and the gradient of each parameter by its name."""
        with torch.enable_grad():
            cost = self._cost(self.model(inputs), targets)
        gradients = torch.autograd.grad(cost, tuple(self._parameters.values()))
        return cost.detach(), dict(zip(self._parameters, gradients, strict=True))

    @torch.no_grad()
    def put(self, parameters: Gradients, direction: Gradients | None = None, distance: float = 0.0) -> None:
        """Give the model these parameters, in its own dtype, or what lies in a direction from them."""
        for name, parameter in self._parameters.items():
            parameter.copy_(parameters[name])
            if direction is not None:
                parameter.add_(direction[name], alpha=distance)

    def sgd_step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """One step downhill; FloatingPointError, and none, if cost or gradient is not finite."""
        self._optimizer.zero_grad()
        cost = self._backward(inputs, targets)
        require_finite(cost, self._grads())
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        return cost

    def state_dict(self) -> dict[Any, Any]:
        """What the optimiser remembers of each parameter."""
        return dict(self._optimizer.state_dict()["state"])

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        """Take up what an optimiser remembered; its settings stay."""
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})

    def _backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Leave the gradients where autograd leaves them, and return the cost."""
        cost = self._cost(self.model(inputs), targets)
        cost.backward()  # type: ignore[no-untyped-call]
        return cost.detach()

    def _grads(self) -> dict[str, Tensor]:
        return {name: parameter.grad for name, parameter in self._parameters.items() if parameter.grad is not None}


class ParallelAutograd(Autograd):
    """The same in several processes: each its part of the mini-batch, the gradients averaged as they come, by DDP."""

    def __init__(self, model: torch.nn.Module, cost: Cost, processes: Processes) -> None:
        """Take a model, which becomes the first process's, its cost, and the processes."""
        super().__init__(model, cost)
        self._processes = processes
        with processes.heard():
            self._parallel = DistributedDataParallel(model)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Gradients]:
        """The cost of the whole mini-batch, and what DDP makes of the parts' gradients."""
        self._optimizer.zero_grad()
        with torch.enable_grad():
            cost = self._backward(inputs, targets)
        return cost, {name: gradient.clone() for name, gradient in self._grads().items()}

    def _backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        part, wanted, weight = self._processes.part(inputs, targets)
        with self._processes.heard():
            cost = self._cost(self._parallel(part), wanted)
            whole = cost * (weight * self._processes.count)  # DDP divides the sum by the count
            whole.backward()  # type: ignore[no-untyped-call]
        return self._processes.total(cost.detach() * weight)


class ParallelBackprop:
    """The engine in several processes: each its part of the mini-batch, the gradients summed by all_reduce."""

    def __init__(self, engine: Backprop, processes: Processes) -> None:
        """Take the engine, whose model must begin alike in all of them, and the processes."""
        self._engine = engine
        self._processes = processes
        self._parameters = dict(engine.model.named_parameters())

    @torch.no_grad()
    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Gradients]:
        """The cost of the whole mini-batch, and the weighted sum of the parts' gradients."""
        part, wanted, weight = self._processes.part(inputs, targets)
        cost, gradients = self._engine.gradients(part, wanted)
        flat = torch.cat([cost.reshape(1), *(gradient.flatten() for gradient in gradients.values())])
        sizes = [1, *(gradient.numel() for gradient in gradients.values())]
        cost, *sums = torch.split(self._processes.total(flat.mul_(weight)), sizes)
        return cost[0], {name: total.view_as(gradients[name]) for name, total in zip(gradients, sums, strict=True)}

    @torch.no_grad()
    def sgd_step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """One step downhill; FloatingPointError, and none, if cost or gradient is not finite."""
        cost, gradients = self.gradients(inputs, targets)
        require_finite(cost, gradients)
        for name, gradient in gradients.items():
            self._parameters[name].add_(gradient, alpha=-learning_rate)
        return cost

    def state_dict(self) -> dict[Any, Any]:
        """What the engine remembers."""
        return self._engine.state_dict()

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        """Take up what an engine remembered."""
        self._engine.load_state_dict(state)


def require_finite(cost: Tensor, gradients: Gradients) -> None:
    """Raise FloatingPointError naming what is not finite.

    One sum is asked first, which shows both NaN and infinity; what only it overflows is finite after all.
    """
    total = cost
    for gradient in gradients.values():
        total = total + gradient.sum()
    if math.isfinite(total.item()):
        return
    if not cost.isfinite():
        raise FloatingPointError(f"the cost is not finite: {cost.item()}")
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            raise FloatingPointError(f"the gradient of {name!r} is not finite")
