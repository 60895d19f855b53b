"""What is told below an explanation: the connections strengthened most, and what a wiggle of a weight does."""

import math
import re
import sys
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


def told(what: RenderableType) -> str:
    file = StringIO()
    Console(file=file, width=150).print(what)
    return file.getvalue()


def rows(said: str) -> list[list[str]]:
    """The cells below a table's headings."""
    _, below = re.split(r"─ *\n", said, maxsplit=1)
    return [re.split(r" {2,}", line.strip()) for line in takewhile(str.strip, below.splitlines())]


def test_connections_stand_in_their_order() -> None:
    found = Hebbian(0.987, (Connection(7, 3, 0.5, 0.25, 2.0), Connection(1, 0, -3e-4, 1.0, -0.125)))
    said = told(hebbian_table(found))
    assert "correlation of the nudges of all weights with x · nudge of y: 0.99" in " ".join(said.split())
    assert rows(said) == [["3", "7", "+0.5000", "0.250", "+2.0000"], ["0", "1", "-3.00e-04", "1.000", "-0.1250"]]


def test_sensitivities_are_in_units_of_the_last() -> None:
    most, least = Sensitivity("hidden1.weight", (3, 412), -3.2), Sensitivity("output.bias", (7,), 0.1)
    moved = [Wiggle(most, 2**-10, -3.125e-3, -3.1e-3, 2.004), Wiggle(least, 2**-10, 9.8e-5, 9.7e-5, math.nan)]
    said = told(sensitivity_table(moved))
    assert said.splitlines()[0].rstrip() == "hidden1.weight[3, 412]: 32.0 times as sensitive as output.bias[7]"
    assert "ratio: to output.bias[7]; w is changed by 0.0010" in said
    assert rows(said) == [
        ["hidden1.weight[3, 412]", "-3.20e+00", "32.0", "-3.13e-03", "-3.10e-03", "2.00"],
        ["output.bias[7]", "+1.00e-01", "1.0", "+9.80e-05", "+9.70e-05", "nan"],
    ]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the script says of the third digit to a network."""
    labels = torch.arange(4)
    digits = Dataset("digits", Split(draw(labels, seed=1), labels), Split(draw(labels, seed=2), labels), "four digits")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # which would outlast the test
    monkeypatch.setattr(command, "draw_explanation", lambda *_, **__: Figure(figsize=(2, 1)))
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(sys, "argv", ["explain.py", "--example", "2", "--runs-dir", str(tmp_path)])

    def asked(model: torch.nn.Module, cost: Any) -> str:
        monkeypatch.setattr(command, "load", lambda *_, **__: digits)
        monkeypatch.setattr(command, "Setup", lambda _: SimpleNamespace(trained=model))
        monkeypatch.setattr(command, "squared_error", cost)
        with pytest.raises(SystemExit) as stopped:
            command.main()
        assert stopped.value.code == 0
        return capsys.readouterr().out

    return asked


def test_the_script_tells_them_of_its_digit_and_network(said: Callable[..., str]) -> None:
    """The five weights of the last layer that are wished to grow most, and of all the five that matter most."""
    torch.manual_seed(0)
    model = nn.mlp((784, 6, 10))
    builtin, image = nn.as_builtin(model), draw(torch.arange(4), seed=2)[2].view(1, -1) / 255

    def value() -> torch.Tensor:
        return (builtin(image) - torch.eye(10)[2]).square().sum()

    gradients = dict(
        zip(
            [name for name, _ in model.named_parameters()],
            torch.autograd.grad(value(), list(builtin.parameters())),
            strict=True,
        )
    )
    out = said(model, F.squared_error)
    wishes = -gradients["output.weight"]
    strongest = [divmod(place, 6) for place in wishes.flatten().argsort(descending=True)[:5].tolist()]
    table = rows(out.partition("strengthened most")[2])
    assert [(int(row[1]), int(row[0])) for row in table] == strongest
    assert [float(row[2]) for row in table] == pytest.approx([wishes[place].item() for place in strongest], abs=6e-5)
    *most, hundredth = rows(out.partition("times as sensitive as")[2])
    sizes = torch.cat([gradient.flatten().abs() for gradient in gradients.values()]).sort(descending=True).values
    assert [abs(float(row[1])) for row in most] == pytest.approx(sizes[:5].tolist(), rel=6e-3)
    nearest = sizes[(100 * sizes - sizes[0]).abs().argmin()].item()
    assert abs(float(hundredth[1])) == pytest.approx(nearest, rel=6e-3)
    for row in (*most, hundredth):
        assert float(row[4]) == pytest.approx(float(row[3]), rel=0.05), "measured as predicted"
        assert float(row[5]) == pytest.approx(2, abs=0.2)


def test_the_script_tells_them_of_classes_and_without_a_hidden_layer(said: Callable[..., str]) -> None:
    torch.manual_seed(0)
    out = said(nn.mlp((784, 10), output_activation="identity"), F.cross_entropy)
    assert len(rows(out.partition("strengthened most")[2])) == 5
    assert len(rows(out.partition("times as sensitive as")[2])) == 6
    assert "with x · nudge of y: 1.00" in " ".join(out.split()), "there is no slope in between"
