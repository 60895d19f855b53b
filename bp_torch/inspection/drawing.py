"""Pictures of an explanation: activations as brightness, wishes in colour, blue for more and orange for less.

What is asked to become less is also dashed, marked by a dash, or points down: the sign survives a printer without
colours.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from bp_torch.inspection.explanation import Explanation, LayerExplanation

MORE: Final = "#0072b2"
LESS: Final = "#d55e00"
WISHES: Final = LinearSegmentedColormap.from_list("wishes", [LESS, "white", MORE])
"""Symmetric around 0."""
MOST_NEURONS: Final = 20
"""Of a layer that are drawn."""

Array = npt.NDArray[np.float64]
_Box = tuple[float, float, float, float]
"""Left, bottom, width and height, in the axes' own numbers."""


def draw_explanation(explanation: Explanation, output: int | None = None, *, title: str = "") -> Figure:
    """Draw what one example asks for, for a lecture: the network, one output's three avenues, and the sums.

    Args:
        explanation: of a digit, or of any other input, which is then drawn as a row.
        output: whose three avenues are shown; the one that is wanted most, if not given.
        title: above it all.

    Returns:
        A figure of 14 by 9 inches.

    Raises:
        ValueError: if there is no such output.
    """
    chosen = explanation.chosen(output)
    figure = Figure(figsize=(14, 9), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=15)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.45, 1))[:, 0]
    grid = upper.add_gridspec(2, 2, width_ratios=(1, 4.6))
    _draw_pixels(upper.add_subplot(grid[0, 0]), explanation.image, "the digit, as the network takes it")
    wishes = upper.add_subplot(grid[1, 0])
    _draw_pixels(wishes, explanation.pixel_nudges, "what is wished of its pixels", over=explanation.image)
    network = upper.add_subplot(grid[:, 1])
    draw_network(network, explanation, (0, 0, 10, 6), chosen=chosen)
    network.set_title("activations as brightness; edges: what is wished of each weight, dashed: less", fontsize=10)
    network.set(xlim=(-1.1, 12.2), ylim=(-0.2, 6.2))
    network.set_axis_off()
    _draw_avenues(lower, explanation.layers[-1], chosen)
    return figure


def draw_network(axes: Axes, explanation: Explanation, box: _Box, *, chosen: int | None = None) -> None:
    """Draw neurons and what is wished of their weights into a box of the axes.

    Args:
        axes: where.
        explanation: what of.
        box: left, bottom, width and height.
        chosen: an output to point out; with one, numbers are written too.
    """
    columns = [_shown(layer) for layer in explanation.layers]
    left, bottom, width, height = box
    across = np.linspace(left, left + width, len(columns)) if len(columns) > 1 else np.array([left + width])
    places = [_column(x, bottom, height, len(shown)) for x, shown in zip(across, columns, strict=True)]
    _draw_edges(axes, explanation.layers, columns, places)
    size = 14 if chosen is None else min(20, 290 / max(map(len, columns))) ** 2
    _draw_neurons(axes, explanation.layers, columns, places, size)
    if chosen is not None:
        for layer, shown, at in zip(explanation.layers, columns, places, strict=True):
            _write_numbers(axes, layer, shown, at)
        _draw_copies(axes, explanation.layers[0], columns[0], places[0])
        _draw_outputs(axes, explanation, columns[-1], places[-1], chosen, size)


def _draw_copies(axes: Axes, layer: LayerExplanation, shown: Sequence[int], at: Array) -> None:
    """Left of each neuron of the first layer, what is wished of its weights: a coloured copy of the digit."""
    wishes, side = layer.weight_nudges[shown], isqrt(len(layer.inputs))
    if side * side != len(layer.inputs):
        return
    limit, half = wishes.abs().max().item() or 1.0, 3 / max(len(shown), 10) * 0.95
    for (x, y), wish in zip(at, wishes.cpu(), strict=True):
        extent = (x - 0.35 - 2 * half, x - 0.35, y - half, y + half)
        axes.imshow(
            wish.reshape(side, side).numpy(), cmap=WISHES, vmin=-limit, vmax=limit, extent=extent, aspect="auto"
        )


