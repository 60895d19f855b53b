"""Progress output: on a terminal, in a log, and with --quiet."""

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
    texts = dict.fromkeys(("data", "data_origin", "command", "model"), "digits")
    numbers = {"parameters": 3, "step": 100, "steps": 500}
    return RunStarted(**{"config": {"epochs": 5}, "versions": {}, **texts, **numbers, **changes})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_has_a_line_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    log = progress.Progress(quiet=False)
    log.record(started(remarks=("checkpoint.pt is damaged: resuming from checkpoint.previous.pt",)))
    for step in range(100, 300):
        clock[0] += 0.25
        log.record(Heartbeat(step))
        if step == 150:
            log.record(StepEvent(150, 0, 0.75, 0.5, 0.1, 1e4))
            log.record(EpochEvent(150, 1, 0.1, 0.9, 0.2, 0.8))
    log.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "data: digits",
        "checkpoint.pt is damaged: resuming from checkpoint.previous.pt",
        "step 100 of 500; time left: ?",
    ]
    assert lines[3] == "step 140 of 500; time left: 01:30", "at 4 steps a second"
    assert lines[4] == "step 180 of 500, epoch 1/5, cost 0.1000, accuracy 80.00%; time left: 01:20"
    assert lines[-1] == "step 300 of 500, epoch 1/5, cost 0.1000, accuracy 80.00%; time left: 00:50"
    assert len(lines) == 3 + 50 // 10 + 1


def test_quiet_prints_the_origin_of_the_data_and_problems(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = progress.Progress(quiet=True)
    quiet.record(started(remarks=("something",)))
    quiet.record(StepEvent(150, 0, 0.75, 0.5, 0.1, 1e4))
    quiet.record(Heartbeat(151))
    quiet.close()
    assert capsys.readouterr().err.splitlines() == ["data: digits", "something"]


def read_all(terminal: int) -> str:
    """The output to a terminal whose other end is closed."""
    shown = b""
    with suppress(OSError):  # at end of file
        while content := os.read(terminal, 10**5):
            shown += content
    os.close(terminal)
    return shown.decode()


def test_a_terminal_shows_a_bar_with_the_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        bar = progress.Progress(quiet=False)
        bar._options["mininterval"] = 0  # draw on every update, whatever the machine's speed
        bar.record(started())
        for step in (200, 300):
            bar.record(Heartbeat(step - 1))
        bar.record(StepEvent(400, 0, 0.75, 0.5, 0.1, 1e4))
        bar.close()
    shown = read_all(ours)
    assert re.search(r" 60%█+.* +\d\d:\d\d left, epoch 1/5", shown)


def test_errors_of_a_closed_stderr_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training continues after its reader has exited."""

    def refuse(*_: object, **__: object) -> None:
        raise BrokenPipeError

    log = progress.Progress(quiet=False)
    monkeypatch.setattr("builtins.print", refuse)
    monkeypatch.setattr(progress.tqdm, "write", refuse)
    log.record(started())
    log.record(Heartbeat(101))
    log.close()
