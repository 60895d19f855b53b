"""What learns: one set of parameters, under the hand-written layers, PyTorch's own, and in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bp_torch.catalogue import CATALOGUE
from bp_torch.engine import Backprop
from bp_torch.gradients import Comparison, Gradients, compare_all, even_direction, nudged, taylor_order
from bp_torch.inspection import GradientNoise, gradient_noise
from bp_torch.nn import as_builtin, mlp
from bp_torch.training.config import TrainConfig

PIXELS, CLASSES = 784, 10


class Learner:
    """The network and its cost, as the configuration says.

    Attributes:
        hand: the chain of hand-written layers.
        model: what trains: `hand`, or for the backend 'builtin' the same parameters under torch.nn's layers.
        cost: the cost that trains.
        driver: what computes its gradients and takes its steps.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Draw the first weights from the seed."""
        torch.manual_seed(config.seed)
        output_activation = "sigmoid" if config.cost == "squared_error" else "identity"
        sizes = (PIXELS, *config.hidden, CLASSES)
        self.hand = mlp(sizes, config.activation, output_activation=output_activation).to(config.device)
        self._builtin = as_builtin(self.hand)
        entry = CATALOGUE[config.cost]
        self._hand_cost, self._builtin_cost = entry.function, entry.reference
        trains_by_hand = config.backend != "builtin"
        self.model = self.hand if trains_by_hand else self._builtin
        self.cost = self._hand_cost if trains_by_hand else self._builtin_cost
        self._one_hot = config.cost == "squared_error"
        engine = Backprop(self.hand, self._hand_cost) if config.backend == "engine" else None
        self.driver: Backprop | Autograd = engine or Autograd(self.model, self.cost)

    def targets(self, labels: Tensor) -> Tensor:
        """What is wanted of the outputs: 1 of the right one and 0 of the others, or for cross-entropy the class."""
        return torch.eye(CLASSES, device=labels.device)[labels] if self._one_hot else labels

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Outputs as numbers in [0, 1], (N, classes)."""
        return outputs if self._one_hot else outputs.softmax(1)

    def gradients_by_hand(self, inputs: Tensor, targets: Tensor, trained: Gradients) -> Gradients:
        """The hand-written gradients on this mini-batch and the weights as they are: those that train, if by hand."""
        return trained if self.model is self.hand else self._by_hand(self._parameters(), inputs, targets)

    def noise(self, inputs: Tensor, targets: Tensor) -> dict[str, GradientNoise]:
        """How the gradients of this mini-batch's examples spread around their mean, by parameter."""
        return gradient_noise(self.hand, self._hand_cost, inputs, targets)

    def compare(self, hand: Gradients, inputs: Tensor, targets: Tensor) -> tuple[Comparison, ...]:
        """Compare the hand-written gradients with autograd's, on the same mini-batch and weights."""

        def draw(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
            parameters = {name: nudged(p.detach(), generator) for name, p in self._parameters().items()}
            batch = nudged(inputs, generator)
            ours = hand if generator is None else self._by_hand(parameters, batch, targets)
            return ours, *self._judge(parameters, batch, targets)

        return tuple(compare_all(draw))

    def taylor_order(self, hand: Gradients, inputs: Tensor, targets: Tensor, *, seed: int) -> float:
        """The order of the cost's Taylor remainder along one random direction of all parameters: 2 if `hand` is right.

        The cost is that of the hand-written layers, in float64.
        """
        generator = torch.Generator().manual_seed(seed)
        start = {name: parameter.detach().double() for name, parameter in self._parameters().items()}
        direction = {name: even_direction(parameter, generator) for name, parameter in start.items()}
        wide_inputs, wide_targets = inputs.double(), _wide(targets)

        @torch.no_grad()
        def cost(t: float) -> float:
            moved = {name: parameter + t * direction[name] for name, parameter in start.items()}
            outputs = torch.func.functional_call(self.hand, moved, (wide_inputs,))
            return self._hand_cost(outputs, wide_targets).item()

        return taylor_order(cost, sum((hand[name] * direction[name]).sum().item() for name in direction))

    def _parameters(self) -> Gradients:
        return dict(self.hand.named_parameters())

    def _by_hand(self, parameters: Gradients, inputs: Tensor, targets: Tensor) -> Gradients:
        return _gradients(self.hand, self._hand_cost, parameters, inputs, targets)

    def _judge(self, parameters: Gradients, inputs: Tensor, targets: Tensor) -> tuple[Gradients, Gradients]:
        """Autograd's gradients through PyTorch's own layers: in the parameters' dtype, and in float64."""
        builtin = _gradients(self._builtin, self._builtin_cost, parameters, inputs, targets)
        wide = {name: parameter.detach().double() for name, parameter in parameters.items()}
        truth = _gradients(self._builtin, self._builtin_cost, wide, inputs.double(), _wide(targets))
        return builtin, truth


class Autograd:
    """The driver that everybody knows, in `Backprop`'s terms: autograd's engine, and torch.optim.SGD."""

    def __init__(self, model: torch.nn.Module, cost: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take a model and its cost."""
        self._model = model
        self._cost = cost
        self._optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Gradients]:
        """The cost, and the gradient of each parameter by its name."""
        with torch.enable_grad():
            cost = self._cost(self._model(inputs), targets)
        names, parameters = zip(*self._model.named_parameters(), strict=True)
        return cost.detach(), dict(zip(names, torch.autograd.grad(cost, parameters), strict=True))

    def sgd_step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """One step downhill; FloatingPointError, and none, if the cost is not finite."""
        cost = self._cost(self._model(inputs), targets)
        self._optimizer.zero_grad()
        cost.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(cost.item()):
            raise FloatingPointError(f"the cost is not finite: {cost.item()}")
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        return cost.detach()


def _gradients(
    model: torch.nn.Module,
    cost: Callable[[Tensor, Tensor], Tensor],
    parameters: Gradients,
    inputs: Tensor,
    targets: Tensor,
) -> Gradients:
    """By autograd, for a model with these parameters in place of its own; no `.grad` is touched."""
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    outputs = torch.func.functional_call(model, leaves, (inputs,))
    gradients = torch.autograd.grad(cost(outputs, targets), tuple(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


def _wide(targets: Tensor) -> Tensor:
    return targets.double() if targets.is_floating_point() else targets
