"""Pictures of what the gradient checker found: how exact every function is, and which checker catches which bugs."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from bp_torch.dashboard.pictures import Picture, render
from bp_torch.gradients.entry_report import EntryReport

_DPI: Final = 80
_WIDTH: Final = 10.0
_HAND: Final = "#0072b2"
_BUILTIN: Final = "#d55e00"
_LEAST: Final = 0.05
"""Errors below it, in roundings, are drawn at the left edge."""


def accuracies(reports: Sequence[EntryReport]) -> Picture:
    """Draws each function's largest error in each dtype, in roundings: hand-written beside PyTorch's own."""
    figure = Figure(figsize=(_WIDTH, 1.4 + 0.28 * len(reports)), dpi=_DPI, layout="constrained")
    figure.suptitle("Largest error against float64, in roundings: hand-written ● beside PyTorch's own ◯", fontsize=13)
    dtypes = [accuracy.dtype for accuracy in reports[0].accuracies]
    panels = figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    rows = np.arange(len(reports))
    for number, (axes, dtype) in enumerate(zip(panels, dtypes, strict=True)):
        found = [report.accuracies[number] for report in reports]
        if dtype != "float64":  # there PyTorch is the truth
            axes.scatter([max(a.builtin, _LEAST) for a in found], rows, 60, facecolors="none", edgecolors=_BUILTIN)
        axes.scatter([max(a.hand, _LEAST) for a in found], rows, 22, color=_HAND)
        axes.set(title=dtype, xscale="log", xlim=(_LEAST * 0.7, None))
        axes.set_yticks(rows, [report.function for report in reports])
        axes.grid(alpha=0.3)
    panels[0].invert_yaxis()
    return render(figure)


def caught(counts: Mapping[str, Mapping[str, int]]) -> Picture:
    """Draws, for each kind of planted bug and each checker, the part that is caught, with its numbers.

    Args:
        counts: for each kind of bug, how many are planted and then how many each checker catches.
    """
    _, *checkers = next(iter(counts.values()))
    sizes, *columns = zip(*(row.values() for row in counts.values()), strict=True)
    numbers = np.array(columns).T
    figure = Figure(figsize=(_WIDTH, 1.8 + 0.28 * len(counts)), dpi=_DPI, layout="constrained")
    figure.suptitle(f"Planted bugs caught, of {sum(sizes)}", fontsize=13)
    axes = figure.subplots()
    parts = numbers / np.array(sizes)[:, None]
    axes.imshow(parts, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        colour = "black" if parts[row, column] > 0.5 else "white"
        axes.text(column, row, f"{number} of {sizes[row]}", ha="center", va="center", color=colour, fontsize=9)
    totals = numbers.sum(axis=0)
    labels = [f"{name.replace(', ', chr(10))}\n{total}" for name, total in zip(checkers, totals, strict=True)]
    axes.set_xticks(range(len(checkers)), labels)
    axes.set_yticks(range(len(sizes)), list(counts))
    axes.xaxis.tick_top()
    return render(figure)
