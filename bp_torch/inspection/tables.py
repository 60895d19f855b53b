"""Tables for a terminal: an explanation's numbers, to follow the chain rule with, and what goes with them."""

from collections.abc import Iterable, Mapping, Sequence
from math import isqrt
from typing import Final

import torch
from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from torch import Tensor

from bp_torch.inspection.explanation import Explanation, LayerExplanation
from bp_torch.inspection.sensitivity import Hebbian, Wiggle

MOST_ROWS: Final = 16
"""Of a table; of a larger layer the neurons with the largest nudges are shown."""


def explanation_tables(explanation: Explanation, output: int | None = None) -> RenderableType:
    """All nudges of one example, the outputs' first and the pixels' last, for a `rich.console.Console`.

    The output whose three avenues are shown is the one with the largest target, if not given.

    Raises:
        ValueError: if there is no such output.
    """
    chosen = explanation.chosen(output)
    *hidden, last = explanation.layers
    outputs = {"activation y": last.activations, "target": explanation.target}
    parts: list[RenderableType] = [_pixels(explanation), _layer(last, "nudges of the outputs", "output", outputs)]
    parts.append(_avenues(last, chosen))
    for layer in reversed(hidden):
        title = f"{layer.name}: nudges of its activations, added up over the layer after it"
        parts.append(_layer(layer, title, "neuron", {"z": layer.weighted_inputs, "activation y": layer.activations}))
    parts.append(f"largest difference from autograd: {explanation.difference:.1e} of the largest gradient of its kind")
    return Group(*parts)


def _pixels(explanation: Explanation) -> RenderableType:
    """The digit and the nudges of its pixels beside each other; other inputs are not shown."""
    side = isqrt(len(explanation.image))
    if side * side != len(explanation.image) or side % 2:
        return ""
    both = torch.stack([explanation.image, explanation.pixel_nudges])
    image, nudges = both.reshape(2, side // 2, 2, side).mean(2)  # two rows of pixels as one of letters
    digit = Text(
        "\n".join("".join(" ░▒▓█"[int(4 * pixel + 0.5)] for pixel in row) for row in image.clamp(0, 1).tolist())
    )
    signs = Text()
    for row in (nudges / (nudges.abs().max().item() or 1.0)).tolist():
        for nudge in row:
            signs.append(" " if abs(nudge) < 0.15 else "+" if nudge > 0 else "-", _colour(nudge))
        signs.append("\n")
    return Columns([Panel(digit, title="the digit"), Panel(signs[:-1], title="nudges of its pixels")])


def _layer(layer: LayerExplanation, title: str, heading: str, plain: Mapping[str, Tensor]) -> Table:
    """A layer's neurons: these numbers of each, and its nudges."""
    nudges = {"nudge of y: −∂C/∂y": layer.nudges, "nudge of z: −δ = −∂C/∂z": layer.weighted_input_nudges}
    return _neurons(title, heading, plain, nudges, layer.nudges)


def _avenues(layer: LayerExplanation, chosen: int) -> Table:
    """One output's three avenues; beside the third, the sum over all outputs."""
    bias, weights, inputs = layer.neuron_gradient(chosen)
    plain = {"activation x": layer.inputs, "weight w": layer.weight[chosen]}
    nudges = {"nudge of w: −δ · x": weights, "of x: −δ · w": inputs, "of x, all outputs: sum": layer.input_nudges}
    title = f"output {chosen}'s three avenues: its bias, its weights, the previous activations"
    first = None if bias is None or layer.bias is None else ("bias", "1", f"{layer.bias[chosen]:.3f}", _nudge(bias))
    return _neurons(title, "previous", plain, nudges, layer.input_nudges, first)


def _neurons(
    title: str,
    heading: str,
    plain: Mapping[str, Tensor],
    nudges: Mapping[str, Tensor],
    largest: Tensor,
    first: Sequence[str | Text] | None = None,
) -> Table:
    """A row for each neuron; of a large layer, for those of the largest of these nudges."""
    shown = sorted(largest.abs().topk(min(MOST_ROWS, len(largest))).indices.tolist())
    rows: list[Sequence[str | Text]] = [first] if first else []
    for k in shown:
        numbers = [f"{column[k]:.3f}" for column in plain.values()]
        rows.append([str(k), *numbers, *(_nudge(column[k].item()) for column in nudges.values())])
    table = _table(title, [heading, *plain, *nudges], rows)
    if len(shown) < len(largest):
        table.caption = f"the {len(shown)} of {len(largest)} with the largest nudges"
    return table


def hebbian_table(found: Hebbian) -> Table:
    """The connections of a layer that are strengthened most, and how far that is activation times nudge."""
    title = f"strengthened most; correlation of all weights' nudges with activation · nudge {found.correlation:.2f}"
    rows = [
        (str(c.previous), str(c.neuron), _nudge(c.increase), f"{c.activation:.3f}", _nudge(c.nudge))
        for c in found.strongest
    ]
    return _table(title, ("from", "to", "nudge −∂C/∂w", "activation x", "nudge −∂C/∂y"), rows)


def sensitivity_table(moved: Sequence[Wiggle]) -> Table:
    """How sensitive the cost is to weights and biases, in units of the last, and what it did when they were moved."""
    last = moved[-1].sensitivity
    changed = f"moved by {moved[0].step:.4f}: predicted", "measured", "Taylor order"
    rows = [
        (
            str(one.sensitivity), f"{one.sensitivity.gradient:+.3e}", f"{one.sensitivity.times(last):.1f}",
            f"{one.predicted:+.3e}", f"{one.measured:+.3e}", f"{one.order:.2f}",
        )
        for one in moved
    ]  # fmt: skip
    return _table(moved[0].sensitivity.beside(last), ("", "∂C/∂w", f"× that of {last}", *changed), rows)


def _table(title: str, headings: Iterable[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Rows of cells below their headings, to the right."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="bold", caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _nudge(number: float) -> Text:
    if not number:
        return Text("0")
    return Text(f"{number:+.2e}" if abs(number) < 1e-3 else f"{number:+.4f}", _colour(number))


def _colour(nudge: float) -> str:
    return "bold bright_blue" if nudge > 0 else "bold dark_orange"
