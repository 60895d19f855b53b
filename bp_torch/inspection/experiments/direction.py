"""Statement 4: of all directions of the same length, the negative gradient decreases the cost the most."""

import copy
import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.result import Claim, ExperimentResult
from bp_torch.inspection.experiments.setup import Setup, cost, costs_at, flatten, parameters_of
from bp_torch.inspection.figures import BLUE, GREY, ORANGE, panels

EXAMPLES = 500
LENGTH = 1e-3
"""Of the step: all weights and biases together move by so much."""


def direction(setup: Setup) -> ExperimentResult:
    """Step along the negative gradient, aside from it at every angle, and at random; how much does each decrease?"""
    model = copy.deepcopy(setup.partly_trained).double()
    inputs, targets = setup.inputs[:EXAMPLES].double(), setup.targets[:EXAMPLES].double()
    _, gradients = Backprop(model, cost).gradients(inputs, targets)
    downhill = -flatten(gradients.values())
    generator = torch.Generator().manual_seed(setup.seed)
    random = _units(torch.randn(100 if setup.quick else 1000, len(downhill), generator=generator).double())
    angles = torch.linspace(0, math.pi, 37).double()
    steps = torch.cat([_tilted(downhill, random[: len(angles)], angles), random])
    start = parameters_of(model)
    first, *after = costs_at(model, [start, *(start + LENGTH * step for step in steps)], inputs, targets)
    decreases = (first - torch.stack(after)) / (LENGTH * downhill.norm())
    tilted, drawn = decreases.split([len(angles), len(random)])
    best, rivals = tilted[0].item(), decreases[1:]  # the first is along the negative gradient itself
    claim = Claim(
        4,
        "the negative gradient is the direction that decreases the cost most efficiently",
        f"it decreases the cost by {best:.4f} of what its length predicts; 5° aside it is {tilted[1] / best:.4f} of "
        f"that, and the best of {len(drawn):,} random directions, hardly any of which leans its way, "
        f"{drawn.max() / best:.1%} (the cost of {EXAMPLES} examples, a step of length {LENGTH:g})",
        abs(best - 1) < 0.01 and rivals.max().item() < best,
        "equation",
    )
    metrics = {"decrease_along_gradient": best, "decrease_best_at_random": drawn.max().item()}
    figure = _draw(angles, tilted, _units(downhill[None])[0] @ random.t(), drawn)
    return ExperimentResult((claim,), metrics, figure)


def _units(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def _tilted(downhill: Tensor, aside: Tensor, angles: Tensor) -> Tensor:
    """Unit vectors at these angles to `downhill`, each towards another side, (angles, parameters)."""
    along = _units(downhill[None])
    across = _units(aside - (aside @ along.t()) * along)
    return angles.cos()[:, None] * along + angles.sin()[:, None] * across


def _draw(angles: Tensor, tilted: Tensor, cosines: Tensor, drawn: Tensor) -> Figure:
    figure, (axes,) = panels("How much a step of the same length decreases the cost", 1)
    degrees = angles.rad2deg()
    axes.plot(degrees, angles.cos(), color=GREY, label="cosine of the angle")
    axes.plot(degrees, tilted, "o", color=BLUE, label="measured, at every angle")
    axes.plot(cosines.acos().rad2deg(), drawn, ".", color=ORANGE, markersize=4, label=f"{len(drawn):,} at random")
    axes.set(xlabel="angle to the negative gradient, degrees", ylabel="decrease / (length · ‖∇C‖)")
    axes.set_xticks(range(0, 181, 45))
    axes.legend()
    return figure
