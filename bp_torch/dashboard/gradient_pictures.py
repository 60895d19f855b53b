"""Pictures of what the gradient checker found: how exact every function is, and which checker catches which bugs."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from bp_torch.dashboard.pictures import Picture, render
from bp_torch.gradients.records import Scoreboard, Survey
from bp_torch.inspection.figures import BLUE, ORANGE, draw_shares

_DPI: Final = 80
_WIDTH: Final = 10.0
_LEAST: Final = 0.05
"""Errors below it, in roundings, are drawn at the left edge."""


def accuracies(surveys: Sequence[Survey]) -> Picture:
    """Draws each function's largest error in each dtype, in roundings: hand-written beside PyTorch's own."""
    figure = Figure(figsize=(_WIDTH, 1.4 + 0.28 * len(surveys)), dpi=_DPI, layout="constrained")
    figure.suptitle("Largest error against float64, in roundings: hand-written ● beside PyTorch's own ◯", fontsize=13)
    dtypes = [accuracy.dtype for accuracy in surveys[0].accuracies]
    panels = figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    rows = np.arange(len(surveys))
    for number, (axes, dtype) in enumerate(zip(panels, dtypes, strict=True)):
        found = [survey.accuracies[number] for survey in surveys]
        if dtype != "float64":  # there PyTorch is the truth
            axes.scatter([max(a.builtin, _LEAST) for a in found], rows, 60, facecolors="none", edgecolors=ORANGE)
        axes.scatter([max(a.hand, _LEAST) for a in found], rows, 22, color=BLUE)
        axes.set(title=dtype, xscale="log", xlim=(_LEAST * 0.7, None))
        axes.set_yticks(rows, [survey.function for survey in surveys])
        axes.grid(alpha=0.3)
    panels[0].invert_yaxis()
    return render(figure)


def caught(board: Scoreboard) -> Picture:
    """Draws, for each kind of planted bug and each checker, the part that is caught, with its numbers."""
    sizes = [len(board.of_kind(kind)) for kind in board.kinds]
    numbers = np.array([[len(board.of_kind(kind) & s.caught) for s in board.scores] for kind in board.kinds])
    figure = Figure(figsize=(_WIDTH, 1.8 + 0.28 * len(board.kinds)), dpi=_DPI, layout="constrained")
    figure.suptitle(f"Planted bugs caught, of {len(board.bugs)}", fontsize=13)
    axes = figure.subplots()
    parts = numbers / np.array(sizes)[:, None]
    draw_shares(axes, parts, lambda row, column: f"{numbers[row, column]} of {sizes[row]}")
    totals = (f"{score.checker.replace(', ', chr(10))}\n{len(score.caught)}" for score in board.scores)
    axes.set_xticks(range(len(board.scores)), list(totals))
    axes.set_yticks(range(len(sizes)), list(board.kinds))
    axes.xaxis.tick_top()
    return render(figure)
