"""What learns: one set of parameters, under the hand-written layers, PyTorch's own, and in float64."""

import copy

import torch
from torch import Tensor

from bp_torch.catalogue import CATALOGUE
from bp_torch.data.labels import one_hot
from bp_torch.engine import Backprop, Tape
from bp_torch.gradients import Comparison, Gradients, compare_all, even_direction, perturbed, taylor_order
from bp_torch.inspection import Explanation, GradientNoise, explain, noise_of
from bp_torch.nn import as_builtin, mlp
from bp_torch.training.config import TrainConfig
from bp_torch.training.drivers import Autograd, Driver, ParallelAutograd, ParallelBackprop
from bp_torch.training.processes import ALONE, Processes

_TWINS = torch.float32, torch.float64


class Learner:
    """The network and its cost, as the configuration says.

    Attributes:
        hand: the chain of hand-written layers.
        model: what trains: `hand`, or for the backend 'builtin' the same parameters under torch.nn's layers.
        cost: the cost that trains.
        hand_cost: the same, hand-written.
        driver: what computes its gradients and takes its steps, in all processes together.
    """

    def __init__(self, config: TrainConfig, processes: Processes = ALONE) -> None:
        """Draw the first weights from the seed, in each process alike."""
        torch.manual_seed(config.seed)
        output_activation = "sigmoid" if config.cost == "squared_error" else "identity"
        self.hand = mlp(config.sizes, config.activation, output_activation=output_activation).to(config.device)
        entry = CATALOGUE[config.cost]
        self.hand_cost, self._builtin_cost = entry.function, entry.reference
        trains_by_hand = config.backend != "builtin"
        self.model = self.hand if trains_by_hand else as_builtin(self.hand)
        self.cost = self.hand_cost if trains_by_hand else self._builtin_cost
        self._one_hot = config.cost == "squared_error"
        self._parameters = dict(self.hand.named_parameters())
        self._twin, self._wide_twin = (Autograd(copy.deepcopy(self.hand).to(d), self.hand_cost) for d in _TWINS)
        self._judges = [Autograd(as_builtin(t.model), self._builtin_cost) for t in (self._twin, self._wide_twin)]
        self._engine = Backprop(self.hand, self.hand_cost)
        self._alone: Driver = self._engine if config.backend == "engine" else Autograd(self.model, self.cost)
        self.driver = self._alone if processes.count == 1 else self._in_parallel(config, processes)

    def _in_parallel(self, config: TrainConfig, processes: Processes) -> Driver:
        if config.backend == "engine":
            return ParallelBackprop(self._engine, processes)
        return ParallelAutograd(self.model, self.cost, processes)

    def targets(self, labels: Tensor) -> Tensor:
        """What is wanted of the outputs: 1 of the right one and 0 of the others, or for cross-entropy the class."""
        return one_hot(labels) if self._one_hot else labels

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Outputs as numbers in [0, 1], (N, classes)."""
        return outputs if self._one_hot else outputs.softmax(1)

    def gradients_alone(self, inputs: Tensor, targets: Tensor) -> Gradients:
        """The gradients of a mini-batch, computed in this process."""
        return self._alone.gradients(inputs, targets)[1]

    def trace(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tape]:
        """The cost, and each hand-written function as a mini-batch passes it, forward and back."""
        return self._engine.trace(inputs, targets)

    def gradients_by_hand(self, inputs: Tensor, targets: Tensor, trained: Gradients) -> Gradients:
        """The hand-written gradients on this mini-batch and the weights as they are: those that train, if by hand."""
        if self.model is self.hand:
            return trained
        return self._by_hand(self._parameters, inputs, targets)

    def noise(self, inputs: Tensor, targets: Tensor) -> dict[str, GradientNoise]:
        """How the gradients of this mini-batch's examples spread around their mean, by parameter."""
        return noise_of(self._engine, inputs, targets)

    def explain(self, image: Tensor, label: int) -> Explanation:
        """What one example asks of the network."""
        return explain(self.hand, self.hand_cost, image, label)

    @torch.no_grad()
    def activations(self, inputs: Tensor) -> dict[str, Tensor]:
        """What each layer makes of inputs."""
        activations, signal = {}, inputs
        for name, layer in self.model.named_children():
            signal = layer(signal)
            activations[f"{name}.{type(layer).__name__}"] = signal
        return activations

    def compare(self, hand: Gradients, inputs: Tensor, targets: Tensor) -> tuple[Comparison, ...]:
        """Compare the hand-written gradients with autograd's, on the same mini-batch and weights."""

        def draw(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
            parameters = {name: perturbed(p.detach(), generator) for name, p in self._parameters.items()}
            batch = perturbed(inputs, generator)
            judged = self._judge(parameters, batch, targets)
            return hand if generator is None else self._by_hand(parameters, batch, targets), *judged

        return tuple(compare_all(draw))

    def taylor_order(self, hand: Gradients, inputs: Tensor, targets: Tensor, *, seed: int) -> float:
        """The order of the cost's Taylor remainder along one random direction of all parameters: 2 if `hand` is right.

        The cost is that of the hand-written layers, in float64.
        """
        generator = torch.Generator().manual_seed(seed)
        direction = {name: even_direction(p.detach().double(), generator) for name, p in self._parameters.items()}
        wide_inputs, wide_targets = inputs.double(), _wide(targets)

        @torch.no_grad()
        def cost(t: float) -> float:
            self._wide_twin.put(self._parameters, direction, t)
            return self.hand_cost(self._wide_twin.model(wide_inputs), wide_targets).item()

        return taylor_order(cost, sum((hand[name] * direction[name]).sum().item() for name in direction))

    def _by_hand(self, parameters: Gradients, inputs: Tensor, targets: Tensor) -> Gradients:
        self._twin.put(parameters)
        return self._twin.gradients(inputs, targets)[1]

    def _judge(self, parameters: Gradients, inputs: Tensor, targets: Tensor) -> tuple[Gradients, Gradients]:
        """Autograd's gradients through PyTorch's own layers: in the parameters' dtype, and in float64."""
        for twin in (self._twin, self._wide_twin):
            twin.put(parameters)
        _, builtin = self._judges[0].gradients(inputs, targets)
        _, truth = self._judges[1].gradients(inputs.double(), _wide(targets))
        return builtin, truth


def _wide(targets: Tensor) -> Tensor:
    return targets.double() if targets.is_floating_point() else targets
