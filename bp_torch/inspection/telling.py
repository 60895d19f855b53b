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
from bp_torch.inspection.hebbian import Hebbian
from bp_torch.inspection.sensitivity import Wiggle

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

    Raises:
        ValueError: if there is no such output.
    """
    chosen = explanation.chosen(output)
    *hidden, last = explanation.layers
    parts: list[RenderableType] = [_pixels(explanation), _outputs(explanation), _avenues(last, chosen)]
    parts += [_layer(layer, number) for number, layer in reversed(list(enumerate(hidden, 1)))]
    parts.append(f"largest difference from autograd: {explanation.difference:.1e} of the largest gradient of its kind")
    return Group(*parts)


def _pixels(explanation: Explanation) -> RenderableType:
    """The digit, and what is wished of its pixels, beside each other; other inputs are not shown."""
    side = isqrt(len(explanation.image))
    if side * side != len(explanation.image) or side % 2:
        return ""
    image = _halved(explanation.image, side).clamp(0, 1)
    wishes = _halved(explanation.pixel_nudges, side)
    digit = Text("\n".join("".join(_SHADES[int(4 * pixel + 0.5)] for pixel in row) for row in image.tolist()))
    limit, wished = wishes.abs().max().item() or 1.0, Text()
    for row in (wishes / limit).tolist():
        for wish in row:
            wished.append(" " if abs(wish) < 0.15 else "+" if wish > 0 else "-", _colour(wish))
        wished.append("\n")
    return Columns([Panel(digit, title="the digit"), Panel(wished[:-1], title="wished of its pixels")])


def _halved(pixels: Tensor, side: int) -> Tensor:
    """Two rows of pixels as one of letters, which are twice as high as wide: (side / 2, side)."""
    return pixels.reshape(side // 2, 2, side).mean(1)


def _outputs(explanation: Explanation) -> Table:
    table = _table("what is wished of the outputs", "output", "activation y", "wanted", "nudge −∂C/∂y", "δ = −∂C/∂z")
    last = explanation.layers[-1]
    for neuron in _shown(last.nudges, table):
        numbers = (last.activations, explanation.target, last.nudges, last.weighted_input_nudges)
        table.add_row(str(neuron), *_numbers([tensor[neuron].item() for tensor in numbers], signed=2))
    return table


def _avenues(layer: LayerExplanation, chosen: int) -> Table:
    """One output's three avenues; beside the third, what all outputs together ask."""
    bias, weights, inputs = layer.neuron_gradient(chosen)
    table = _table(
        f"output {chosen} asks along three avenues: its bias, its weights, the previous activations",
        "previous", "activation x", "weight w", "of w: δ · x", "of x: δ · w", "of x, all outputs: sum",
    )  # fmt: skip
    if bias is not None and layer.bias is not None:
        table.add_row("bias", "1", _told(layer.bias[chosen].item()), _wish(bias), "", "")
    for k in _shown(layer.input_nudges, table):
        numbers = (layer.inputs[k], layer.weight[chosen, k], weights[k], inputs[k], layer.input_nudges[k])
        table.add_row(str(k), *_numbers([one.item() for one in numbers], signed=3))
    return table


def _layer(layer: LayerExplanation, number: int) -> Table:
    """A hidden layer's neurons."""
    title = f"layer {number}: what the layer after it asks of its activations, added up, and what that asks in turn"
    table = _table(title, "neuron", "z", "activation y", "nudge −∂C/∂y", "δ = −∂C/∂z")
    for neuron in _shown(layer.nudges, table):
        tensors = (layer.weighted_inputs, layer.activations, layer.nudges, layer.weighted_input_nudges)
        table.add_row(str(neuron), *_numbers([tensor[neuron].item() for tensor in tensors], signed=2))
    return table


def tell_strengthened(found: Hebbian) -> RenderableType:
    """The connections of a layer that are strengthened most, and how far that is activation times nudge."""
    title = f"strengthened most; correlation of all wishes with activation · nudge {found.correlation:.2f}"
    table = _table(title, "from", "to", "wish −∂C/∂w", "activation x", "nudge −∂C/∂y")
    for one in found.strongest:
        wishes = _wish(one.increase), _told(one.activation), _wish(one.nudge)
        table.add_row(str(one.previous), str(one.neuron), *wishes)
    return table


def tell_wiggles(moved: Sequence[Wiggle]) -> RenderableType:
    """How sensitive the cost is to weights and biases, beside the last, and what it did when they were wiggled."""
    last = moved[-1].sensitivity
    table = _table(
        moved[0].sensitivity.beside(last),
        "", "∂C/∂w", f"× that of {last}", f"moved by {moved[0].step:.4f}: predicted", "measured", "Taylor order",
    )  # fmt: skip
    for one in moved:
        sensitivity, times = one.sensitivity, f"{one.sensitivity.times(last):.1f}"
        changes = f"{one.predicted:+.3e}", f"{one.measured:+.3e}", f"{one.order:.2f}"
        table.add_row(str(sensitivity), f"{sensitivity.gradient:+.3e}", times, *changes)
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
