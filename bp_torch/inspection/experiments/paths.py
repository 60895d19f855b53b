"""Statements 12 and 13: a drunk man stumbling downhill, but fast, against a careful man's slow and exact steps."""

import math
import time
from dataclasses import dataclass
from itertools import repeat

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.finding import Claim, Finding
from bp_torch.inspection.experiments.style import BLUE, ORANGE, panels
from bp_torch.inspection.experiments.subject import BATCH_SIZE, Subject, cost, place, walk

RATES = (1.0, 3.0, 10.0)
"""Learning rates tried; each man walks with the one that brings him lowest."""
GRID = 25


@dataclass(frozen=True)
class Descent:
    """One descent.

    Attributes:
        rate: the learning rate.
        batch_size: examples looked at for a step.
        places: all parameters before each step and after the last, (steps + 1, parameters).
        seconds: when each place was reached, (steps + 1,).
        costs: the height of each, on the first 2,000 training examples, or 500 to be quick, (steps + 1,).
    """

    rate: float
    batch_size: int
    places: Tensor
    seconds: Tensor
    costs: Tensor

    def straightness(self, steps: int) -> float:
        """The mean cosine between one step and the next, of so many steps after the first, which is the longest."""
        moved = self.places[1 : steps + 2].diff(dim=0)
        return torch.cosine_similarity(moved[1:], moved[:-1]).mean().item()

    def steps_to(self, height: float) -> int | None:
        """After how many steps it was that low, never to be higher again; None if it is higher at the end."""
        above = (self.costs > height).nonzero()
        steps = int(above[-1]) + 1 if len(above) else 0
        return steps if steps < len(self.costs) else None


def paths(subject: Subject) -> Finding:
    """Walk down from the same weights by mini-batches and by full gradients, and draw both paths on the surface."""
    careful = _best(subject, len(subject.inputs), 15 if subject.quick else 200)
    drunk = _best(subject, BATCH_SIZE, 600 if subject.quick else 1800)
    steps = len(careful.places) - 2
    straight, stumbling = careful.straightness(steps), drunk.straightness(steps)
    claims = (
        _an_epoch(drunk, careful),
        _sooner(drunk, careful),
        Claim(
            13,
            "the path by mini-batches stumbles, that of full gradients goes straight",
            f"mean cosine between one step and the next {stumbling:.2f} against {straight:.2f}, in the first {steps}",
            stumbling < 0.5 < straight,
            "network",
        ),
    )
    merits = {"straightness_mini_batches": stumbling, "straightness_full": straight}
    return Finding(claims, merits, _draw(subject, drunk, careful))


