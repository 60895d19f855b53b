"""The tables after an explanation: the connections strengthened most, and the sensitivity of the cost to weights."""

import math
import re
from collections.abc import Callable
from io import StringIO
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console, RenderableType

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.commands import explain as command
from bp_torch.data import Dataset, Split
from bp_torch.data.digits import draw
from bp_torch.inspection import Connection, Hebbian, Sensitivity, Wiggle
from bp_torch.inspection.tables import hebbian_table, sensitivity_table

SCRIPT = Path(__file__).parents[2] / "scripts" / "explain.py"


def rendered(table: RenderableType) -> str:
    file = StringIO()
    Console(file=file, width=150).print(table)
    return file.getvalue()


def rows(text: str) -> list[list[str]]:
    """The cells of a table."""
    _, below = re.split(r"─ *\n", text, maxsplit=1)
    return [re.split(r" {2,}", line.strip()) for line in takewhile(str.strip, below.splitlines())]


def test_connections_keep_their_order() -> None:
    result = Hebbian(0.987, (Connection(7, 3, 0.5, 0.25, 2.0), Connection(1, 0, -3e-4, 1.0, -0.125)))
    text = rendered(hebbian_table(result))
    assert "correlation of the nudges of all weights with x · nudge of y: 0.99" in " ".join(text.split())
    assert rows(text) == [["3", "7", "+0.5000", "0.250", "+2.0000"], ["0", "1", "-3.00e-04", "1.000", "-0.1250"]]


def test_sensitivities_are_relative_to_the_last() -> None:
    most, least = Sensitivity("hidden1.weight", (3, 412), -3.2), Sensitivity("output.bias", (7,), 0.1)
    wiggles = [Wiggle(most, 2**-10, -3.125e-3, -3.1e-3, 2.004), Wiggle(least, 2**-10, 9.8e-5, 9.7e-5, math.nan)]
    text = rendered(sensitivity_table(wiggles))
    assert text.splitlines()[0].rstrip() == "hidden1.weight[3, 412]: 32.0 times as sensitive as output.bias[7]"
    assert "ratio: to output.bias[7]; w is changed by 0.0010" in text
    assert rows(text) == [
        ["hidden1.weight[3, 412]", "-3.20e+00", "32.0", "-3.13e-03", "-3.10e-03", "2.00"],
        ["output.bias[7]", "+1.00e-01", "1.0", "+9.80e-05", "+9.70e-05", "nan"],
    ]


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_script: Callable[..., Any]) -> Callable[..., str]:
    """Explain the third digit to a network; returns the output of the script."""
    labels = torch.arange(4)
    digits = Dataset("digits", Split(draw(labels, seed=1), labels), Split(draw(labels, seed=2), labels), "four digits")
    monkeypatch.setattr(command, "draw_explanation", lambda *_, **__: Figure(figsize=(2, 1)))
    monkeypatch.setenv("COLUMNS", "150")

    def explain(model: torch.nn.Module, cost: Any) -> str:
        monkeypatch.setattr(command, "load", lambda *_, **__: digits)
        monkeypatch.setattr(command, "Setup", lambda _: SimpleNamespace(trained=model))
        monkeypatch.setattr(command, "squared_error", cost)
        status, out, err = run_script(SCRIPT, "--example", "2", "--runs-dir", str(tmp_path))
        assert status == 0, err
        return str(out)

    return explain


def test_the_tables_are_of_the_digit_and_the_network(explain: Callable[..., str]) -> None:
    """The five weights of the last layer with the largest nudges, and the five most sensitive of all parameters."""
    torch.manual_seed(0)
    model = nn.mlp((784, 6, 10))
    builtin, image = nn.as_builtin(model), draw(torch.arange(4), seed=2)[2].view(1, -1) / 255

    def cost() -> torch.Tensor:
        return (builtin(image) - torch.eye(10)[2]).square().sum()

    gradients = dict(
        zip(
            [name for name, _ in model.named_parameters()],
            torch.autograd.grad(cost(), list(builtin.parameters())),
            strict=True,
        )
    )
    out = explain(model, F.squared_error)
    nudges = -gradients["output.weight"]
    strongest = [divmod(place, 6) for place in nudges.flatten().argsort(descending=True)[:5].tolist()]
    table = rows(out.partition("strengthened most")[2])
    assert [(int(row[1]), int(row[0])) for row in table] == strongest
    assert [float(row[2]) for row in table] == pytest.approx([nudges[place].item() for place in strongest], abs=6e-5)
    *largest, hundredth = rows(out.partition("times as sensitive as")[2])
    sizes = torch.cat([gradient.flatten().abs() for gradient in gradients.values()]).sort(descending=True).values
    assert [abs(float(row[1])) for row in largest] == pytest.approx(sizes[:5].tolist(), rel=6e-3)
    nearest = sizes[(100 * sizes - sizes[0]).abs().argmin()].item()
    assert abs(float(hundredth[1])) == pytest.approx(nearest, rel=6e-3)
    for row in (*largest, hundredth):
        assert float(row[4]) == pytest.approx(float(row[3]), rel=0.05), "the measured change is the predicted one"
        assert float(row[5]) == pytest.approx(2, abs=0.2)


def test_the_tables_for_cross_entropy_and_no_hidden_layer(explain: Callable[..., str]) -> None:
    torch.manual_seed(0)
    out = explain(nn.mlp((784, 10), output_activation="identity"), F.cross_entropy)
    assert len(rows(out.partition("strengthened most")[2])) == 5
    assert len(rows(out.partition("times as sensitive as")[2])) == 6
    assert "with x · nudge of y: 1.00" in " ".join(out.split()), "the derivative of the identity is 1"
