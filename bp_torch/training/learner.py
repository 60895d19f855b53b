"""What learns: one set of parameters, under the hand-written layers, PyTorch's own, and in float64."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bp_torch.catalogue import CATALOGUE
from bp_torch.gradients import Comparison, compare_all
from bp_torch.nn import as_builtin, mlp
from bp_torch.training.config import TrainConfig

PIXELS, CLASSES = 784, 10

Gradients = Mapping[str, Tensor]


class Learner:
    """The network and its cost, as the configuration says.

    Attributes:
        hand: the chain of hand-written layers.
        model: what trains: `hand`, or for the backend 'builtin' the same parameters under torch.nn's layers.
        cost: the cost that trains.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Draw the first weights from the seed."""
        torch.manual_seed(config.seed)
        output_activation = "sigmoid" if config.cost == "squared_error" else "identity"
        sizes = (PIXELS, *config.hidden, CLASSES)
        self.hand = mlp(sizes, config.activation, output_activation=output_activation).to(config.device)
        self._builtin = as_builtin(self.hand)
        self._float64 = copy.deepcopy(self._builtin).double()
        entry = CATALOGUE[config.cost]
        self._hand_cost, self._builtin_cost = entry.function, entry.reference
        trains_by_hand = config.backend == "functions"
        self.model = self.hand if trains_by_hand else self._builtin
        self.cost = self._hand_cost if trains_by_hand else self._builtin_cost
        self._one_hot = config.cost == "squared_error"

    def targets(self, labels: Tensor) -> Tensor:
        """What is wanted of the outputs: 1 of the right one and 0 of the others, or for cross-entropy the class."""
        return torch.eye(CLASSES, device=labels.device)[labels] if self._one_hot else labels

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Outputs as numbers in [0, 1], (N, classes)."""
        return outputs if self._one_hot else outputs.softmax(1)

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of each parameter from the last backward, by name."""
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}

    def compare(self, inputs: Tensor, targets: Tensor) -> tuple[Comparison, ...]:
        """Compare the hand-written gradient with autograd's, on this mini-batch and the weights as they are.

        The hand-written one is what the last `cost.backward()` left, where that was by hand.
        """
        hand = self.gradients() if self.model is self.hand else _gradients(self.hand, self._hand_cost, inputs, targets)
        builtin = _gradients(self._builtin, self._builtin_cost, inputs, targets)
        with torch.no_grad():
            for wide, narrow in zip(self._float64.parameters(), self.hand.parameters(), strict=True):
                wide.copy_(narrow)
        wide_targets = targets.double() if targets.is_floating_point() else targets
        truth = _gradients(self._float64, self._builtin_cost, inputs.double(), wide_targets)
        return compare_all(hand, builtin, truth)


def _gradients(
    model: torch.nn.Module, cost: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor
) -> Gradients:
    """By autograd, without touching any parameter's `.grad`."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(cost(model(inputs), targets), parameters), strict=True))