def _an_epoch(drunk: Descent, careful: Descent) -> Claim:
    examples = careful.batch_size
    steps = -(-examples // drunk.batch_size)
    start, end, other = drunk.costs[0].item(), drunk.costs[steps].item(), careful.costs[1].item()
    return Claim(
        12,
        f"shuffle, split into mini-batches of {drunk.batch_size}, take a step for each: stochastic gradient descent",
        f"one epoch, {steps} steps that see each of {examples:,} examples once, takes the cost from {start:.2f} to "
        f"{end:.2f}; one step that sees them all, to {other:.2f}",
        end < other,
        "network",
    )


def _sooner(drunk: Descent, careful: Descent) -> Claim:
    """A step by a mini-batch gets on about as far as a full one, so it is the steps' own time that tells."""
    height, seconds = careful.costs[-1].item(), careful.seconds[-1].item()
    steps = drunk.steps_to(height)
    spent = math.inf if steps is None else drunk.seconds[steps].item()
    return Claim(
        13,
        "mini-batches are the far quicker way to the same cost",
        f"cost {height:.3f} is reached by {len(careful.costs) - 1} full steps in {seconds:.1f} s, by {steps} steps of "
        f"mini-batches in {spent:.3f} s, {seconds / spent:.0f} times sooner",
        seconds / spent > 5,
        "network",
    )


def _best(subject: Subject, batch_size: int, steps: int) -> Descent:
    walked = (_walk(subject, batch_size, steps, rate) for rate in (RATES[1:2] if subject.quick else RATES))
    return min(walked, key=lambda path: path.costs[-10:].mean().item())


def _walk(subject: Subject, batch_size: int, steps: int, rate: float) -> Descent:
    model = subject.network()
    driver, every = Backprop(model, cost), (subject.inputs, subject.targets)
    places, seconds, spent = [place(model)], [0.0], 0.0
    batches = walk(*every, seed=subject.seed) if batch_size == BATCH_SIZE else repeat(every)
    for _ in range(steps):
        began = time.perf_counter()
        driver.sgd_step(*next(batches), rate)
        spent += time.perf_counter() - began
        places.append(place(model))
        seconds.append(spent)
    walked = torch.stack(places)
    return Descent(rate, batch_size, walked, torch.tensor(seconds), _heights(subject, walked))


@torch.no_grad()
def _heights(subject: Subject, places: Tensor) -> Tensor:
    """The cost at each of these places, on the same examples."""
    model = subject.network()
    examples = 500 if subject.quick else 2000
    inputs, targets = subject.inputs[:examples], subject.targets[:examples]
    heights = []
    for each in places:
        torch.nn.utils.vector_to_parameters(each, model.parameters())
        heights.append(cost(model(inputs), targets))
    return torch.stack(heights)


def _draw(subject: Subject, drunk: Descent, careful: Descent) -> Figure:
    figure, (whole, near, clock, seen) = panels("Two ways down one cost surface", 2, 2)
    styles = (drunk, ORANGE, f"mini-batches of {drunk.batch_size}"), (careful, BLUE, "all examples")
    first = min(len(careful.places), len(drunk.places))
    _draw_surface(whole, subject, _plane(drunk, careful), [(path.places, colour) for path, colour, _ in styles])
    _draw_surface(near, subject, _apart(drunk, careful), [(path.places[1:first], colour) for path, colour, _ in styles])
    whole.set(title="the plane in which both go farthest", xlabel="1st principal direction", ylabel="2nd")
    near.set(title=f"after the first step, {first - 2} more", xlabel="onward", ylabel="where they differ most")
    for path, colour, name in styles:
        clock.plot(path.seconds[1:], path.costs[1:], color=colour, label=f"{name}, learning rate {path.rate:g}")
        seen.plot(path.batch_size * torch.arange(1, len(path.costs)), path.costs[1:], color=colour)
    clock.set(title="cost against time", xscale="log", xlabel="seconds")
    seen.set(title="cost against examples seen", xscale="log", xlabel="examples")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _plane(drunk: Descent, careful: Descent) -> Tensor:
    """The two principal directions of both paths, as many places of each, (2, parameters)."""
    few = drunk.places[:: max(1, len(drunk.places) // len(careful.places))]
    walked = torch.cat([few, careful.places]) - careful.places[0]
    _, _, directions = torch.linalg.svd(walked, full_matrices=False)
    return directions[:2]  # type: ignore[no-any-return]


def _apart(drunk: Descent, careful: Descent) -> Tensor:
    """The direction in which the careful man gets on, and that in which the drunk strays most from him."""
    first = min(len(careful.places), len(drunk.places))
    onward = torch.nn.functional.normalize(careful.places[-1] - careful.places[1], dim=0)
    strayed = drunk.places[1:first] - careful.places[1:first]
    strayed = strayed - torch.outer(strayed @ onward, onward)
    return torch.stack([onward, torch.linalg.svd(strayed, full_matrices=False)[2][0]])


def _draw_surface(axes: Axes, subject: Subject, plane: Tensor, walked: list[tuple[Tensor, str]]) -> None:
    """Paths in a plane through where the last one begins, over the cost's contours there."""
    origin = walked[-1][0][0]
    shown = [((places - origin) @ plane.t(), colour) for places, colour in walked]
    corners = torch.cat([points for points, _ in shown])
    low, high = corners.amin(0), corners.amax(0)
    x, y = (torch.linspace(a, b, GRID) for a, b in zip(low - (high - low) / 6, high + (high - low) / 6, strict=True))
    heights = _heights(subject, torch.cartesian_prod(x, y) @ plane + origin).reshape(GRID, GRID).t()
    levels = torch.logspace(heights.min().log10().item(), heights.max().log10().item(), 15)
    drawn = axes.contourf(x.numpy(), y.numpy(), heights.numpy(), levels=levels, cmap="Greys_r", alpha=0.7, norm="log")
    axes.figure.colorbar(drawn, ax=axes, format="%.2g")
    for points, colour in shown:
        axes.plot(*points.t(), color=colour, linewidth=1.2)
        axes.plot(*points[-1], "o", color=colour)
    axes.plot(0, 0, "k*", markersize=11)
    axes.grid(visible=False)
