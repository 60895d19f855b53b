"""Pictures of a network: the weights of its first layer, the digits it gets most wrong, and the nudges of some digits.

Each is drawn in one Axes, because more of them make matplotlib slow.
"""

from collections.abc import Sequence
from io import BytesIO
from math import ceil, isqrt
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from bp_torch.inspection import Explanation
from bp_torch.inspection.drawing import draw_network
from bp_torch.inspection.figures import BLUE, DIVERGING, GREY, ORANGE, Array
from bp_torch.training.logging.events import MapEvent

MAX_NEURONS: Final = 64
MAX_DIGITS: Final = 12
_MAPS: Final = 6
_DRAWN_IN_A_ROW: Final = 10

_INCHES: Final = 8.0  # 640 pixels at _DPI, about the width of an enlarged image in TensorBoard
_DPI: Final = 80
_TITLE_INCHES: Final = 0.6

# The cell of a misclassified digit, in pixels of the digit, from top to bottom: caption, digit, bars, labels.
_COLUMNS: Final = 4
_CAPTION: Final = 6
_SIDE: Final = 28
_BARS: Final = 14
_LABELS: Final = 9
_GAP: Final = 9

# The rows of the picture of nudges, in pixels of the digit.
_IN_A_ROW: Final = 2
_ROW_CAPTION: Final = 8
_ROW_GAP: Final = 4
_NETWORK: Final = 78  # the width of a network
_ROW_SCALE: Final = 3  # pixels of the picture for a pixel of the digit


