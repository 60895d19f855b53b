"""What learns: one set of parameters, under the hand-written layers, PyTorch's own, and in float64."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bp_torch.catalogue import CATALOGUE
from bp_torch.gradients import Comparison, compare_all, distance
from bp_torch.nn import as_builtin, mlp
from bp_torch.training.config import TrainConfig

PIXELS, CLASSES = 784, 10

NUDGES = 16
"""How often PyTorch's error is measured anew before a gradient is called wrong."""

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

    def gradients(self) -> Gradients:
        """The gradient of each parameter from the last backward, by name."""
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}

    def compare(self, inputs: Tensor, targets: Tensor) -> tuple[Comparison, ...]:
        """Compare the hand-written gradient with autograd's, on this mini-batch and the weights as they are.

        The hand-written one is what the last `cost.backward()` left, where that was by hand. Only where one does not
        pass is PyTorch's typical error measured, to tell a wrong gradient from a lucky judge.
        """
        parameters = dict(self.hand.named_parameters())
        hand = self.gradients()
        if self.model is not self.hand:
            hand = _gradients(self.hand, self._hand_cost, parameters, inputs, targets)
        builtin, truth = self._judge(parameters, inputs, targets)
        comparisons = compare_all(hand, builtin, truth)
        if all(comparison.passed for comparison in comparisons):
            return comparisons
        again = compare_all(hand, builtin, truth, self._typical_errors(parameters, inputs, targets))
        return tuple(first if first.passed else second for first, second in zip(comparisons, again, strict=True))

    def _judge(self, parameters: Gradients, inputs: Tensor, targets: Tensor) -> tuple[Gradients, Gradients]:
        """Autograd's gradients through PyTorch's own layers: in the parameters' dtype, and in float64."""
        builtin = _gradients(self._builtin, self._builtin_cost, parameters, inputs, targets)
        wide = {name: parameter.detach().double() for name, parameter in parameters.items()}
        wide_targets = targets.double() if targets.is_floating_point() else targets
        truth = _gradients(self._builtin, self._builtin_cost, wide, inputs.double(), wide_targets)
        return builtin, truth

    def _typical_errors(self, parameters: Gradients, inputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The largest error PyTorch makes when parameters and inputs are nudged by about a rounding."""
        generator = torch.Generator().manual_seed(0)  # of its own: comparing must not disturb the training's numbers
        largest = dict.fromkeys(parameters, 0.0)
        for _ in range(NUDGES):
            nudged = {name: _nudged(parameter.detach(), generator) for name, parameter in parameters.items()}
            builtin, truth = self._judge(nudged, _nudged(inputs, generator), targets)
            for name, error in largest.items():
                largest[name] = max(error, distance(builtin[name].double(), truth[name]).max().item())
        return largest


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


def _nudged(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Each number up or down by at most a rounding; 0 stays 0."""
    noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
    return tensor * (1 + torch.finfo(tensor.dtype).eps * (2 * noise - 1).sign())
