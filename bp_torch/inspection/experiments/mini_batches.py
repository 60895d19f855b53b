"""Statement 13: a mini-batch's gradient is a good approximation of the full one, at a small part of its time."""

import time
from collections.abc import Callable
from statistics import mean, median
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.finding import Claim, Finding
from bp_torch.inspection.experiments.style import BLUE, GREEN, GREY, ORANGE, panels
from bp_torch.inspection.experiments.subject import BATCH_SIZE, Subject, cost, flat

WHAT = f"the gradient of {BATCH_SIZE} examples"
SIZES = (1, 3, 10, 30, BATCH_SIZE, 300, 1000, 3000, 10_000, 30_000)


class _Draws(NamedTuple):
    """Mini-batches of one size beside the full gradient: what each of them gave."""

    cosines: list[float]
    norm_ratios: list[float]
    seconds: list[float]


Curve = dict[int, _Draws]
"""By the size of the mini-batch."""


def mini_batches(subject: Subject) -> Finding:
    """Compare gradients of mini-batches of every size with the full one: at first, in the midst of it, and at last."""
    curves = {
        "at the first weights": _curve(subject, subject.network()),
        "while it learns": _curve(subject, subject.learning),
        "after learning": _curve(subject, subject.taught),
    }
    drawn = [(size, draws.seconds) for curve in curves.values() for size, draws in curve.items()]
    seconds = {size: median(s for of, each in drawn if of == size for s in each) for size, _ in drawn}
    speedup = seconds[len(subject.inputs)] / seconds[BATCH_SIZE]
    told = f"{speedup:.0f} of them in the time of a full one"
    claims = (
        *(_approximates(name, curve) for name, curve in curves.items()),
        _downhill("while it learns", curves["while it learns"]),
        Claim(13, f"{WHAT} is a large speedup", told, speedup > 10, "network"),
    )
    means = _means(curves)
    merits = {"speedup": speedup} | {name: by_size[BATCH_SIZE] for name, by_size in means.items()}
    return Finding(claims, merits, _draw(curves, seconds), means | {"seconds": seconds})


def _means(curves: dict[str, Curve]) -> dict[str, dict[int, float]]:
    """What is logged of each curve, by the size of the mini-batch."""
    return {
        f"{what}_{name.replace(' ', '_')}": {size: mean(getattr(draws, what)) for size, draws in curve.items()}
        for name, curve in curves.items()
        for what in ("cosines", "norm_ratios")
    }


def _approximates(name: str, curve: Curve) -> Claim:
    """Well is within 45 degrees: nearer to the full gradient than to what is perpendicular to it."""
    cosines = curve[BATCH_SIZE].cosines
    return Claim(
        13,
        f"{name}, {WHAT} approximates that of all {max(curve):,} well, within 45°",
        f"mean cosine {mean(cosines):.3f}, from {min(cosines):.2f} to {max(cosines):.2f} in {len(cosines)} draws",
        mean(cosines) > 0.5**0.5,
        "network",
    )


def _downhill(name: str, curve: Curve) -> Claim:
    cosines = curve[BATCH_SIZE].cosines
    downhill = sum(cosine > 0 for cosine in cosines)
    told = f"{downhill} of {len(cosines)} mini-batches do"
    return Claim(13, f"{name}, {WHAT} points downhill all the same", told, downhill >= 0.95 * len(cosines), "network")


def _curve(subject: Subject, model: torch.nn.Module) -> Curve:
    driver, examples = Backprop(model, cost), len(subject.inputs)
    full = flat(driver.gradients(subject.inputs, subject.targets)[1].values())
    generator = torch.Generator().manual_seed(subject.seed)
    curve = {}
    known = SIZES[::2] if subject.quick else SIZES
    for size in (*(size for size in known if size < examples), examples):
        draws = min(20, max(2, 20_000 // size)) if subject.quick else min(100, max(3, 80_000 // size))
        curve[size] = _drawn(subject, driver, full, size, draws, generator)
    return curve


def _drawn(
    subject: Subject, driver: Backprop, full: Tensor, size: int, draws: int, generator: torch.Generator
) -> _Draws:
    found = _Draws([], [], [])
    for _ in range(draws):
        some = torch.randperm(len(subject.inputs), generator=generator)[:size]
        chosen = some if size < len(subject.inputs) else slice(None)  # all of them need not be gathered
        began = time.perf_counter()
        _, gradients = driver.gradients(subject.inputs[chosen], subject.targets[chosen])
        found.seconds.append(time.perf_counter() - began)
        gradient = flat(gradients.values())
        found.cosines.append(torch.cosine_similarity(gradient, full, dim=0).item())
        found.norm_ratios.append((gradient.norm() / full.norm()).item())
    return found


def _draw(curves: dict[str, Curve], seconds: dict[int, float]) -> Figure:
    figure, (cosine, norm, clock) = panels("The gradient of a mini-batch beside that of all examples", 3)
    for (name, curve), colour in zip(curves.items(), (BLUE, GREEN, ORANGE), strict=True):
        _band(cosine, curve, lambda draws: draws.cosines, colour, name)
        _band(norm, curve, lambda draws: draws.norm_ratios, colour, name)
    clock.plot(list(seconds), list(seconds.values()), "o-", color=GREY)
    cosine.set(title="cosine between the two", ylim=(-0.3, 1.05))
    norm.set(title="its norm / the full one's", yscale="log")
    clock.set(title="seconds for one gradient", yscale="log")
    for axes in (cosine, norm, clock):
        axes.axvline(BATCH_SIZE, color="black", linestyle=":", linewidth=1)
        axes.set(xscale="log", xlabel="examples in the mini-batch")
    norm.legend()
    return figure


def _band(axes: Axes, curve: Curve, of: Callable[[_Draws], list[float]], colour: str, name: str) -> None:
    """The mean of the draws, between the least and the most."""
    sizes = list(curve)
    axes.plot(sizes, [mean(of(draws)) for draws in curve.values()], "o-", color=colour, label=name)
    low, high = ([pick(of(draws)) for draws in curve.values()] for pick in (min, max))
    axes.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