def first_weights(weights: Tensor) -> Summary.Image | None:
    """Draw at most 64 filters, or neurons as maps of the input: blue weights excite, orange ones inhibit.

    Weights are (out, in, height, width), or (neurons, inputs). All maps share a scale around zero; non-finite weights
    are blank. Returns None if there are no weights, or if the inputs of neurons are not a square image.
    """
    dense, side = weights.dim() == 2, isqrt(weights.shape[1])
    if not weights.numel() or (dense and side * side != weights.shape[1]):
        return None
    shape = (side, side) if dense else weights.shape[2:]
    every = weights.detach().cpu().double().reshape(-1, *shape).numpy()
    maps = every[:MAX_NEURONS]
    shown = f"all {len(every)}" if len(maps) == len(every) else f"the first {len(maps)} of {len(every)}"
    margin = max(1, shape[0] // 10)
    canvas, corners = _tile(maps, ceil(len(maps) ** 0.5), below=margin, right=margin)
    what = f"the weights of {shown} neurons" if dense else f"{shown} filters"
    figure, axes = _sheet(f"First layer: {what}, on one scale", canvas, width=0.88)
    limit = np.abs(maps[np.isfinite(maps)]).max(initial=0)
    drawn = axes.imshow(canvas, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    for neuron, (x, y) in enumerate(corners):
        axes.text(x, y, f" {neuron}", fontsize=9, va="top")
    box = axes.get_position()
    figure.colorbar(drawn, cax=figure.add_axes((0.9, box.y0 + 0.02, 0.025, box.height - 0.02)))
    return render(figure)


def worst_digits(images: Tensor, labels: Tensor, outputs: Tensor) -> Summary.Image:
    """Draw misclassified digits, each above its outputs as a row of bars, or a title that there are none.

    Images are uint8 (K, 28, 28), the worst first, of which 12 are drawn; labels (K,); outputs (K, classes) in [0, 1].
    """
    if not len(images):
        return render(_page("No test digit is misclassified", _TITLE_INCHES))
    tiles = images[:MAX_DIGITS].cpu().double().numpy()
    canvas, corners = _tile(tiles, _COLUMNS, above=_CAPTION, below=_BARS + _LABELS, right=_GAP)
    figure, axes = _sheet("The worst misclassified test digits, above their outputs from 0 to 1", canvas, width=1)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    outputs = outputs[:MAX_DIGITS].cpu().double().nan_to_num().clamp(0, 1)
    _draw_outputs(axes, corners, labels[:MAX_DIGITS].tolist(), outputs.numpy())
    return render(figure)


def draw_maps(event: MapEvent) -> Summary.Image:
    """Draw digits, each followed by its maps in grey and by their nudges below: blue should grow, orange shrink.

    The first 6 maps of a digit are drawn. They share a scale, and so do their nudges.
    """
    count, channels = event.maps.shape[0], min(event.maps.shape[1], _MAPS)
    attention = f"Attention of {channels} heads, from token (row) to token (column), and nudges"
    features = f"The first {channels} feature maps of {count} digits, and the nudges of the maps"
    figure = _page(attention if event.kind == "attention" else features, _TITLE_INCHES)
    width = _INCHES * 0.96 / (channels + 1)
    figure.set_figheight(inches := _TITLE_INCHES + 2 * count * width)
    figure.texts[0].set_y(1 - _TITLE_INCHES / 2 / inches)
    axes = figure.add_axes((0.02, 0, 0.96, 2 * count * width / inches))
    axes.set(xlim=(0, channels + 1), ylim=(2 * count, 0))
    axes.set_axis_off()
    for row, (image, activations, nudges) in enumerate(zip(event.images, event.maps, -event.gradients, strict=True)):
        _draw_map(axes, image, 0, 2 * row, cmap="gray_r", vmin=0, vmax=255)
        strongest, limit = (x.abs().nan_to_num().max().clamp_min(1e-30).item() for x in (activations, nudges))
        for column in range(channels):
            _draw_map(axes, activations[column], column + 1, 2 * row, cmap="gray_r", vmin=0, vmax=strongest)
            _draw_map(axes, nudges[column], column + 1, 2 * row + 1, cmap=DIVERGING, vmin=-limit, vmax=limit)
    return render(figure)


def drawn_digits(images: Tensor) -> Summary.Image:
    """Draw digits that a model has drawn, (K, h, w) in [0, 1], ten to a row."""
    tiles = images.cpu().double().numpy()
    margin = max(1, tiles.shape[1] // 7)
    canvas, _ = _tile(tiles, _DRAWN_IN_A_ROW, below=margin, right=margin)
    figure, axes = _sheet("Digits drawn pixel by pixel", canvas, width=1)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    return render(figure)


def _draw_map(axes: Axes, values: Tensor, x: int, y: int, **colours: Any) -> None:
    extent = (x + 0.03, x + 0.97, y + 0.97, y + 0.03)
    axes.imshow(values.cpu().double().numpy(), extent=extent, interpolation="nearest", aspect="auto", **colours)


def _draw_outputs(axes: Axes, corners: list[tuple[int, int]], labels: list[int], outputs: Array) -> None:
    """For each digit, given its upper left corner: its label, its answer, and a bar for each class."""
    step = _SIDE / outputs.shape[1]
    answers = outputs.argmax(axis=1).tolist()
    _draw_bars(axes, np.array(corners), labels, answers, outputs)
    for (x, y), label, answer in zip(corners, labels, answers, strict=True):
        axes.text(x, y - 1, f"a {label}", color=BLUE, fontsize=14)
        axes.text(x + _SIDE, y - 1, f"read as {answer}", color=ORANGE, fontsize=14, ha="right")
        for number, colour in ((label, BLUE), (answer, ORANGE)):
            place = x + step * (number + 0.5), y + _SIDE + _BARS + 1
            axes.text(*place, str(number), color=colour, fontsize=12, ha="center", va="top")


def _draw_bars(axes: Axes, corners: Array, labels: list[int], answers: list[int], outputs: Array) -> None:
    """Draw all bars of all digits as one collection of lines."""
    count, classes = outputs.shape
    step = _SIDE / classes
    colours = np.full(outputs.shape, GREY)
    colours[range(count), labels] = BLUE
    colours[range(count), answers] = ORANGE
    x = corners[:, :1] + step * (np.arange(classes) + 0.5)  # (K, classes)
    base = corners[:, 1:] + _SIDE + _BARS  # (K, 1)
    top = base - (_BARS - 2) * outputs
    points = 0.75 * step * 72 * _INCHES / (_COLUMNS * (_SIDE + _GAP))
    axes.vlines(x.ravel(), base.repeat(classes), top.ravel(), colours.ravel().tolist(), linewidth=points)
    axes.hlines(base[:, 0], corners[:, 0], corners[:, 0] + _SIDE, GREY, linewidth=0.8)


def _tile(tiles: Array, columns: int, *, above: int = 0, below: int, right: int) -> tuple[Array, list[tuple[int, int]]]:
    """Arrange (K, height, width) tiles with NaN margins on a canvas; also the upper left corner (x, y) of each."""
    count, height, width = tiles.shape
    down, across = above + height + below, width + right
    canvas = np.full((ceil(count / columns) * down, columns * across), np.nan)
    corners = [(i % columns * across, i // columns * down + above) for i in range(count)]
    for tile, (x, y) in zip(tiles, corners, strict=True):
        canvas[y : y + height, x : x + width] = tile
    return canvas, corners


def _page(title: str, inches: float) -> Figure:
    figure = Figure(figsize=(_INCHES, inches), dpi=_DPI)
    figure.text(0.02, 1 - _TITLE_INCHES / 2 / inches, title, fontsize=15, va="center")
    return figure


def _sheet(title: str, canvas: Array, *, width: float) -> tuple[Figure, Axes]:
    """A page as high as a canvas requires that takes this part of its width."""
    rows, columns = canvas.shape
    inches = _INCHES * (width - 0.02) * rows / columns
    figure = _page(title, inches + _TITLE_INCHES)
    axes = figure.add_axes((0.02, 0, width - 0.02, inches / (inches + _TITLE_INCHES)))
    axes.set_axis_off()
    return figure, axes


def draw_explanations(explanations: Sequence[Explanation]) -> Summary.Image:
    """Draw each digit, the nudges of its pixels, and the network with the nudges of its weights, two to a row."""
    across, down = 2 * _SIDE + 3 * _ROW_GAP + _NETWORK, _SIDE + _ROW_CAPTION + _ROW_GAP
    width, height = _IN_A_ROW * across, -(-len(explanations) // _IN_A_ROW) * down
    figure = Figure(figsize=(width * _ROW_SCALE / _DPI, height * _ROW_SCALE / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for place, explanation in enumerate(explanations):
        x, y = place % _IN_A_ROW * across + _ROW_GAP / 2, place // _IN_A_ROW * down + _ROW_CAPTION
        limit = explanation.pixel_nudges.abs().max().clamp_min(1e-30).item()
        _draw_pixels(axes, explanation.image, x, y, cmap="gray_r", vmin=0, vmax=1)
        _draw_pixels(axes, explanation.pixel_nudges, x + _SIDE + _ROW_GAP, y, cmap=DIVERGING, vmin=-limit, vmax=limit)
        draw_network(axes, explanation, (x + 2 * (_SIDE + _ROW_GAP) + 1, y + _SIDE, _NETWORK - _ROW_GAP, -_SIDE))
        axes.text(x, y - 1.5, _caption(explanation), fontsize=9, parse_math=False)
    return render(figure)


def _draw_pixels(axes: Axes, pixels: Tensor, x: float, y: float, **colours: Any) -> None:
    values = pixels.cpu().double().reshape(_SIDE, _SIDE).numpy()
    extent = (x, x + _SIDE, y + _SIDE, y)
    axes.imshow(values, extent=extent, interpolation="nearest", aspect="auto", zorder=0, **colours)


def _caption(explanation: Explanation) -> str:
    label, answer = int(explanation.target.argmax()), int(explanation.outputs.argmax())
    return f"label {label}, read as {answer}, cost {explanation.cost:.3f}"


def render(figure: Figure) -> Summary.Image:
    """Render a figure at its own size in 256 colours, which takes a third of the bytes and of the time."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    image = Image.frombuffer("RGBA", (width, height), canvas.buffer_rgba()).convert("RGB")
    png = BytesIO()
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(png, "png")
    return Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png.getvalue())
