"""How sensitive the cost is to each weight and bias, and whether a wiggle of one finds it so."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.gradients.differences import taylor_order
from bp_torch.inspection.per_example import Cost

_LETTERS = {"weight": "w", "bias": "b"}


@dataclass(frozen=True)
class Sensitivity:
    """One component of the gradient: what the cost changes by, for a small change of one weight or bias.

    Attributes:
        name: of the parameter in the model.
        index: of the component in it.
        layer: the number of the layer that owns it, from 1.
        gradient: ∂C/∂w.
    """

    name: str
    index: tuple[int, ...]
    layer: int
    gradient: float

    @property
    def size(self) -> float:
        """|∂C/∂w|."""
        return abs(self.gradient)

    def __str__(self) -> str:
        """For instance 'w[3,412] of layer 1'."""
        letter = self.name.rpartition(".")[2]
        return f"{_LETTERS.get(letter, letter)}[{','.join(map(str, self.index))}] of layer {self.layer}"

    def beside(self, other: "Sensitivity") -> str:
        """For instance 'w[3,412] of layer 1: 32.0 times as sensitive as b[7] of layer 3'."""
        return f"{self}: {self.times(other):.1f} times as sensitive as {other}"

    def times(self, other: "Sensitivity") -> float:
        """How many times as sensitive the cost is to this one; once, if to neither."""
        return self.size / other.size if other.size else math.inf if self.size else 1.0


@dataclass(frozen=True)
class Wiggle:
    """One weight or bias, moved by a small step on the real cost, in float64.

    Attributes:
        sensitivity: which one, and its gradient.
        step: h.
        predicted: h ∂C/∂w.
        measured: C(w + h) − C(w).
        order: of the Taylor remainder |measured − predicted| between h and h / 8: 2 if the gradient is right, 1 if it
            is not; NaN where the remainder is lost in rounding.
    """

    sensitivity: Sensitivity
    step: float
    predicted: float
    measured: float
    order: float


def sensitivities(model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor) -> list[Sensitivity]:
    """Every weight and bias by |∂C/∂w|, the most sensitive first; whatever is NaN counts as infinite.

    Args:
        model: a chain that `bp_torch.engine.Backprop` drives.
        cost: its cost.
        inputs: (N, in).
        targets: as the cost takes them.

    Returns:
        As many as the model has numbers that learn.

    Raises:
        As `Backprop.walk`.

    Source:
        The lecture's statement 5.
    """
    _, gradients = Backprop(model, cost).gradients(inputs, targets)
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters()))
    found = [
        Sensitivity(name, index, 1 + owners.index(name.rpartition(".")[0]), component)
        for name, gradient in gradients.items()
        for index, component in _components(gradient)
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
    """Move one weight or bias of a copy of the model, and see what the cost does.

    Args:
        model: any module.
        cost: its cost.
        inputs: (N, in).
        targets: as the cost takes them.
        sensitivity: which weight or bias, and its gradient on these inputs.
        step: h, in the parameter's own units.

    Returns:
        The predicted and the measured change.

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


def _components(tensor: Tensor) -> Iterator[tuple[tuple[int, ...], float]]:
    indices = torch.cartesian_prod(*map(torch.arange, tensor.shape)).reshape(-1, tensor.dim())
    return zip(map(tuple, indices.tolist()), tensor.flatten().tolist(), strict=True)
