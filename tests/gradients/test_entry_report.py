"""Reports on the catalogue, and their table."""

import math
from dataclasses import replace

import pytest
import torch

from bp_torch.catalogue import CATALOGUE
from bp_torch.functional.activations import Tanh
from bp_torch.gradients.entry_report import HEADINGS, accuracy, check_entry, row


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "tanh", replace(CATALOGUE["tanh"], samples=CATALOGUE["tanh"].samples[:2]))


def test_a_right_function() -> None:
    found = check_entry("tanh")
    assert found.wrong == ()
    assert found.unsupported == ()
    assert found.samples == 2
    assert [a.dtype for a in found.accuracies] == ["float64", "float32", "bfloat16", "float16"]
    for exactness in found.accuracies[1:]:
        assert 0 < exactness.hand <= 2 * exactness.builtin + 8
    assert found.accuracies[0].builtin == 0


def test_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Tanh.backward
    monkeypatch.setattr(Tanh, "backward", staticmethod(lambda ctx, g: 1.001 * right(ctx, g)))
    found = check_entry("tanh")
    assert found.failures
    assert all(a.failed for a in found.accuracies[:2])
    cells = [cell.strip() for cell in row(found).split("|")]
    assert (cells[1], cells[4]) == ("tanh", str(len(found.wrong)))
    assert [line.count("|") for line in HEADINGS.splitlines()] == 2 * [row(found).count("|")]


def test_errors_are_in_roundings() -> None:
    entry = replace(CATALOGUE["relu"], function=lambda x: torch.relu(x) * (1 + 3 * torch.finfo(x.dtype).eps))
    exactness = accuracy(entry, torch.float32)
    assert exactness.hand == pytest.approx(3, abs=0.6)
    assert exactness.builtin == 0
    assert math.isfinite(exactness.hand)
