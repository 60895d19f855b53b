"""Single weights: the sensitivity of the cost to each, a wiggle to confirm it, and those that are strengthened most."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.gradients.differences import taylor_order
from bp_torch.inspection.explanation import Explanation
from bp_torch.inspection.per_example import Cost

__all__ = ["Connection", "Hebbian", "Sensitivity", "Wiggle", "hebbian", "sensitivities", "wiggle"]


@dataclass(frozen=True)
class Sensitivity:
    """One component of the gradient: the change of the cost relative to a small change of one weight or bias."""

    name: str  # of the parameter in the model
    index: tuple[int, ...]  # of the component in it
    gradient: float  # ∂C/∂w

    @property
    def layer(self) -> str:
        """The name of the module that owns the parameter."""
        return self.name.rpartition(".")[0]

    @property
    def size(self) -> float:
        """|∂C/∂w|."""
        return abs(self.gradient)

    def __str__(self) -> str:
        """For instance 'hidden1.weight[3, 412]'."""
        return f"{self.name}[{', '.join(map(str, self.index))}]"

    def compare_to(self, other: "Sensitivity") -> str:
        """For instance 'hidden1.weight[3, 412]: 32.0 times as sensitive as output.bias[7]'."""
        return f"{self}: {self.ratio_to(other):.1f} times as sensitive as {other}"

    def ratio_to(self, other: "Sensitivity") -> float:
        """The ratio of the sizes; 1 if both are 0."""
        return self.size / other.size if other.size else math.inf if self.size else 1.0


class Wiggle(NamedTuple):
    """The change of the cost for a small step of one weight or bias, in float64.

    `order` is the order of the Taylor remainder |measured − predicted| between h and h / 8: 2 if the gradient is right,
    1 if it is wrong, NaN if the remainder is lost in rounding.
    """

    sensitivity: Sensitivity  # the weight or bias, and its gradient
    step: float  # h
    predicted: float  # h ∂C/∂w
    measured: float  # C(w + h) − C(w)
    order: float


def sensitivities(model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor) -> list[Sensitivity]:
    """Rank all weights and biases by |∂C/∂w|, the largest first; NaN counts as infinite.

    Takes and raises the same as `Backprop.gradients`.

    Source:
        The lecture's statement 5.
    """
    _, gradients = Backprop(model, cost).gradients(inputs, targets)
    found = [
        Sensitivity(name, index, component)
        for name, gradient in gradients.items()
        for index, component in zip(product(*map(range, gradient.shape)), gradient.flatten().tolist(), strict=True)
    ]
    return sorted(found, key=lambda one: math.inf if math.isnan(one.size) else one.size, reverse=True)


@torch.no_grad()
def wiggle(
    model: torch.nn.Module,
    cost: Cost,
    inputs: Tensor,
    targets: Tensor,
    sensitivity: Sensitivity,
    step: float = 2.0**-10,
) -> Wiggle:
    """Change one weight or bias in a copy of the model by a step h, and measure the change of the cost.

    `sensitivity` is that of the weight or bias on these inputs. The model may be any module.

    Source:
        The lecture's statement 5.
    """
    wide = copy.deepcopy(model).double()
    parameter = wide.get_parameter(sensitivity.name)
    start = parameter[sensitivity.index].item()
    wide_inputs, wide_targets = inputs.double(), targets.double() if targets.is_floating_point() else targets

    @cache
    def at(distance: float) -> float:
        parameter[sensitivity.index] = start + distance
        return cost(wide(wide_inputs), wide_targets).item()

    longest = step * 2.0**14  # `taylor_order` measures at 2⁻¹⁴ and 2⁻¹⁷ of this
    order = taylor_order(lambda t: at(t * longest), sensitivity.gradient * longest)
    return Wiggle(sensitivity, step, sensitivity.gradient * step, at(step) - at(0.0), order)


class Connection(NamedTuple):
    """One weight of a layer, and its nudge."""

    neuron: int  # j, to which it leads
    previous: int  # k, from which it comes
    increase: float  # −∂C/∂wⱼₖ
    activation: float  # xₖ
    nudge: float  # −∂C/∂yⱼ


class Hebbian(NamedTuple):
    """The connections of one layer that are strengthened most, and how well they follow the Hebbian remark.

    `correlation` is that of each weight's nudge −∂C/∂wⱼₖ with the product xₖ · (−∂C/∂yⱼ) of the activation before it
    and the nudge of the activation after it. It is below 1 if the slopes f′(zⱼ) differ; NaN if all nudges are equal.
    """

    correlation: float
    strongest: tuple[Connection, ...]


def hebbian(explanations: Sequence[Explanation], layer: int = -1, count: int = 10) -> Hebbian:
    """Measure on one layer whether weights between active neurons and those that should be more active grow most.

    All numbers are averages over the explanations. `count` is the number of connections to return.

    Raises:
        ValueError: if there are no explanations.

    Source:
        The lecture's statement 8; Hebb, The Organization of Behavior (1949).
    """
    if not explanations:
        raise ValueError("hebbian(): explanations must not be empty")
    layers = [explanation.layers[layer] for explanation in explanations]
    increases = torch.stack([it.weight_nudges for it in layers]).mean(0)  # (out, in)
    products = torch.stack([torch.outer(it.nudges, it.inputs) for it in layers]).mean(0)
    activations = torch.stack([it.inputs for it in layers]).mean(0)
    nudges = torch.stack([it.nudges for it in layers]).mean(0)
    correlation = torch.corrcoef(torch.stack([increases.flatten(), products.flatten()]))[0, 1].item()
    strongest = increases.flatten().topk(min(count, increases.numel())).indices.tolist()
    indices = [divmod(place, increases.shape[1]) for place in strongest]
    connections = (
        Connection(j, k, increases[j, k].item(), activations[k].item(), nudges[j].item()) for j, k in indices
    )
    return Hebbian(correlation, tuple(connections))
