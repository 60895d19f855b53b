"""Statement 5: a component of the gradient is how sensitive the cost is to that weight; wiggle it and see."""

from math import ceil, floor, log10

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bp_torch.inspection.experiments.result import Claim, ExperimentResult
from bp_torch.inspection.experiments.setup import Setup, cost
from bp_torch.inspection.figures import BLUE, GREEN, GREY, ORANGE, panels
from bp_torch.inspection.sensitivity import Sensitivity, Wiggle, sensitivities, wiggle

TIMES = 32
"""The lecture's 3.2 against 0.1."""
WIGGLED = 16


def wiggles(setup: Setup) -> ExperimentResult:
    """Rank all weights and biases of the trained network, wiggle some on the real cost, and compare."""
    examples = 1000 if setup.quick else 10_000
    inputs, targets = setup.inputs[:examples], setup.targets[:examples]
    ranked = sensitivities(setup.trained, cost, inputs, targets)
    most = ranked[0]
    partner = min(ranked, key=lambda one: abs(one.size * TIMES - most.size))
    chosen = [most, partner, *ranked[1 : len(ranked) // 2 : len(ranked) // (2 * WIGGLED)]]
    moved = [wiggle(setup.trained, cost, inputs, targets, one) for one in chosen]
    ratio = abs(moved[0].measured / moved[1].measured)
    order = torch.tensor([found.order for found in moved]).nanmedian().item()
    worst = torch.tensor([found.measured / found.predicted - 1 for found in moved]).abs().max().item()
    claims = (
        Claim(
            5,
            "a component's size is the cost's sensitivity to that weight or bias",
            f"{len(moved)} of the more sensitive half moved by {moved[0].step:.4f}: the cost changes as predicted, to "
            f"{worst:.1%}; Taylor order {order:.2f} in the median",
            worst < 0.1 and abs(order - 2) < 0.1,
            "equation",
        ),
        Claim(
            5,
            f"{TIMES} times as large is {TIMES} times as sensitive",
            f"{most.beside(partner)}; wiggled, the cost changes {ratio:.1f} times as much",
            abs(ratio / TIMES - 1) < 0.1,
            "equation",
        ),
    )
    metrics = {"largest_gradient": most.size, "measured_ratio": ratio, "taylor_order": order}
    return ExperimentResult(claims, metrics, _draw(ranked, moved))


def _draw(ranked: list[Sensitivity], moved: list[Wiggle]) -> Figure:
    figure, (sizes, changes, pixels) = panels("How sensitive the cost is to every weight and bias", 3)
    for layer, colour in zip((1, 2, 3), (GREY, GREEN, ORANGE), strict=True):
        own = [one.size for one in ranked if one.layer == layer]
        sizes.plot(range(1, len(own) + 1), own, color=colour, label=f"layer {layer}")
    sizes.set(title="|∂C/∂w|, ranked in each layer", xscale="log", xlabel="rank")
    sizes.set(yscale="log", ylim=(ranked[0].size / 1e5, None))
    sizes.legend()
    _draw_changes(changes, moved)
    figure.colorbar(pixels.imshow(_of_pixels(ranked).numpy(), cmap="cividis"), ax=pixels)
    pixels.set(title="the weights of each pixel, root mean square")
    pixels.set_axis_off()
    return figure


def _draw_changes(axes: Axes, moved: list[Wiggle]) -> None:
    """Each measured change over the predicted one, and where they are the same."""
    predicted, measured = ([abs(getattr(one, name)) for one in moved] for name in ("predicted", "measured"))
    decades = 10 ** floor(log10(min(predicted))), 10 ** ceil(log10(max(predicted)))
    axes.plot(predicted, predicted, color=GREY)
    axes.plot(predicted, measured, "o", color=BLUE)
    axes.set(title="change of the cost when wiggled", xlabel="predicted", ylabel="measured")
    axes.set(xscale="log", yscale="log", xlim=decades, ylim=decades)


def _of_pixels(ranked: list[Sensitivity]) -> torch.Tensor:
    """The root mean square over the first layer's weights that leave each pixel, (28, 28)."""
    squares = torch.zeros(28 * 28)
    own = [one for one in ranked if one.layer == 1 and len(one.index) == 2]
    for one in own:
        squares[one.index[1]] += one.gradient**2
    return (squares * len(squares) / len(own)).sqrt().reshape(28, 28)
