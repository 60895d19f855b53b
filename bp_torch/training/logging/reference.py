"""The gradients that the hand-written ones are compared with: PyTorch's own layers, and float64."""

import copy

import torch
from torch import Tensor

from bp_torch.gradients import Comparison, Gradients, compare_all, even_direction, perturbed, taylor_order
from bp_torch.nn import as_builtin
from bp_torch.training.backends import Autograd, Cost


class ReferenceModels:
    """Copies of a hand-written model: in its own dtype and in float64, each by hand and of PyTorch's own layers."""

    def __init__(self, model: torch.nn.Module, cost: Cost) -> None:
        """Copy a model; each comparison copies its parameters anew."""
        self._parameters = dict(model.named_parameters())
        self._cost = cost.function
        models = [copy.deepcopy(model).to(dtype) for dtype in (torch.float32, torch.float64)]
        self._hand, self._wide_hand = (Autograd(m, cost.function) for m in models)
        self._builtin, self._truth = (Autograd(as_builtin(m), cost.reference) for m in models)  # the same parameters

    def compare(self, hand: Gradients, inputs: Tensor, targets: Tensor) -> tuple[Comparison, ...]:
        """Compare the hand-written gradients with autograd's, on the same mini-batch and weights."""

        def draw(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
            parameters = {name: perturbed(p.detach(), generator) for name, p in self._parameters.items()}
            batch = perturbed(inputs, generator)
            by_hand = hand if generator is None else self.hand_written(batch, targets, parameters)
            return by_hand, *self.reference(batch, targets, parameters)

        return tuple(compare_all(draw))

    def hand_written(self, inputs: Tensor, targets: Tensor, parameters: Gradients | None = None) -> Gradients:
        """The hand-written gradients at the model's parameters, or at others."""
        _set_parameters(self._hand.model, parameters or self._parameters)
        return self._hand.gradients(inputs, targets)[1]

    def reference(
        self, inputs: Tensor, targets: Tensor, parameters: Gradients | None = None
    ) -> tuple[Gradients, Gradients]:
        """Autograd's gradients through PyTorch's own layers: in the parameters' dtype, and in float64."""
        for backend in (self._builtin, self._truth):
            _set_parameters(backend.model, parameters or self._parameters)
        _, builtin = self._builtin.gradients(inputs, targets)
        _, truth = self._truth.gradients(inputs.double(), _double(targets))
        return builtin, truth

    def taylor_order(self, hand: Gradients, inputs: Tensor, targets: Tensor, *, seed: int) -> float:
        """The order of the cost's Taylor remainder along one random direction of all parameters: 2 if `hand` is right.

        The cost is that of the hand-written layers, in float64.
        """
        generator = torch.Generator().manual_seed(seed)
        direction = {name: even_direction(p.detach().double(), generator) for name, p in self._parameters.items()}
        wide_inputs, wide_targets = inputs.double(), _double(targets)

        @torch.no_grad()
        def cost(t: float) -> float:
            _set_parameters(self._wide_hand.model, self._parameters)
            for name, parameter in self._wide_hand.model.named_parameters():
                parameter.add_(direction[name], alpha=t)
            return self._cost(self._wide_hand.model(wide_inputs), wide_targets).item()

        return taylor_order(cost, sum((hand[name] * direction[name]).sum().item() for name in direction))


@torch.no_grad()
def _set_parameters(model: torch.nn.Module, parameters: Gradients) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(parameters[name])


def _double(targets: Tensor) -> Tensor:
    return targets.double() if targets.is_floating_point() else targets
