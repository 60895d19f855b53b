"""The tables of an explanation in a terminal, with numbers worked by hand."""

import re
from io import StringIO
from itertools import takewhile
from typing import Any

import pytest
import torch
from rich.console import Console, RenderableType

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.inspection import Explanation, Sensitivity, Wiggle, explain, hebbian, sensitivities, wiggle
from bp_torch.inspection.experiments.setup import Claim
from bp_torch.inspection.tables import (
    claims_list,
    explanation_tables,
    hebbian_table,
    sensitivity_table,
)


@pytest.fixture
def by_hand() -> Explanation:
    """Two inputs, two rectified neurons, two linear outputs."""
    model = nn.mlp((2, 2, 2), "relu")
    values = ([[1.0, -1.0], [2.0, 0.0]], [0.0, -1.0], [[2.0, 1.0], [-1.0, 3.0]], [0.0, 1.0])
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    return explain(model, F.squared_error, torch.tensor([1.0, 0.5]), [1.0, 4.0])


def rendered(explanation: Explanation, *output: int, **how: Any) -> str:
    return printed(explanation_tables(explanation, *output), **how)


def printed(table: RenderableType, **how: Any) -> str:
    file = StringIO()
    Console(file=file, **{"width": 80, **how}).print(table)
    return file.getvalue()


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table whose title begins so."""
    _, begun, rest = text.partition(f"\n{title}")
    assert begun or text.startswith(title)
    _, below = re.split(r"─ *\n", rest or text, maxsplit=1)
    return [line.split() for line in takewhile(str.strip, below.splitlines()) if not line.strip().startswith("the ")]


def panels(lines: list[str]) -> list[list[str]]:
    """The letters in the two panels, of inputs that are 4 by 4 pixels."""
    parts = [line.split("│") for line in lines[1:3]]
    return [[ink[1:5], nudges[1:5]] for _, ink, _, nudges, _ in parts]


def drawn(*sizes: int, image: Any = None, target: Any = 0, **more: Any) -> Explanation:
    torch.manual_seed(0)
    model = nn.mlp(sizes, **more)
    return explain(model, F.squared_error, torch.rand(sizes[0]) if image is None else image, target)


def test_every_number_worked_by_hand(by_hand: Explanation) -> None:
    text = rendered(by_hand)
    assert rows(text, "nudges of the outputs") == [
        ["0", "2.000", "1.000", "-2.0000", "-2.0000"],
        ["1", "3.500", "4.000", "+1.0000", "+1.0000"],
    ]
    assert rows(text, "output 1's three avenues") == [
        ["bias", "1", "1.000", "+1.0000"],
        ["0", "0.500", "-1.000", "+0.5000", "-1.0000", "-5.0000"],
        ["1", "1.000", "3.000", "+1.0000", "+3.0000", "+1.0000"],
    ]
    assert rows(text, "hidden1") == [
        ["0", "0.500", "0.500", "-5.0000", "-5.0000"],
        ["1", "1.000", "1.000", "+1.0000", "+1.0000"],
    ]
    assert text.rstrip().splitlines()[-1] == "largest difference from autograd: 0.0e+00 relative to the largest"
    assert "hidden2" not in text


def test_another_outputs_avenues(by_hand: Explanation) -> None:
    assert rows(rendered(by_hand, 0), "output 0's three avenues") == [
        ["bias", "1", "0.000", "-2.0000"],
        ["0", "0.500", "2.000", "-1.0000", "-4.0000", "-5.0000"],
        ["1", "1.000", "1.000", "-2.0000", "-2.0000", "+1.0000"],
    ]


def test_layers_are_listed_from_the_last_to_the_first() -> None:
    explanation = drawn(4, 6, 5, 3)
    text = rendered(explanation)
    assert re.findall(r"^(nudges|output|hidden\d|largest)", text, re.M) == [
        "nudges",
        "output",
        "hidden2",
        "hidden1",
        "largest",
    ]
    for number in (1, 2):
        layer = explanation.layers[number - 1]
        for neuron, cells in enumerate(rows(text, f"hidden{number}")):
            numbers = (layer.weighted_inputs, layer.activations, layer.nudges, layer.weighted_input_nudges)
            expected = [each[neuron].item() for each in numbers]
            assert cells[0] == str(neuron)
            assert [float(cell) for cell in cells[1:]] == pytest.approx(expected, abs=6e-4)


def test_small_nudges_are_shown_in_powers_of_ten_and_zero_as_0() -> None:
    model = torch.nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]]))
        model[0].bias.zero_()
    text = rendered(explain(model, F.squared_error, torch.tensor([0.25, 0.5]), [0.25 + 2**-14, 0.0, 1.0]))
    nudges = [row[3] for row in rows(text, "nudges of the outputs")]
    assert nudges == ["+1.22e-04", "0", "+3.0000"]


def test_positive_and_negative_nudges_differ_in_colour(by_hand: Explanation) -> None:
    text = rendered(by_hand, force_terminal=True, color_system="256", legacy_windows=False)
    colours = {number: re.findall(rf"\x1b\[([\d;]+)m *{re.escape(number)}", text) for number in ("-2.0000", "+1.0000")}
    less, more = (set(colours[number]) for number in ("-2.0000", "+1.0000"))
    assert len(less) == len(more) == 1
    assert less != more


@pytest.mark.parametrize("wide", [16, 17, 40])
def test_of_a_large_layer_the_16_with_the_largest_nudges_are_shown(wide: int) -> None:
    explanation = drawn(3, wide, 24)
    text = rendered(explanation)
    for title, nudges in {
        "nudges of the outputs": explanation.output_nudges,
        "output 0": explanation.layers[1].input_nudges,
        "hidden1": explanation.layers[0].nudges,
    }.items():
        shown = [int(cells[0]) for cells in rows(text, title) if cells[0] != "bias"]
        assert shown == sorted(nudges.abs().argsort(descending=True)[:16].tolist())


def test_the_digit_and_its_nudges_are_side_by_side() -> None:
    """A line of text shows two rows of pixels: full, half and no ink; positive, negative and no nudge."""
    model = torch.nn.Sequential(nn.Linear(16, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 0.0, -0.1, 0.0] * 2 + [0.0, 0.1, 0.0, -0.1] * 2]))
        model[0].bias.zero_()
    image = torch.tensor([1.0, 0.5, 0.0, 0.0] * 2 + [0.0, 0.0, 1.0, 1.0] + [0.0] * 4)
    lines = rendered(explain(model, F.squared_error, image, [1.0])).splitlines()
    assert "the digit" in lines[0]
    assert "nudges of its pixels" in lines[0]
    assert panels(lines) == [["█▒  ", "+ - "], ["  ▒▒", " + -"]]


@pytest.mark.parametrize("inputs", [5, 9, 12, 1])
def test_inputs_without_a_picture(inputs: int) -> None:
    """They are not a square image of even side."""
    text = rendered(drawn(inputs, 3, 2))
    assert "the digit" not in text
    assert "nudges of its pixels" not in text
    assert len(rows(text, "hidden1")) == 3


def test_one_layer_and_no_bias() -> None:
    torch.manual_seed(0)
    explanation = explain(torch.nn.Sequential(nn.Linear(5, 3, bias=False)), F.squared_error, torch.rand(5), 2)
    text = rendered(explanation)
    assert "hidden1" not in text
    numbers = [row for row in rows(text, "output 2") if row[0] != "bias"]
    avenues = explanation.layers[0].neuron_nudges(2)
    assert [float(row[3]) for row in numbers] == pytest.approx(avenues.weights.tolist(), abs=6e-5)
    assert [float(row[4]) for row in numbers] == pytest.approx(avenues.inputs.tolist(), abs=6e-5)
    assert [float(row[5]) for row in numbers] == pytest.approx(explanation.pixel_nudges.tolist(), abs=6e-5)


def test_without_a_bias_none_is_shown() -> None:
    explanation = explain(torch.nn.Sequential(nn.Linear(5, 3, bias=False)), F.squared_error, torch.rand(5), 2)
    assert "bias" not in [row[0] for row in rows(rendered(explanation), "output 2")]


def test_small_nudges_of_pixels_are_blank() -> None:
    model = torch.nn.Sequential(nn.Linear(16, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[100.0] * 8 + [3.0] * 8]))
    lines = rendered(explain(model, F.squared_error, torch.zeros(16), [2.0])).splitlines()
    assert [nudges for _, nudges in panels(lines)] == ["++++", "    "]


def test_an_input_below_zero_has_no_ink() -> None:
    lines = rendered(drawn(16, 2, image=-torch.ones(16))).splitlines()
    assert [ink for ink, _ in panels(lines)] == ["    ", "    "]


def test_no_cell_is_broken_at_80_columns() -> None:
    """The lecture's network, with the longest names that it has; on a wide terminal the lines are the same."""
    torch.manual_seed(0)
    model, image = nn.mlp((784, 16, 16, 10)), torch.rand(784)
    explanation = explain(model, F.squared_error, image, 9)
    batch = image[None], torch.eye(10)[9:]
    ranked = sensitivities(model, F.squared_error, *batch)
    longest = max(ranked, key=lambda one: len(str(one)))
    assert len(str(longest)) == len("hidden1.weight[15, 783]")
    wiggles = [wiggle(model, F.squared_error, *batch, one) for one in (ranked[0], longest)]
    tables = explanation_tables(explanation), hebbian_table(hebbian([explanation])), sensitivity_table(wiggles)
    for table in tables:
        narrow, wide = (printed(table, width=width).splitlines() for width in (80, 200))
        assert [line.split() for line in narrow] == [line.split() for line in wide]
        assert max(map(len, narrow)) <= 80


def test_a_long_name_is_broken_but_never_cut() -> None:
    name = "a_name_that_is_much_longer_than_there_is_space_for"
    one = Sensitivity(f"{name}.weight", (3, 412), -3.2)
    text = printed(sensitivity_table([Wiggle(one, 2**-10, -3.125e-3, -3.1e-3, 2.0)]))
    below = text.splitlines()[6:]
    assert "".join(line[:25].strip() for line in below[:3]).startswith(name[:40])
    assert "…" not in text


def test_claims_are_a_list_of_paragraphs() -> None:
    claims = [
        Claim(4, "the gradient is steepest", "by 0.99", holds=True, scope="every network"),
        Claim(13, "[it] is approximated " + "well " * 20, "0.2", holds=False),
    ]
    lines = printed(claims_list(claims, "The claims"), markup=False).splitlines()
    assert [line.rstrip() for line in lines[:6]] == [
        "The claims", "", "4   the gradient is steepest", "    measured: by 0.99", "    holds: yes (every network)", ""
    ]  # fmt: skip
    assert [line[:4] for line in lines[6:9]] == ["13  ", "    ", "    "]
    assert lines[6].startswith("13  [it] is approximated well")
    assert "holds: no (this network)" in lines[9]
