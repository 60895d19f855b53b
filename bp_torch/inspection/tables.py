"""Tables for a terminal of 80 columns: the numbers of an explanation, and related results."""

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

from bp_torch.inspection.experiments.setup import Claim
from bp_torch.inspection.explanation import Explanation, LayerExplanation
from bp_torch.inspection.sensitivity import Hebbian, Wiggle

MAX_ROWS: Final = 16
"""Largest number of neurons in a table. Of a larger layer, those with the largest nudges are shown."""


def explanation_tables(explanation: Explanation, output: int | None = None) -> RenderableType:
    """The pixels and all nudges of one example, from the outputs to the first layer, for a `rich.console.Console`.

    The three avenues are those of `output`, by default of the output with the largest target.

    Raises:
        ValueError: if there is no such output.
    """
    chosen = explanation.chosen(output)
    *hidden, last = explanation.layers
    outputs = {"activation\ny": last.activations, "target": explanation.target}
    parts: list[RenderableType] = [_pixels(explanation), _layer(last, "nudges of the outputs", "output", outputs)]
    parts.append(_avenues(last, chosen))
    for layer in reversed(hidden):
        title = f"{layer.name}: nudges added up over the next layer"
        parts.append(_layer(layer, title, "neuron", {"z": layer.weighted_inputs, "activation\ny": layer.activations}))
    parts.append(f"largest difference from autograd: {explanation.difference:.1e} relative to the largest")
    return Group(*parts)


def _pixels(explanation: Explanation) -> RenderableType:
    """The digit next to the nudges of its pixels; nothing if the inputs are not a square image of even side."""
    side = isqrt(len(explanation.image))
    if side * side != len(explanation.image) or side % 2:
        return ""
    both = torch.stack([explanation.image, explanation.pixel_nudges])
    image, nudges = both.reshape(2, side // 2, 2, side).mean(2)  # a line of text shows two rows of pixels
    digit = Text(
        "\n".join("".join(" ░▒▓█"[int(4 * pixel + 0.5)] for pixel in row) for row in image.clamp(0, 1).tolist())
    )
    signs = Text()
    for row in (nudges / (nudges.abs().max().item() or 1.0)).tolist():
        for nudge in row:
            signs.append(" " if abs(nudge) < 0.15 else "+" if nudge > 0 else "-", _colour(nudge))
        signs.append("\n")
    return Columns([Panel(digit, title="the digit"), Panel(signs[:-1], title="nudges of its pixels")])


def _layer(layer: LayerExplanation, title: str, heading: str, columns: Mapping[str, Tensor]) -> Table:
    """The neurons of a layer: these columns, and their nudges."""
    nudges = {"nudge of y\n−∂C/∂y": layer.nudges, "nudge of z\n−δ = −∂C/∂z": layer.weighted_input_nudges}
    return _neurons(title, heading, columns, nudges, layer.nudges)


def _avenues(layer: LayerExplanation, chosen: int) -> Table:
    """The three avenues of one output, and the sum of the third over all outputs."""
    bias, weights, inputs = layer.neuron_nudges(chosen)
    columns = {"activation\nx": layer.inputs, "weight\nw": layer.weight[chosen]}
    nudges = {
        "nudge of w\n−δ · x": weights,
        "nudge of x\n−δ · w": inputs,
        "sum over\nall outputs": layer.input_nudges,
    }
    title = f"output {chosen}'s three avenues: bias, weights, previous activations"
    first = None if bias is None or layer.bias is None else ("bias", "1", f"{layer.bias[chosen]:.3f}", _nudge(bias))
    return _neurons(title, "previous\nneuron", columns, nudges, layer.input_nudges, first)


def _neurons(
    title: str,
    heading: str,
    columns: Mapping[str, Tensor],
    nudges: Mapping[str, Tensor],
    ranking: Tensor,
    first: Sequence[str | Text] | None = None,
) -> Table:
    """A row for each neuron, after the row `first`; of a large layer, for those with the largest `ranking`."""
    neurons = sorted(ranking.abs().topk(min(MAX_ROWS, len(ranking))).indices.tolist())
    rows: list[Sequence[str | Text]] = [first] if first else []
    for k in neurons:
        numbers = [f"{column[k]:.3f}" for column in columns.values()]
        rows.append([str(k), *numbers, *(_nudge(column[k].item()) for column in nudges.values())])
    table = _table(title, [heading, *columns, *nudges], rows)
    if len(neurons) < len(ranking):
        table.caption = f"the {len(neurons)} of {len(ranking)} with the largest nudges"
    return table


def hebbian_table(hebbian: Hebbian) -> Table:
    """The connections of a layer that are strengthened most, and the correlation with activation times nudge."""
    rows = [
        (str(c.previous), str(c.neuron), _nudge(c.increase), f"{c.activation:.3f}", _nudge(c.nudge))
        for c in hebbian.strongest
    ]
    headings = "from", "to", "nudge of w\n−∂C/∂w", "activation\nx", "nudge of y\n−∂C/∂y"
    table = _table("weights that are strengthened most", headings, rows)
    table.caption = f"correlation of the nudges of all weights\nwith x · nudge of y: {hebbian.correlation:.2f}"
    return table


def sensitivity_table(wiggles: Sequence[Wiggle]) -> Table:
    """The sensitivity of the cost to some weights and biases, also as a ratio to the last, and their wiggles."""
    last = wiggles[-1].sensitivity
    rows = [
        (
            str(one.sensitivity), f"{one.sensitivity.gradient:+.2e}", f"{one.sensitivity.ratio_to(last):.1f}",
            f"{one.predicted:+.2e}", f"{one.measured:+.2e}", f"{one.order:.2f}",
        )
        for one in wiggles
    ]  # fmt: skip
    headings = "w", "∂C/∂w", "ratio", "change of C\npredicted", "\nmeasured", "Taylor\norder"
    table = _table(wiggles[0].sensitivity.compare_to(last), headings, rows)
    table.caption = f"ratio: to {last}; w is changed by {wiggles[0].step:.4f}"
    return table


def claims_list(claims: Iterable[Claim], title: str) -> Table:
    """The measured claims of the lecture: of each its statement, what was measured, and whether it holds."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.title, table.title_style, table.title_justify = f"{title}\n", "bold", "left"
    for claim in claims:
        table.add_row(str(claim.statement), Text(claim.claim, "bold"))
        table.add_row("", Text(f"measured: {claim.measured}"))
        table.add_row("", Text(f"holds: {'yes' if claim.holds else 'no'} ({claim.scope})\n"))
    return table


def _table(title: str, headings: Iterable[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table of right-aligned cells, which are broken where there is no space for them, and never cut."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="bold", caption_justify="left")
    table.pad_edge = False
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _nudge(number: float) -> Text:
    if not number:
        return Text("0")
    return Text(f"{number:+.2e}" if abs(number) < 1e-3 else f"{number:+.4f}", _colour(number))


def _colour(nudge: float) -> str:
    return "bold bright_blue" if nudge > 0 else "bold dark_orange"
