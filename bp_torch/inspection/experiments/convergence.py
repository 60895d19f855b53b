"""Statement 14: the steps converge towards a local minimum, and the network does well on what it was trained on."""

from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils import parameters_to_vector as flatten

from bp_torch.data import accuracy_of
from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.setup import LEARNING_RATE, Claim, ExperimentResult, Setup, cost
from bp_torch.inspection.figures import BLUE, GREEN, ORANGE, panels

PER_CLASS = 10
MOST_STEPS = 40_000


class _Point(NamedTuple):
    """What it is like at one step; the curvature is ĝᵀ H ĝ, along the gradient's direction ĝ."""

    step: int
    cost: float
    gradient_norm: float
    curvature: float


def convergence(setup: Setup) -> ExperimentResult:
    """Descend by full gradients on a hundred examples until the gradient is small; how does the surface curve there?"""
    inputs, targets = _few(setup)
    model = setup.network().double()
    points = _descend(model, inputs, targets, least=1e-3 if setup.quick else 1e-4)
    last, learned = points[-1], accuracy_of(model(inputs), targets)
    least, most = _curvatures(model, inputs, targets, steps=20 if setup.quick else 100, seed=setup.seed)
    read = f"{learned:.0%} of the {len(inputs)} are read rightly"
    begun, grown = (flatten(each.parameters()).norm() for each in (setup.network(), model))
    claims = (
        _vanishes(points[0], last),
        Claim(
            14,
            "where they end is a local minimum: no direction curves downwards",
            f"the curvature is from {least:+.1e} to {most:+.1e}, as far as Lanczos finds it; the weights have grown "
            f"from a norm of {begun:.1f} to {grown:.1f}",
            least >= 0,
        ),
        Claim(14, "there the network does well on its training examples", read, learned >= 0.99),
    )
    metrics = {"gradient_norm": last.gradient_norm, "curvature": last.curvature}
    return ExperimentResult(claims, metrics | {"least_curvature": least, "training_accuracy": learned}, _draw(points))


def _vanishes(first: _Point, last: _Point) -> Claim:
    return Claim(
        14,
        "the steps converge: the gradient vanishes, and the surface does not curve downwards along it",
        f"after {last.step:,} steps its norm has fallen from {first.gradient_norm:.2g} to {last.gradient_norm:.1e}, "
        f"and the curvature along it is {last.curvature:+.1e}",
        last.gradient_norm < 2e-3 * first.gradient_norm and last.curvature >= 0,
    )


def _few(setup: Setup) -> tuple[Tensor, Tensor]:
    """The first examples of each class, in float64: a small gradient is a sum of large ones."""
    chosen = torch.cat([(setup.labels == label).nonzero()[:PER_CLASS, 0] for label in range(10)])
    return setup.inputs[chosen].double(), setup.targets[chosen].double()


def _descend(model: torch.nn.Module, inputs: Tensor, targets: Tensor, *, least: float) -> list[_Point]:
    driver, points, next_point = Backprop(model, cost), [], 0
    for step in range(MOST_STEPS + 1):
        if step == next_point:
            points.append(_measure(model, driver, inputs, targets, step))
            if points[-1].gradient_norm < least:
                break
            next_point = max(step + 1, int(step * 1.1))
        driver.sgd_step(inputs, targets, LEARNING_RATE)
    return points


def _measure(model: torch.nn.Module, driver: Backprop, inputs: Tensor, targets: Tensor, step: int) -> _Point:
    height, gradients = driver.gradients(inputs, targets)
    gradient = flatten(gradients.values())
    curvature = gradient @ _curved(model, inputs, targets, gradient) / (gradient @ gradient)
    return _Point(step, height.item(), gradient.norm().item(), curvature.item())


def _curved(model: torch.nn.Module, inputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
    """H d, by the hand-written backwards, differentiated once more."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(cost(model(inputs), targets), parameters, create_graph=True)
    return flatten(torch.autograd.grad(flatten(gradients) @ direction, parameters))


def _curvatures(model: torch.nn.Module, inputs: Tensor, targets: Tensor, *, steps: int, seed: int) -> list[float]:
    """The least and the largest curvature of all directions: Lanczos' bounds from within, of so many steps."""
    start = torch.randn(len(flatten(model.parameters())), generator=torch.Generator().manual_seed(seed)).double()
    basis, projected = (start / start.norm()).unsqueeze(0), torch.zeros(steps, steps).double()
    for step in range(steps):
        curved = _curved(model, inputs, targets, basis[step])
        projected[: step + 1, step] = projected[step, : step + 1] = basis @ curved
        for _ in range(2):  # once more, for what rounding leaves
            curved = curved - basis.t() @ (basis @ curved)
        basis = torch.cat([basis, torch.nn.functional.normalize(curved, dim=0).unsqueeze(0)])
    return torch.linalg.eigvalsh(projected)[[0, -1]].tolist()  # type: ignore[no-any-return]


def _draw(points: list[_Point]) -> Figure:
    figure, axes = panels(f"Full gradients of {10 * PER_CLASS} examples", 3)
    steps, *curves = zip(*points, strict=True)
    titles = ("cost", "norm of the gradient", "curvature along the gradient")
    for each, curve, title, colour in zip(axes, curves, titles, (BLUE, ORANGE, GREEN), strict=True):
        each.plot([max(step, 0.5) for step in steps], curve, color=colour)
        each.set(title=title, xscale="log", xlabel="step", yscale="log")
    axes[-1].axhline(0, color="black", linewidth=0.8)
    axes[-1].set_yscale("symlog", linthresh=1e-4)
    return figure
