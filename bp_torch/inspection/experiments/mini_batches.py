"""Statements 12 and 13: the gradient of a mini-batch compared with the full one, and the paths of both."""

import math
import time
from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils import parameters_to_vector as flatten

from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.setup import (
    BATCH_SIZE,
    Claim,
    ExperimentResult,
    Setup,
    cost,
    costs_at,
    endless_batches,
)
from bp_torch.inspection.figures import BLUE, GREEN, GREY, ORANGE, panels

MINI_BATCH_GRADIENT = f"the gradient of {BATCH_SIZE} examples"
SIZES = (1, 3, 10, 30, BATCH_SIZE, 300, 1000, 3000, 10_000, 30_000)
RATES = (1.0, 3.0, 10.0)
"""Learning rates to try; each path uses the one that reaches the lowest cost."""
GRID = 25

Curve = dict[int, Tensor]
"""Cosine to the full gradient, ratio of norms, and seconds of each draw, (draws, 3), by the size of the mini-batch."""
COSINES, NORM_RATIOS, SECONDS = range(3)


def mini_batches(setup: Setup) -> ExperimentResult:
    """Compare gradients of mini-batches of several sizes with the full one: before, during and after training."""
    curves = {
        "at the first weights": _curve(setup, setup.network()),
        "while it learns": _curve(setup, setup.partly_trained),
        "after learning": _curve(setup, setup.trained),
    }
    draws_of = {size: torch.cat([curve[size] for curve in curves.values()]) for size in curves["after learning"]}
    seconds = {size: draws[:, SECONDS].median().item() for size, draws in draws_of.items()}
    speedup = seconds[len(setup.inputs)] / seconds[BATCH_SIZE]
    measured = f"{speedup:.0f} of them in the time of a full one"
    claims = (
        *(_cosine_claim(name, curve) for name, curve in curves.items()),
        _descent_claim("while it learns", curves["while it learns"]),
        Claim(13, f"{MINI_BATCH_GRADIENT} is a large speedup", measured, speedup > 10),
    )
    cosines = {
        f"cosines_{name.replace(' ', '_')}": {size: draws[:, COSINES].mean().item() for size, draws in curve.items()}
        for name, curve in curves.items()
    }
    return ExperimentResult(claims, {"speedup": speedup}, _draw_gradients(curves, seconds), cosines)


def _cosine_claim(name: str, curve: Curve) -> Claim:
    """The claim holds if the mean angle is below 45 degrees."""
    cosines = curve[BATCH_SIZE][:, COSINES]
    low, mean, high = cosines.min(), cosines.mean(), cosines.max()
    claim = f"{name}, {MINI_BATCH_GRADIENT} approximates that of all {max(curve):,} well, within 45°"
    measured = f"mean cosine {mean:.3f}, from {low:.2f} to {high:.2f} in {len(cosines)} draws"
    return Claim(13, claim, measured, mean.item() > 0.5**0.5)


def _descent_claim(name: str, curve: Curve) -> Claim:
    cosines = curve[BATCH_SIZE][:, COSINES]
    downhill = int((cosines > 0).sum())
    measured = f"{downhill} of {len(cosines)} mini-batches are"
    holds = downhill >= 0.95 * len(cosines)
    return Claim(13, f"{name}, {MINI_BATCH_GRADIENT} is still a descent direction", measured, holds)


