"""An explanation as tables for a terminal: numbers to follow the chain rule with."""

from collections.abc import Sequence
from math import isqrt
from typing import Final

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from torch import Tensor

from bp_torch.inspection.explanation import Explanation, LayerExplanation

MOST_ROWS: Final = 16
"""Of a table; a larger layer shows those of which most is wished."""
_SHADES: Final = " ░▒▓█"
_MORE: Final = "bold bright_blue"
_LESS: Final = "bold dark_orange"


def tell(explanation: Explanation, output: int | None = None) -> RenderableType:
    """Everything one example asks for, the outputs first and the pixels last.

    Args:
        explanation: of it.
        output: whose three avenues are shown; the one that is wanted most, if not given.

    Returns:
        What a `rich.console.Console` prints.
    """
    chosen = int(explanation.target.argmax()) if output is None else output
    *hidden, last = explanation.layers
    parts: list[RenderableType] = [_pixels(explanation), _outputs(explanation)]
    parts.append(_avenues(last, chosen, len(explanation.layers)))
    parts += [_layer(layer, number) for number, layer in reversed(list(enumerate(hidden, 1)))]
    parts.append(f"largest difference from autograd: {explanation.difference:.1e} of the largest gradient of its kind")
    return Group(*parts)


def _pixels(explanation: Explanation) -> RenderableType:
    """The digit, and what is wished of its pixels, beside each other; other inputs are not shown."""
    side = isqrt(len(explanation.image))
    if side * side != len(explanation.image) or side % 2:
        return ""
    image, wishes = (_halved(pixels, side) for pixels in (explanation.image, explanation.pixel_nudges))
    digit = Text("\n".join("".join(_SHADES[int(4 * pixel + 0.5)] for pixel in row) for row in image.tolist()))
    limit, wished = wishes.abs().max().item() or 1.0, Text()
    for row in (wishes / limit).tolist():
        for wish in row:
            wished.append(" " if abs(wish) < 0.15 else "+" if wish > 0 else "-", _colour(wish))
        wished.append("\n")
    return Columns([Panel(digit, title="the digit"), Panel(wished[:-1], title="wished of its pixels")])


def _halved(pixels: Tensor, side: int) -> Tensor:
    """Two rows of pixels as one of letters, which are twice as high as wide: (side / 2, side)."""
    return pixels.reshape(side // 2, 2, side).mean(1).clamp(-1, 1)


def _outputs(explanation: Explanation) -> Table:
    table = _table("what is wished of the outputs", "output", "activation y", "wanted", "nudge −∂C/∂y", "δ = −∂C/∂z")
    last = explanation.layers[-1]
    for neuron in _shown(last.nudges, table):
        numbers = (last.activations, explanation.target, last.nudges, last.weighted_input_nudges)
        table.add_row(str(neuron), *_numbers([tensor[neuron].item() for tensor in numbers], signed=2))
    return table


def _avenues(layer: LayerExplanation, chosen: int, number: int) -> Table:
    """One output's three avenues; beside the third, what all outputs together ask."""
    bias, weights, inputs = layer.avenues(chosen)
    table = _table(
        f"output {chosen} asks along three avenues: its bias, its weights, the previous activations",
        "previous", "activation x", "weight w", "of w: δ · x", "of x: δ · w", "of x, all outputs: sum",
    )  # fmt: skip
    table.add_row("bias", "1", _told(0.0 if layer.bias is None else layer.bias[chosen].item()), _wish(bias), "", "")
    for k in _shown(layer.input_nudges, table):
        numbers = (layer.inputs[k], layer.weight[chosen, k], weights[k], inputs[k], layer.input_nudges[k])
        table.add_row(str(k), *_numbers([one.item() for one in numbers], signed=3))
    return table


def _layer(layer: LayerExplanation, number: int) -> Table:
    """A hidden layer's neurons, and the strongest wish for a weight of each."""
    table = _table(
        f"layer {number}: what the layer after it asks, added up, and what it asks in turn",
        "neuron", "z", "activation y", "nudge −∂C/∂y", "δ = −∂C/∂z", "strongest of its weights", "from",
    )  # fmt: skip
    for neuron in _shown(layer.nudges, table):
        strongest = int(layer.weight_nudges[neuron].abs().argmax())
        tensors = (layer.weighted_inputs, layer.activations, layer.nudges, layer.weighted_input_nudges)
        numbers = [*(tensor[neuron].item() for tensor in tensors), layer.weight_nudges[neuron, strongest].item()]
        table.add_row(str(neuron), *_numbers(numbers, signed=3), str(strongest))
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="bold", caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _shown(wishes: Tensor, table: Table) -> list[int]:
    """The neurons of which most is wished, in their order; the table says so if there are others."""
    if len(wishes) > MOST_ROWS:
        table.caption = f"the {MOST_ROWS} of {len(wishes)} of which most is wished"
    strongest: list[int] = wishes.abs().topk(min(MOST_ROWS, len(wishes))).indices.tolist()
    return sorted(strongest)


def _numbers(numbers: Sequence[float], *, signed: int) -> list[str | Text]:
    """As cells, the last ones as wishes."""
    plain = len(numbers) - signed
    return [*map(_told, numbers[:plain]), *map(_wish, numbers[plain:])]


def _told(number: float) -> str:
    return f"{number:.3f}"


def _wish(number: float) -> Text:
    if not number:
        return Text("0")
    return Text(f"{number:+.2e}" if abs(number) < 1e-3 else f"{number:+.4f}", _colour(number))


def _colour(wish: float) -> str:
    return _MORE if wish > 0 else _LESS
