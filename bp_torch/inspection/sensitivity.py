"""How sensitive the cost is to each weight and bias, and whether a wiggle of one finds it so."""

import copy
import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.gradients.differences import taylor_order
from bp_torch.inspection.per_example import Cost

__all__ = ["Sensitivity", "Wiggle", "sensitivities", "wiggle"]


@dataclass(frozen=True)
class Sensitivity:
    """One component of the gradient: what the cost changes by, for a small change of one weight or bias."""

    name: str  # of the parameter in the model
    index: tuple[int, ...]  # of the component in it
    layer: int  # that owns it, from 1
    gradient: float  # ∂C/∂w

    @property
    def size(self) -> float:
        """|∂C/∂w|."""
        return abs(self.gradient)

    def __str__(self) -> str:
        """For instance 'w[3,412] of layer 1'."""
        kind = self.name.rpartition(".")[2]
        letter = {"weight": "w", "bias": "b"}.get(kind, kind)
        return f"{letter}[{','.join(map(str, self.index))}] of layer {self.layer}"

    def beside(self, other: "Sensitivity") -> str:
        """For instance 'w[3,412] of layer 1: 32.0 times as sensitive as b[7] of layer 3'."""
        return f"{self}: {self.times(other):.1f} times as sensitive as {other}"

    def times(self, other: "Sensitivity") -> float:
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
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters()))
    found = [
        Sensitivity(name, index, 1 + owners.index(name.rpartition(".")[0]), component)
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
