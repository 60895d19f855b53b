"""Statement 13: a mini-batch's gradient is a good approximation of the full one, at a small part of its time."""

import time

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils import parameters_to_vector as flatten

from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.setup import BATCH_SIZE, Claim, ExperimentResult, Setup, cost
from bp_torch.inspection.figures import BLUE, GREEN, GREY, ORANGE, panels

WHAT = f"the gradient of {BATCH_SIZE} examples"
SIZES = (1, 3, 10, 30, BATCH_SIZE, 300, 1000, 3000, 10_000, 30_000)


Curve = dict[int, Tensor]
"""By the size of the mini-batch, each draw's cosine to the full gradient, ratio of norms, and seconds: (draws, 3)."""
COSINES, NORM_RATIOS, SECONDS = range(3)


def mini_batches(setup: Setup) -> ExperimentResult:
    """Compare gradients of mini-batches of every size with the full one: at first, in the midst of it, and at last."""
    curves = {
        "at the first weights": _curve(setup, setup.network()),
        "while it learns": _curve(setup, setup.partly_trained),
        "after learning": _curve(setup, setup.trained),
    }
    drawn = {size: torch.cat([curve[size] for curve in curves.values()]) for size in curves["after learning"]}
    seconds = {size: draws[:, SECONDS].median().item() for size, draws in drawn.items()}
    speedup = seconds[len(setup.inputs)] / seconds[BATCH_SIZE]
    measured = f"{speedup:.0f} of them in the time of a full one"
    claims = (
        *(_approximates(name, curve) for name, curve in curves.items()),
        _downhill("while it learns", curves["while it learns"]),
        Claim(13, f"{WHAT} is a large speedup", measured, speedup > 10),
    )
    cosines = {
        f"cosines_{name.replace(' ', '_')}": {size: draws[:, COSINES].mean().item() for size, draws in curve.items()}
        for name, curve in curves.items()
    }
    return ExperimentResult(claims, {"speedup": speedup}, _draw(curves, seconds), cosines)


def _approximates(name: str, curve: Curve) -> Claim:
    """Well is within 45 degrees: nearer to the full gradient than to what is perpendicular to it."""
    cosines = curve[BATCH_SIZE][:, COSINES]
    low, mean, high = cosines.min(), cosines.mean(), cosines.max()
    claim = f"{name}, {WHAT} approximates that of all {max(curve):,} well, within 45°"
    measured = f"mean cosine {mean:.3f}, from {low:.2f} to {high:.2f} in {len(cosines)} draws"
    return Claim(13, claim, measured, mean.item() > 0.5**0.5)


def _downhill(name: str, curve: Curve) -> Claim:
    cosines = curve[BATCH_SIZE][:, COSINES]
    downhill = int((cosines > 0).sum())
    measured = f"{downhill} of {len(cosines)} mini-batches do"
    holds = downhill >= 0.95 * len(cosines)
    return Claim(13, f"{name}, {WHAT} points downhill all the same", measured, holds)


def _curve(setup: Setup, model: torch.nn.Module) -> Curve:
    driver, examples = Backprop(model, cost), len(setup.inputs)
    full = flatten(driver.gradients(setup.inputs, setup.targets)[1].values())
    generator = torch.Generator().manual_seed(setup.seed)
    curve = {}
    known = SIZES[::2] if setup.quick else SIZES
    for size in (*(size for size in known if size < examples), examples):
        draws = min(20, max(2, 20_000 // size)) if setup.quick else min(100, max(3, 80_000 // size))
        curve[size] = torch.tensor([_draw_one(setup, driver, full, size, generator) for _ in range(draws)])
    return curve


def _draw_one(
    setup: Setup, driver: Backprop, full: Tensor, size: int, generator: torch.Generator
) -> tuple[float, float, float]:
    some = torch.randperm(len(setup.inputs), generator=generator)[:size]
    chosen = some if size < len(setup.inputs) else slice(None)  # all of them need not be gathered
    began = time.perf_counter()
    _, gradients = driver.gradients(setup.inputs[chosen], setup.targets[chosen])
    seconds = time.perf_counter() - began
    gradient = flatten(gradients.values())
    cosine = torch.cosine_similarity(gradient, full, dim=0).item()
    return cosine, (gradient.norm() / full.norm()).item(), seconds


def _draw(curves: dict[str, Curve], seconds: dict[int, float]) -> Figure:
    figure, (cosine, norm, clock) = panels("The gradient of a mini-batch beside that of all examples", 3)
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
    """The mean of the draws, between the least and the most."""
    draws = [each[:, column] for each in curve.values()]
    axes.plot(list(curve), [each.mean() for each in draws], "o-", color=colour, label=name)
    low, high = [each.min() for each in draws], [each.max() for each in draws]
    axes.fill_between(list(curve), low, high, color=colour, alpha=0.2, linewidth=0)
