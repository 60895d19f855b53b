"""Reports on catalogue entries, and their table."""

from dataclasses import replace

import pytest
import torch

from bp_torch.catalogue import CATALOGUE
from bp_torch.functional.activations import Tanh
from bp_torch.gradients import Comparison, Result
from bp_torch.gradients.entry_report import HEADINGS, check_entry, compare_samples, largest_errors


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tanh", "cross_entropy"):
        monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], samples=CATALOGUE[name].samples[:2]))


@pytest.mark.parametrize("name", ["tanh", "cross_entropy"])
def test_a_correct_function(name: str) -> None:
    report = check_entry(name)
    assert report.wrong == ()
    assert report.samples == 2
    assert list(report.accuracies) == ["float64", "float32", "bfloat16", "float16"]
    (_, builtin), *below_float64 = report.accuracies.values()
    assert builtin == 0
    for hand, builtin in below_float64:
        assert 0 < hand <= 2 * builtin + 8


def test_a_wrong_function(monkeypatch: pytest.MonkeyPatch) -> None:
    correct = Tanh.backward
    monkeypatch.setattr(Tanh, "backward", staticmethod(lambda ctx, g: 1.001 * correct(ctx, g)))
    report = check_entry("tanh")
    assert {type(wrong) for wrong in report.wrong} == {Result, Comparison}
    assert all(hand > 1000 for hand, _ in list(report.accuracies.values())[:2])
    cells = [cell.strip() for cell in report.row.split("|")]
    assert (cells[1], cells[4]) == ("tanh", str(len(report.wrong)))
    assert [line.count("|") for line in HEADINGS.splitlines()] == 2 * [report.row.count("|")]


def test_errors_are_in_roundings() -> None:
    entry = replace(CATALOGUE["relu"], function=lambda x: torch.relu(x) * (1 + 3 * torch.finfo(x.dtype).eps))
    hand, builtin = largest_errors(compare_samples(entry, torch.float32))
    assert hand == pytest.approx(3, abs=0.6)
    assert builtin == 0
