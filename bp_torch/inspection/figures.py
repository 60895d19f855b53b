"""The palette and the layout of all figures; its colours differ for colour-blind readers and in print."""

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
"""Positive values; the Backprop tab's colours.js has the same two colours."""
LESS: Final = ORANGE
DIVERGING: Final = LinearSegmentedColormap.from_list("diverging", [LESS, "white", MORE])
"""Symmetric around 0."""

Array = npt.NDArray[np.float64]


def panels(title: str, columns: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a title and a grid of Axes, which are returned row by row."""
    figure = Figure(figsize=(4.6 * columns if columns > 1 else 7, 4.4 * rows), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=13)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for each in axes:
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)
