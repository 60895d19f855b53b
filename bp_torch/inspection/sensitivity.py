"""Single weights: how sensitive the cost is to each, whether a wiggle finds it so, and which are strengthened most."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.gradients.differences import taylor_order
from bp_torch.inspection.explanation import Explanation
from bp_torch.inspection.per_example import Cost

__all__ = ["Connection", "Hebbian", "Sensitivity", "Wiggle", "hebbian", "sensitivities", "wiggle"]


@dataclass(frozen=True)
class Sensitivity:
    """One component of the gradient: what the cost changes by, for a small change of one weight or bias."""

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
        """How many times as sensitive the cost is to this one; once, if to neither."""
        return self.size / other.size if other.size else math.inf if self.size else 1.0


class Wiggle(NamedTuple):
    """One weight or bias, moved by a small step on the real cost, in float64.

    The order is that of the Taylor remainder |measured − predicted| between h and h / 8: 2 if the gradient is right, 1
    if it is not; NaN where the remainder is lost in rounding.
    """

    sensitivity: Sensitivity  # which one, and its gradient
    step: float  # h
    predicted: float  # h ∂C/∂w
    measured: float  # C(w + h) − C(w)
    order: float


def sensitivities(model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor) -> list[Sensitivity]:
    """Every weight and bias by |∂C/∂w|, the most sensitive first; whatever is NaN counts as infinite.

    Takes and raises what `Backprop.gradients` does.

    Source:
        The lecture's statement 5.
    """
    _, gradients = Backprop(model, cost).gradients(inputs, targets)
    found = [
        Sensitivity(name, index, component)
        for name, gradient in gradients.items()
        for index, component in zip(np.ndindex(gradient.shape), gradient.flatten().tolist(), strict=True)
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
    """Move one weight or bias of a copy of the model by a step h, and see what the cost does.

    The sensitivity is that of the weight or bias on these inputs; the model may be any module.

    Source:
        The lecture's statement 5.
    """
    wide = copy.deepcopy(model).double()
    moved = wide.get_parameter(sensitivity.name)
    start = moved[sensitivity.index].item()
    wide_inputs, wide_targets = inputs.double(), targets.double() if targets.is_floating_point() else targets

    @cache
    def at(distance: float) -> float:
        moved[sensitivity.index] = start + distance
        return cost(wide(wide_inputs), wide_targets).item()

    longest = step * 2.0**14  # of which `taylor_order` takes the 2⁻¹⁴th and the 2⁻¹⁷th part
    order = taylor_order(lambda t: at(t * longest), sensitivity.gradient * longest)
    return Wiggle(sensitivity, step, sensitivity.gradient * step, at(step) - at(0.0), order)


class Connection(NamedTuple):
    """One weight of a layer, and its nudge."""

    neuron: int  # j, at its end
    previous: int  # k, at its beginning
    increase: float  # −∂C/∂wⱼₖ
    activation: float  # xₖ
    nudge: float  # −∂C/∂yⱼ


class Hebbian(NamedTuple):
    """How far one layer's weights do what the Hebbian remark says, and the connections that are strengthened most.

    The correlation is that of each weight's nudge −∂C/∂wⱼₖ with the product xₖ · (−∂C/∂yⱼ) of the activation it comes
    from and the nudge of the one it leads to. It is 1 but for the slopes f′(zⱼ), which may differ from neuron to
    neuron; NaN where all are the same.
    """

    correlation: float
    strongest: tuple[Connection, ...]


def hebbian(explanations: Sequence[Explanation], layer: int = -1, count: int = 10) -> Hebbian:
    """Measure on one layer whether the strongest strengthening is between active neurons and those to be more active.

    All numbers are averages over the explanations; `count` is how many of the strongest connections to name.

    Raises:
        ValueError: if there are no explanations.

    Source:
        The lecture's statement 8; Hebb, The Organization of Behavior (1949).
    """
    if not explanations:
        raise ValueError("hebbian(): explanations must be of one example at least")
    layers = [explanation.layers[layer] for explanation in explanations]
    increases = torch.stack([it.weight_nudges for it in layers]).mean(0)  # (out, in)
    products = torch.stack([torch.outer(it.nudges, it.inputs) for it in layers]).mean(0)
    activations = torch.stack([it.inputs for it in layers]).mean(0)
    nudges = torch.stack([it.nudges for it in layers]).mean(0)
    correlation = torch.corrcoef(torch.stack([increases.flatten(), products.flatten()]))[0, 1].item()
    strongest = increases.flatten().topk(min(count, increases.numel())).indices.tolist()
    places = [divmod(place, increases.shape[1]) for place in strongest]
    connections = (Connection(j, k, increases[j, k].item(), activations[k].item(), nudges[j].item()) for j, k in places)
    return Hebbian(correlation, tuple(connections))
