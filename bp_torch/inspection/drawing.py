"""Pictures of an explanation: activations as brightness; nudges in colour, blue for more and orange for less.

A negative nudge is also dashed, marked by a dash, or points down, so that its sign is visible without colours.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from bp_torch.inspection.explanation import Explanation, LayerExplanation
from bp_torch.inspection.figures import DIVERGING, LESS, MORE, Array

MAX_NEURONS: Final = 20
"""Largest number of neurons of a layer that are drawn."""
_Box = tuple[float, float, float, float]
"""Left, bottom, width and height in data coordinates."""


def draw_explanation(explanation: Explanation, output: int | None = None, *, title: str = "") -> Figure:
    """Draw the nudges of one example: the network, the three avenues of one output, and the sums.

    Inputs that are not a square image are drawn as a row. By default, the output is the one with the largest target.

    Raises:
        ValueError: if there is no such output.
    """
    chosen = explanation.chosen(output)
    figure = Figure(figsize=(14, 9), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=15)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.45, 1))[:, 0]
    grid = upper.add_gridspec(2, 2, width_ratios=(1, 4.6))
    image = explanation.image
    _draw_pixels(upper.add_subplot(grid[0, 0]), image, "the digit, as the network gets it")
    _draw_pixels(upper.add_subplot(grid[1, 0]), explanation.pixel_nudges, "nudges of its pixels", over=image)
    network = upper.add_subplot(grid[:, 1])
    draw_network(network, explanation, (0, 0, 10, 6), chosen=chosen)
    network.set_title("activations as brightness; edges: nudges of the weights, dashed: less", fontsize=10)
    network.set(xlim=(-1.1, 12.2), ylim=(-0.2, 6.2))
    network.set_axis_off()
    _draw_avenues(lower, explanation.layers[-1], chosen)
    return figure


def draw_network(axes: Axes, explanation: Explanation, box: _Box, *, chosen: int | None = None) -> None:
    """Draw neurons and the nudges of their weights; with a chosen output also the numbers."""
    columns = _columns(explanation.layers, box)
    size = 14 if chosen is None else min(20, 290 / max(len(column.shown) for column in columns)) ** 2
    for before, after in pairwise(columns):
        _draw_edges(axes, before, after)
    _draw_neurons(axes, columns, size)
    if chosen is not None:
        for column in columns:
            _write_numbers(axes, column)
        _draw_weight_maps(axes, columns[0])
        _draw_outputs(axes, explanation, columns[-1], chosen, size)


class _Column(NamedTuple):
    """A layer in the picture: the indices of the neurons shown, and their positions, (shown, 2)."""

    layer: LayerExplanation
    shown: list[int]
    at: Array

    def of(self, values: Tensor) -> Array:
        """The values of the neurons shown."""
        return values[self.shown].cpu().double().numpy()


def _columns(layers: Sequence[LayerExplanation], box: _Box) -> list[_Column]:
    """The layers from left to right; in each, the neurons with the largest nudges, from top to bottom."""
    left, bottom, width, height = box
    across = np.linspace(left, left + width, len(layers)) if len(layers) > 1 else [left + width]
    columns = []
    for layer, x in zip(layers, across, strict=True):
        largest = layer.weighted_input_nudges.abs().topk(min(MAX_NEURONS, len(layer.activations))).indices
        y = bottom + height * (1 - (np.arange(len(largest)) + 0.5) / len(largest))
        columns.append(_Column(layer, sorted(largest.tolist()), np.stack([np.full(len(y), x), y], axis=1)))
    return columns


def _draw_edges(axes: Axes, before: _Column, after: _Column) -> None:
    """Draw a line for each weight; its width and opacity show the size of the nudge."""
    nudges = after.of(after.layer.weight_nudges)[:, before.shown]  # (after, before)
    strength = nudges / np.abs(nudges).max(initial=1e-300)
    for sign, colour, style in ((1, MORE, "solid"), (-1, LESS, (0, (4, 1.5)))):
        j, k = np.nonzero(sign * strength > 0.02)
        size = np.abs(strength[j, k])
        lines = np.stack([before.at[k], after.at[j]], axis=1)
        colours = np.column_stack([np.tile(to_rgb(colour), (len(size), 1)), 0.15 + 0.85 * size])
        edges = LineCollection(lines, colors=colours, linewidths=0.3 + 2.2 * size, linestyles=style, zorder=1)  # type: ignore[arg-type]
        axes.add_collection(edges, autolim=False)


def _draw_neurons(axes: Axes, columns: Sequence[_Column], size: float) -> None:
    """Draw a disc for each neuron, as bright as its activation; its rim shows the sign of its nudge."""
    activations = [column.of(column.layer.activations) for column in columns]
    brightness = np.concatenate([np.clip(each / max(1.0, each.max()), 0, 1) for each in activations])
    less = np.concatenate([column.of(column.layer.nudges) for column in columns]) < 0
    x, y = np.concatenate([column.at for column in columns]).T
    discs = axes.scatter(x, y, size, c=brightness, cmap="gray", vmin=0, vmax=1, zorder=2)
    discs.set(edgecolors=np.where(less, LESS, MORE).tolist(), linewidths=1.2)
    discs.set_linestyle([(0, (2, 1)) if lower else "-" for lower in less])


def _write_numbers(axes: Axes, column: _Column) -> None:
    """Write each activation into its disc and the neuron's index next to it; below, how many of the layer are shown."""
    activations, neurons = column.of(column.layer.activations), len(column.layer.activations)
    largest = max(1.0, activations.max())
    for neuron, activation, (x, y) in zip(column.shown, activations, column.at, strict=True):
        colour = "black" if activation > 0.5 * largest else "white"
        axes.text(x, y, f"{activation:.2f}", color=colour, fontsize=6.5, ha="center", va="center", zorder=3)
        axes.text(x - 0.2, y + 0.06, str(neuron), fontsize=6, ha="right", zorder=3)
    if len(column.shown) < neurons:
        x, y = column.at[-1]
        axes.text(x, y - 0.35, f"{len(column.shown)} of {neurons}", fontsize=8, ha="center")


