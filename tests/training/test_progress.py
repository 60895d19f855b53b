"""What is shown of long work: on a terminal, in a log, and if nothing is wanted."""

import os
import re
import sys
import termios
from contextlib import suppress
from typing import Any

import pytest

from bp_torch.training.logging import progress
from bp_torch.training.logging.events import EpochEvent, Heartbeat, RunStarted, StepEvent


def started(**changes: Any) -> RunStarted:
    values = {
        "config": {"epochs": 5},
        "data": "digits",
        "data_origin": "drawn",
        "versions": {},
        "command": "",
        "model": "",
    }
    return RunStarted(**{**values, "parameters": 3, "step": 100, "steps": 500, **changes})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.Progress(quiet=False)
    lines.record(started(remarks=("checkpoint.pt is damaged: resuming from checkpoint.previous.pt",)))
    for step in range(100, 300):
        clock[0] += 0.25
        lines.record(Heartbeat(step))
        if step == 150:
            lines.record(StepEvent(150, 0, 0.75, 0.5, 0.1, 1e4))
            lines.record(EpochEvent(150, 1, 0.1, 0.9, 0.2, 0.8))
    lines.close()
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == [
        "data: drawn",
        "checkpoint.pt is damaged: resuming from checkpoint.previous.pt",
        "step 100 of 500; time left: ?",
    ]
    assert said[3] == "step 140 of 500; time left: 01:30", "at 4 steps a second"
    assert said[4] == "step 180 of 500, epoch=1 of 5, cost=0.1000, test accuracy=80.00%; time left: 01:20"
    assert said[-1] == "step 300 of 500, epoch=1 of 5, cost=0.1000, test accuracy=80.00%; time left: 00:50"
    assert len(said) == 3 + 50 // 10 + 1


def test_quiet_says_where_the_data_come_from_and_what_is_amiss(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = progress.Progress(quiet=True)
    quiet.record(started(remarks=("something",)))
    quiet.record(StepEvent(150, 0, 0.75, 0.5, 0.1, 1e4))
    quiet.record(Heartbeat(151))
    quiet.close()
    assert capsys.readouterr().err.splitlines() == ["data: drawn", "something"]


def all_of(terminal: int) -> str:
    """What was written to a terminal that is closed on the other side."""
    shown = b""
    with suppress(OSError):  # at the end
        while content := os.read(terminal, 10**5):
            shown += content
    os.close(terminal)
    return shown.decode()


def test_a_terminal_gets_a_bar_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        bar = progress.Progress(quiet=False)
        bar._options["mininterval"] = 0  # so that no drawing depends on the machine's speed
        bar.record(started())
        for step in (200, 300):
            bar.record(Heartbeat(step - 1))
        bar.record(StepEvent(400, 0, 0.75, 0.5, 0.1, 1e4))
        bar.close()
    shown = all_of(ours)
    assert "digits:" in shown
    assert "300/500" in shown
    assert "epoch=1 of 5" in shown
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", shown), "elapsed < left"


def test_nobody_has_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log's reader that goes away, as head does, or a disk that is full ends no training."""

    def refuse(*_: object, **__: object) -> None:
        raise BrokenPipeError

    lines = progress.Progress(quiet=False)
    monkeypatch.setattr("builtins.print", refuse)
    monkeypatch.setattr(progress.tqdm, "write", refuse)
    lines.record(started())
    lines.record(Heartbeat(101))
    lines.close()
