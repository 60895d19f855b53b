"""The survey of the catalogue, and its tables."""

import math
from dataclasses import replace

import pytest
import torch

from bp_torch.catalogue import CATALOGUE
from bp_torch.functional.activations import Tanh
from bp_torch.gradients import Score, Scoreboard, tables
from bp_torch.gradients.survey import accuracy, survey


def test_a_right_function() -> None:
    found = survey("tanh")
    assert found.wrong == ()
    assert found.not_offered == ()
    assert found.samples == len(CATALOGUE["tanh"].samples)
    assert [a.dtype for a in found.accuracies] == ["float64", "float32", "bfloat16", "float16"]
    for exactness in found.accuracies[1:]:
        assert 0 < exactness.hand <= 2 * exactness.builtin + 8
    assert found.accuracies[0].builtin == 0


def test_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Tanh.backward
    monkeypatch.setattr(Tanh, "backward", staticmethod(lambda ctx, g: 1.001 * right(ctx, g)))
    found = survey("tanh")
    assert found.failures
    assert all(a.failed for a in found.accuracies[:2])
    header, rule, row = tables.functions([found])
    cells = [cell.strip() for cell in row.split("|")]
    assert (cells[1], cells[4]) == ("tanh", str(len(found.wrong)))
    assert header.count("|") == rule.count("|") == row.count("|")


def test_errors_are_in_roundings() -> None:
    entry = replace(CATALOGUE["relu"], function=lambda x: torch.relu(x) * (1 + 3 * torch.finfo(x.dtype).eps))
    exactness = accuracy(entry, torch.float32)
    assert exactness.hand == pytest.approx(3, abs=0.6)
    assert exactness.builtin == 0
    assert math.isfinite(exactness.hand)


def test_the_tables_of_a_scoreboard() -> None:
    bugs = {"a | b": "sign", "c": "factor", "d": "sign"}
    ours = Score("ours", frozenset(bugs), (), 1.0)
    theirs = Score("theirs", frozenset({"c"}), ("right",), 2.0)
    board = Scoreboard(bugs, 9, (ours, theirs))
    assert board.perfect
    assert not replace(board, scores=(theirs, ours)).perfect
    assert not replace(board, scores=(replace(ours, alarms=("right",)), theirs)).perfect
    assert list(tables.scores(board))[2:] == ["| ours   | 3 | 0 | 1.0 |", "| theirs | 1 | 1 | 2.0 |"]
    assert list(tables.kinds(board))[2:] == ["| sign | 2 | 2 | 0 |", "| factor | 1 | 1 | 1 |"]
    assert list(tables.bugs(board))[2:] == [
        r"| sign | a \| b | caught | – |", "| sign | d | caught | – |", "| factor | c | caught | caught |",
    ]  # fmt: skip
