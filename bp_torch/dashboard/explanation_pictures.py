"""The nudges of one digit of each class: of the network's weights, and of its pixels."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from bp_torch.dashboard.pictures import render
from bp_torch.inspection import Explanation
from bp_torch.inspection.drawing import draw_network
from bp_torch.inspection.figures import DIVERGING, Array

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
    rows = -(-len(explanations) // _COLUMNS)
    canvas = np.ones((rows * down, _COLUMNS * across, 3))
    figure = Figure(figsize=(canvas.shape[1] * _SCALE / _DPI, canvas.shape[0] * _SCALE / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for place, explanation in enumerate(explanations):
        x, y = place % _COLUMNS * across + _GAP / 2, place // _COLUMNS * down + _CAPTION
        for pixels, shift in ((_ink(explanation.image), 0), (_coloured(explanation.pixel_nudges), _SIDE + _GAP)):
            left = int(x) + shift
            canvas[y : y + _SIDE, left : left + _SIDE] = pixels
        draw_network(axes, explanation, (x + 2 * (_SIDE + _GAP) + 1, y + _SIDE, _NETWORK - _GAP, -_SIDE))
        axes.text(x, y - 1.5, _caption(explanation), fontsize=9, parse_math=False)
    axes.imshow(canvas, interpolation="nearest", aspect="auto", zorder=0)
    return render(figure)


def _caption(explanation: Explanation) -> str:
    wanted, read = int(explanation.target.argmax()), int(explanation.outputs.argmax())
    return f"a {wanted}, read as {read}, cost {explanation.cost:.3f}"


def _ink(pixels: Tensor) -> Array:
    """A digit in black on white, (28, 28, 3)."""
    ink: Array = 1 - pixels.cpu().double().reshape(_SIDE, _SIDE, 1).expand(-1, -1, 3).numpy()
    return ink


def _coloured(nudges: Tensor) -> Array:
    """Nudges in colour, white where there are none, (28, 28, 3)."""
    values = nudges.cpu().double().reshape(_SIDE, _SIDE)
    colours: Array = DIVERGING(0.5 + 0.5 * (values / values.abs().max().clamp_min(1e-30)).numpy())[..., :3]
    return colours
