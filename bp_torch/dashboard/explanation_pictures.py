"""The nudges of one digit of each class: of the network's weights, and of its pixels."""

from collections.abc import Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from bp_torch.dashboard.pictures import render
from bp_torch.inspection import Explanation
from bp_torch.inspection.drawing import draw_network
from bp_torch.inspection.figures import DIVERGING

_DPI: Final = 80
_SCALE: Final = 3
_SIDE: Final = 28
_GAP: Final = 4
_CAPTION: Final = 8
_NETWORK: Final = 78
"""The width of a network, in pixels of the digits."""
_COLUMNS: Final = 2


def draw_explanations(explanations: Sequence[Explanation]) -> Summary.Image:
    """Draws each digit, the nudges of its pixels, and the network with the nudges of its weights, two in a row."""
    across, down = 2 * _SIDE + 3 * _GAP + _NETWORK, _SIDE + _CAPTION + _GAP
    width, height = _COLUMNS * across, -(-len(explanations) // _COLUMNS) * down
    figure = Figure(figsize=(width * _SCALE / _DPI, height * _SCALE / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for place, explanation in enumerate(explanations):
        x, y = place % _COLUMNS * across + _GAP / 2, place // _COLUMNS * down + _CAPTION
        limit = explanation.pixel_nudges.abs().max().clamp_min(1e-30).item()
        _draw_map(axes, explanation.image, x, y, cmap="gray_r", vmin=0, vmax=1)
        _draw_map(axes, explanation.pixel_nudges, x + _SIDE + _GAP, y, cmap=DIVERGING, vmin=-limit, vmax=limit)
        draw_network(axes, explanation, (x + 2 * (_SIDE + _GAP) + 1, y + _SIDE, _NETWORK - _GAP, -_SIDE))
        axes.text(x, y - 1.5, _caption(explanation), fontsize=9, parse_math=False)
    return render(figure)


def _draw_map(axes: Axes, pixels: Tensor, x: float, y: float, **colours: Any) -> None:
    values = pixels.cpu().double().reshape(_SIDE, _SIDE).numpy()
    extent = (x, x + _SIDE, y + _SIDE, y)
    axes.imshow(values, extent=extent, interpolation="nearest", aspect="auto", zorder=0, **colours)


def _caption(explanation: Explanation) -> str:
    wanted, read = int(explanation.target.argmax()), int(explanation.outputs.argmax())
    return f"a {wanted}, read as {read}, cost {explanation.cost:.3f}"