def _shown(layer: LayerExplanation) -> list[int]:
    """The neurons of which most is wished, in their order."""
    strongest = layer.weighted_input_nudges.abs().topk(min(MOST_NEURONS, len(layer.activations))).indices
    return sorted(strongest.tolist())


def _column(x: float, bottom: float, height: float, count: int) -> Array:
    """The places of so many neurons, the first on top, (count, 2)."""
    y = bottom + height * (1 - (np.arange(count) + 0.5) / count)
    return np.stack([np.full(count, x), y], axis=1)


def _draw_edges(
    axes: Axes, layers: Sequence[LayerExplanation], columns: Sequence[list[int]], places: Sequence[Array]
) -> None:
    """One line for each weight of which something is wished: the more, in its layer, the stronger."""
    segments, strengths = [np.empty((0, 2, 2))], [np.empty(0)]
    for layer, ends, starts, after, before in zip(layers[1:], columns[1:], columns, places[1:], places, strict=False):
        wishes = layer.weight_nudges[ends][:, starts].cpu().double().numpy()  # (ends, starts)
        j, k = np.nonzero(np.abs(wishes) > 0.02 * np.abs(wishes).max(initial=0))
        segments.append(np.stack([before[k], after[j]], axis=1))
        strengths.append(wishes[j, k] / np.abs(wishes).max(initial=1e-300))
    lines, strength = np.concatenate(segments), np.concatenate(strengths)
    for own, colour, style in ((strength > 0, MORE, "solid"), (strength < 0, LESS, (0, (4, 1.5)))):
        size = np.abs(strength[own])
        colours = np.column_stack([np.tile(to_rgb(colour), (len(size), 1)), 0.15 + 0.85 * size])
        drawn = LineCollection(lines[own], colors=colours, linewidths=0.3 + 2.2 * size, linestyles=style, zorder=1)  # type: ignore[arg-type]
        axes.add_collection(drawn, autolim=False)


def _draw_neurons(
    axes: Axes, layers: Sequence[LayerExplanation], columns: Sequence[list[int]], places: Sequence[Array], size: float
) -> None:
    """A disc for each neuron, the brighter the more active; on its rim, whether more or less is wished."""
    pairs = list(zip(layers, columns, strict=True))
    activations = [layer.activations[shown].cpu().double().numpy() for layer, shown in pairs]
    brightness = np.concatenate([np.clip(each / max(1.0, each.max()), 0, 1) for each in activations])
    less = np.concatenate([layer.nudges[shown].cpu().double().numpy() for layer, shown in pairs]) < 0
    at = np.concatenate(places)
    discs = axes.scatter(at[:, 0], at[:, 1], size, c=brightness, cmap="gray", vmin=0, vmax=1, zorder=2)
    discs.set(edgecolors=np.where(less, LESS, MORE).tolist(), linewidths=1.2)
    discs.set_linestyle([(0, (2, 1)) if lower else "-" for lower in less])


def _write_numbers(axes: Axes, layer: LayerExplanation, shown: Sequence[int], at: Array) -> None:
    """In each disc its activation, beside it its number in the layer; below, if others are left out."""
    largest = max(1.0, layer.activations[shown].max().item())
    for neuron, (x, y) in zip(shown, at, strict=True):
        activation = layer.activations[neuron].item()
        colour = "black" if activation > 0.5 * largest else "white"
        axes.text(x, y, f"{activation:.2f}", color=colour, fontsize=6.5, ha="center", va="center", zorder=3)
        axes.text(x - 0.2, y + 0.06, str(neuron), fontsize=6, ha="right", zorder=3)
    if len(shown) < len(layer.activations):
        x, y = at[-1]
        axes.text(x, y - 0.35, f"{len(shown)} of {len(layer.activations)}", fontsize=8, ha="center")