def _draw_weight_maps(axes: Axes, column: _Column) -> None:
    """Draw the nudges of each first-layer neuron's weights to its left: a coloured copy of the digit."""
    nudges, side = column.layer.weight_nudges[column.shown].cpu(), isqrt(len(column.layer.inputs))
    if side * side != len(column.layer.inputs):
        return
    limit, half = _limit(nudges), 3 / max(len(nudges), 10) * 0.95
    for (x, y), nudge in zip(column.at, nudges.reshape(-1, side, side).numpy(), strict=True):
        extent = (x - 0.35 - 2 * half, x - 0.35, y - half, y + half)
        axes.imshow(nudge, cmap=DIVERGING, vmin=-limit, vmax=limit, extent=extent, aspect="auto")


def _draw_outputs(axes: Axes, explanation: Explanation, column: _Column, chosen: int, size: float) -> None:
    """Draw an arrow next to each output, as long as its nudge, and write its target."""
    limit, gap = _limit(explanation.output_nudges), 6 / len(column.shown)
    for output, (x, y) in zip(column.shown, column.at, strict=True):
        nudge = explanation.output_nudges[output].item()
        length, colour = 0.45 * gap * nudge / limit, MORE if nudge >= 0 else LESS
        arrow = {"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (x + 0.35, y + length), (x + 0.35, y - length), arrowprops=arrow)
        shown = f"{nudge:+.0e}" if 0 < abs(nudge) < 5e-4 else f"{nudge:+.3f}"
        label = f"{output}: target {explanation.target[output]:g}, nudge {shown}"
        axes.text(x + 0.55, y, label, fontsize=8.5, va="center", weight="bold" if output == chosen else "normal")
        if output == chosen:
            axes.scatter(x, y, 2.1 * size, facecolors="none", edgecolors="black", linewidths=1.6, zorder=3)


def _limit(values: Tensor) -> float:
    """The largest magnitude, or 1 if all are 0."""
    return values.abs().max().item() or 1.0


def _draw_pixels(axes: Axes, pixels: Tensor, title: str, *, over: Tensor | None = None) -> None:
    """Draw pixels as a square image if they are one, otherwise as a row; nudges in colour, with the digit's outline."""
    side = isqrt(len(pixels))
    shape = (side, side) if side * side == len(pixels) else (1, len(pixels))
    if over is None:
        axes.imshow(pixels.reshape(shape).cpu().numpy(), cmap="gray_r", vmin=0, vmax=_limit(pixels))
    else:
        _draw_nudges(axes, pixels.reshape(shape))
        if min(shape) > 1:
            axes.contour(over.reshape(shape).cpu().numpy(), [0.5], colors="black", linewidths=0.8)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_nudges(axes: Axes, nudges: Tensor, aspect: Literal["equal", "auto"] = "equal") -> None:
    """Draw nudges in colour, with a dash on those below −15 % of the largest."""
    limit = _limit(nudges)
    axes.imshow(nudges.cpu().numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit, aspect=aspect)
    row, column = (nudges < -0.15 * nudges.abs().max()).nonzero().cpu().unbind(1)
    axes.scatter(column, row, 9, marker="_", color="black", linewidths=0.6)


def _draw_avenues(figure: Figure, layer: LayerExplanation, chosen: int) -> None:
    """Draw the nudges of one output's bias, weights and previous activations; the last also by all outputs."""
    bias, weights, inputs = layer.neuron_nudges(chosen)
    one, two, three, sums = figure.subplots(1, 4, width_ratios=(0.5, 2, 2, 3))
    one.sharey(two)
    _draw_bars(one, torch.tensor([bias]), f"output {chosen}'s bias\n−δ")
    _draw_bars(two, weights, "its weights: −δ · activation\n(proportional to activations)")
    _draw_bars(three, inputs, "previous activations: −δ · weight\n(proportional to weights)")
    nudges = torch.cat([layer.contributions, layer.input_nudges[None]])
    _draw_nudges(sums, nudges, aspect="auto")
    sums.axhline(len(nudges) - 1.5, color="black")
    rows = len(layer.contributions)
    sums.set_yticks([*range(rows), rows], [*map(str, range(rows)), "sum"], fontsize=8)
    sums.set_title("nudges of the previous activations by each output,\nadded up: propagating backwards", fontsize=10)
    sums.set_xlabel("previous neuron", fontsize=9)


def _draw_bars(axes: Axes, nudges: Tensor, title: str) -> None:
    """Draw a bar for each nudge."""
    values = nudges.cpu().double().numpy()
    axes.bar(range(len(values)), values, color=np.where(values >= 0, MORE, LESS).tolist())
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("neuron" if len(values) > 1 else "", fontsize=9)
    axes.set_xticks(range(len(values)) if 1 < len(values) <= MAX_NEURONS else [])
    axes.spines[["top", "right"]].set_visible(False)
