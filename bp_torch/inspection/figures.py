"""What all figures share: one palette, whose colours stay apart for colour-blind eyes and in print."""

from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

BLUE: Final = "#0072b2"
ORANGE: Final = "#d55e00"
GREEN: Final = "#009e73"
GREY: Final = "#8a8a8a"
MORE: Final = BLUE
"""What is positive; the Backprop tab's style.css has these two colours too."""
LESS: Final = ORANGE
DIVERGING: Final = LinearSegmentedColormap.from_list("diverging", [LESS, "white", MORE])
"""Symmetric around 0."""

Array = npt.NDArray[np.float64]


def panels(title: str, columns: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a title and so many axes, row by row."""
    figure = Figure(figsize=(4.6 * columns if columns > 1 else 7, 4.4 * rows), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=13)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for each in axes:
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)