def _draw_outputs(
    axes: Axes, explanation: Explanation, shown: Sequence[int], at: Array, chosen: int, size: float
) -> None:
    """Beside each output an arrow, as long as its nudge is large, and what is wanted."""
    nudges, largest = explanation.output_nudges, explanation.output_nudges.abs().max().item() or 1.0
    gap = 6 / len(shown)
    for output, (x, y) in zip(shown, at, strict=True):
        nudge = nudges[output].item()
        length = 0.45 * gap * nudge / largest
        colour = MORE if nudge >= 0 else LESS
        axes.annotate(
            "",
            (x + 0.35, y + length),
            (x + 0.35, y - length),
            arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0},
        )
        weight = "bold" if output == chosen else "normal"
        told = f"{nudge:+.0e}" if 0 < abs(nudge) < 5e-4 else f"{nudge:+.3f}"
        label = f"{output}: wanted {explanation.target[output]:g}, nudge {told}"
        axes.text(x + 0.55, y, label, fontsize=8.5, va="center", weight=weight)
        if output == chosen:
            axes.scatter(x, y, 2.1 * size, facecolors="none", edgecolors="black", linewidths=1.6, zorder=3)


def _draw_pixels(axes: Axes, pixels: Tensor, title: str, *, over: Tensor | None = None) -> None:
    """A square image where the inputs are one, or a row; wishes in colour, over the outline of what they are of."""
    side = isqrt(len(pixels))
    shape = (side, side) if side * side == len(pixels) else (1, len(pixels))
    limit = pixels.abs().max().item() or 1.0
    colours, least = ("gray_r", 0.0) if over is None else (WISHES, -limit)
    axes.imshow(pixels.reshape(shape).cpu().numpy(), cmap=colours, vmin=least, vmax=limit)
    if over is not None and min(shape) > 1:
        axes.contour(over.reshape(shape).cpu().numpy(), [0.5], colors="black", linewidths=0.8)
    if over is not None:
        _mark_less(axes, pixels.reshape(shape))
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def _mark_less(axes: Axes, wishes: Tensor) -> None:
    """A dash on whatever is asked to become a good deal less."""
    row, column = (wishes < -0.15 * wishes.abs().max()).nonzero().cpu().unbind(1)
    axes.scatter(column, row, 9, marker="_", color="black", linewidths=0.6)


def _draw_avenues(figure: Figure, layer: LayerExplanation, chosen: int) -> None:
    """One output's bias, weights and previous activations, and the sum of all outputs' wishes for the latter."""
    bias, weights, inputs = layer.neuron_gradient(chosen)
    one, two, three, sums = figure.subplots(1, 4, width_ratios=(0.5, 2, 2, 3))
    one.sharey(two)
    _draw_bars(one, torch.tensor([bias]), f"output {chosen}'s bias\nδ")
    _draw_bars(two, weights, "its weights: δ · activation\n(the more active, the more)")
    _draw_bars(three, inputs, "previous activations: δ · weight\n(the heavier, the more)")
    wishes = torch.cat([layer.contributions, layer.input_nudges[None]])
    limit = wishes.abs().max().item() or 1.0
    sums.imshow(wishes.cpu().numpy(), cmap=WISHES, vmin=-limit, vmax=limit, aspect="auto")
    _mark_less(sums, wishes)
    sums.axhline(len(wishes) - 1.5, color="black")
    rows = len(layer.contributions)
    sums.set_yticks([*range(rows), rows], [*map(str, range(rows)), "sum"], fontsize=8)
    sums.set_title("every output's wishes for the previous activations,\nadded up: propagating backwards", fontsize=10)
    sums.set_xlabel("previous neuron", fontsize=9)


def _draw_bars(axes: Axes, wishes: Tensor, title: str) -> None:
    """A bar for each wish."""
    values = wishes.cpu().double().numpy()
    axes.bar(range(len(values)), values, color=np.where(values >= 0, MORE, LESS).tolist())
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("neuron" if len(values) > 1 else "", fontsize=9)
    axes.set_xticks(range(len(values)) if 1 < len(values) <= MOST_NEURONS else [])
    axes.spines[["top", "right"]].set_visible(False)