def _curve(setup: Setup, model: torch.nn.Module) -> Curve:
    backprop, examples = Backprop(model, cost), len(setup.inputs)
    full = flatten(backprop.gradients(setup.inputs, setup.targets)[1].values())
    generator = torch.Generator().manual_seed(setup.seed)
    curve = {}
    candidates = SIZES[::2] if setup.quick else SIZES
    for size in (*(size for size in candidates if size < examples), examples):
        draws = min(20, max(2, 20_000 // size)) if setup.quick else min(100, max(3, 80_000 // size))
        curve[size] = torch.tensor([_sample(setup, backprop, full, size, generator) for _ in range(draws)])
    return curve


def _sample(
    setup: Setup, backprop: Backprop, full: Tensor, size: int, generator: torch.Generator
) -> tuple[float, float, float]:
    indices = torch.randperm(len(setup.inputs), generator=generator)[:size]
    chosen = indices if size < len(setup.inputs) else slice(None)  # no copy of all examples
    began = time.perf_counter()
    _, gradients = backprop.gradients(setup.inputs[chosen], setup.targets[chosen])
    seconds = time.perf_counter() - began
    gradient = flatten(gradients.values())
    cosine = torch.cosine_similarity(gradient, full, dim=0).item()
    return cosine, (gradient.norm() / full.norm()).item(), seconds


def _draw_gradients(curves: dict[str, Curve], seconds: dict[int, float]) -> Figure:
    figure, (cosine, norm, clock) = panels("The gradient of a mini-batch compared with that of all examples", 3)
    for (name, curve), colour in zip(curves.items(), (BLUE, GREEN, ORANGE), strict=True):
        _band(cosine, curve, COSINES, colour, name)
        _band(norm, curve, NORM_RATIOS, colour, name)
    clock.plot(list(seconds), list(seconds.values()), "o-", color=GREY)
    cosine.set(title="cosine between the two", ylim=(-0.3, 1.05))
    norm.set(title="its norm / the full one's", yscale="log")
    clock.set(title="seconds for one gradient", yscale="log")
    for axes in (cosine, norm, clock):
        axes.axvline(BATCH_SIZE, color="black", linestyle=":", linewidth=1)
        axes.set(xscale="log", xlabel="examples in the mini-batch")
    norm.legend()
    return figure


def _band(axes: Axes, curve: Curve, column: int, colour: str, name: str) -> None:
    """Draw the mean of the draws, and the band from their minimum to their maximum."""
    draws = [each[:, column] for each in curve.values()]
    axes.plot(list(curve), [each.mean() for each in draws], "o-", color=colour, label=name)
    low, high = [each.min() for each in draws], [each.max() for each in draws]
    axes.fill_between(list(curve), low, high, color=colour, alpha=0.2, linewidth=0)


class Descent(NamedTuple):
    """One descent."""

    rate: float  # learning rate
    batch_size: int
    points: Tensor  # all parameters before each step and after the last, (steps + 1, parameters)
    seconds: Tensor  # time at each point, (steps + 1,)
    costs: Tensor  # at each point, on the first 2,000 training examples, 500 if quick, (steps + 1,)

    def straightness(self, steps: int) -> float:
        """The mean cosine between consecutive steps, over `steps` steps after the first, which is the longest."""
        moves = self.points[1 : steps + 2].diff(dim=0)
        return torch.cosine_similarity(moves[1:], moves[:-1]).mean().item()

    def steps_to(self, cost: float) -> int | None:
        """The number of steps after which the cost stays at or below `cost`; None if it does not."""
        above = (self.costs > cost).nonzero()
        steps = int(above[-1]) + 1 if len(above) else 0
        return steps if steps < len(self.costs) else None


def paths(setup: Setup) -> ExperimentResult:
    """Descend from the same weights by mini-batches and by full gradients, and draw both paths on the cost surface."""
    full_batch = _best_learning_rate(setup, len(setup.inputs), 15 if setup.quick else 200)
    sgd = _best_learning_rate(setup, BATCH_SIZE, 600 if setup.quick else 1800)
    steps = len(full_batch.points) - 2
    straight, stumbling = full_batch.straightness(steps), sgd.straightness(steps)
    claim = "the path by mini-batches stumbles, that of full gradients goes straight"
    measured = f"mean cosine between one step and the next {stumbling:.2f} against {straight:.2f}, in the first {steps}"
    stumbles = Claim(13, claim, measured, stumbling < 0.5 < straight)
    metrics = {"straightness_mini_batches": stumbling, "straightness_full": straight}
    claims = (_epoch_claim(sgd, full_batch), _speed_claim(sgd, full_batch), stumbles)
    return ExperimentResult(claims, metrics, _draw_paths(setup, sgd, full_batch))


def _epoch_claim(sgd: Descent, full_batch: Descent) -> Claim:
    examples = full_batch.batch_size
    steps = -(-examples // sgd.batch_size)
    start, end, other = sgd.costs[0].item(), sgd.costs[steps].item(), full_batch.costs[1].item()
    return Claim(
        12,
        f"shuffle, split into mini-batches of {sgd.batch_size}, take a step for each: stochastic gradient descent",
        f"one epoch, {steps} steps that see each of {examples:,} examples once, takes the cost from {start:.2f} to "
        f"{end:.2f}; one step that sees them all, to {other:.2f}",
        end < other,
    )


def _speed_claim(sgd: Descent, full_batch: Descent) -> Claim:
    """The steps of both descents lower the cost about as much, so the time of a step decides."""
    cost, seconds = full_batch.costs[-1].item(), full_batch.seconds[-1].item()
    steps = sgd.steps_to(cost)
    spent = math.inf if steps is None else sgd.seconds[steps].item()
    return Claim(
        13,
        "mini-batches are the far quicker way to the same cost",
        f"cost {cost:.3f} is reached by {len(full_batch.costs) - 1} full steps in {seconds:.1f} s, by {steps} steps "
        f"of mini-batches in {spent:.3f} s, {seconds / spent:.0f} times sooner",
        seconds / spent > 5,
    )


def _best_learning_rate(setup: Setup, batch_size: int, steps: int) -> Descent:
    descents = (_descend(setup, batch_size, steps, rate) for rate in (RATES[1:2] if setup.quick else RATES))
    return min(descents, key=lambda path: path.costs[-10:].mean().item())


def _descend(setup: Setup, batch_size: int, steps: int, rate: float) -> Descent:
    model = setup.network()
    backprop, whole = Backprop(model, cost), (setup.inputs, setup.targets)
    points, seconds = [flatten(model.parameters()).detach()], [0.0]
    batches = endless_batches(*whole, seed=setup.seed) if batch_size == BATCH_SIZE else repeat(whole)
    for _ in range(steps):
        began = time.perf_counter()
        backprop.sgd_step(*next(batches), rate)
        seconds.append(seconds[-1] + time.perf_counter() - began)
        points.append(flatten(model.parameters()).detach())
    return Descent(rate, batch_size, torch.stack(points), torch.tensor(seconds), _costs(setup, points))


def _costs(setup: Setup, points: Iterable[Tensor]) -> Tensor:
    """The cost at each point, on the same examples."""
    examples = 500 if setup.quick else 2000
    return costs_at(setup.network(), points, setup.inputs[:examples], setup.targets[:examples])


def _draw_paths(setup: Setup, sgd: Descent, full_batch: Descent) -> Figure:
    figure, (whole, near, clock, seen) = panels("Two ways down one cost surface", 2, 2)
    styles = (sgd, ORANGE, f"mini-batches of {sgd.batch_size}"), (full_batch, BLUE, "all examples")
    first = len(full_batch.points)  # the path of mini-batches is longer
    _draw_surface(
        whole, setup, _principal_plane(sgd, full_batch), [(path.points, colour) for path, colour, _ in styles]
    )
    _draw_surface(
        near, setup, _deviation_plane(sgd, full_batch), [(path.points[1:first], colour) for path, colour, _ in styles]
    )
    whole.set(title="the plane in which both go farthest", xlabel="1st principal direction", ylabel="2nd")
    near.set(title=f"after the first step, {first - 2} more", xlabel="onward", ylabel="where they differ most")
    for path, colour, name in styles:
        clock.plot(path.seconds[1:], path.costs[1:], color=colour, label=f"{name}, learning rate {path.rate:g}")
        seen.plot(path.batch_size * torch.arange(1, len(path.costs)), path.costs[1:], color=colour)
    clock.set(title="cost against time", xscale="log", xlabel="seconds")
    seen.set(title="cost against examples seen", xscale="log", xlabel="examples")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _principal_plane(sgd: Descent, full_batch: Descent) -> Tensor:
    """The first two principal directions of both paths, (2, parameters), from about as many points of each."""
    thinned = sgd.points[:: max(1, len(sgd.points) // len(full_batch.points))]
    displacements = torch.cat([thinned, full_batch.points]) - full_batch.points[0]
    _, _, directions = torch.linalg.svd(displacements, full_matrices=False)
    return directions[:2]  # type: ignore[no-any-return]


def _deviation_plane(sgd: Descent, full_batch: Descent) -> Tensor:
    """The direction in which full gradients progress, and the one in which mini-batches differ most from them."""
    onward = torch.nn.functional.normalize(full_batch.points[-1] - full_batch.points[1], dim=0)
    deviations = sgd.points[1 : len(full_batch.points)] - full_batch.points[1:]
    deviations = deviations - torch.outer(deviations @ onward, onward)
    return torch.stack([onward, torch.linalg.svd(deviations, full_matrices=False)[2][0]])


def _draw_surface(axes: Axes, setup: Setup, plane: Tensor, descents: list[tuple[Tensor, str]]) -> None:
    """Draw paths projected on a plane through the start of the last one, over the contours of the cost."""
    origin = descents[-1][0][0]
    projected = [((points - origin) @ plane.t(), colour) for points, colour in descents]
    corners = torch.cat([points for points, _ in projected])
    low, high = corners.amin(0), corners.amax(0)
    x, y = (torch.linspace(a, b, GRID) for a, b in zip(low - (high - low) / 6, high + (high - low) / 6, strict=True))
    heights = _costs(setup, torch.cartesian_prod(x, y) @ plane + origin).reshape(GRID, GRID).t()
    levels = torch.logspace(heights.min().log10().item(), heights.max().log10().item(), 15)
    contours = axes.contourf(
        x.numpy(), y.numpy(), heights.numpy(), levels=levels, cmap="Greys_r", alpha=0.7, norm="log"
    )
    axes.figure.colorbar(contours, ax=axes, format="%.2g")
    for points, colour in projected:
        axes.plot(*points.t(), color=colour, linewidth=1.2)
        axes.plot(*points[-1], "o", color=colour)
    axes.plot(0, 0, "k*", markersize=11)
    axes.grid(visible=False)
