"""Runs that are killed again and again, and gone on with: nothing is lost, nothing is done twice."""

import json
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from killable import TrainingServer
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from torch import Tensor

from bp_torch.dashboard.tags import NETWORK, RUN_START, RUN_SUMMARY
from bp_torch.data import Dataset
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.loop import Trainer
from bp_torch.training.state.run_dir import CONFIG, SUMMARY, load_checkpoint, load_config

QUICK = ("--data", "digits", "--epochs", "2", "--frames", "4", "--compare-every", "7")
EVERY_STEP = ("--checkpoint-seconds", "0")


@dataclass
class Unbroken:
    """The results of a run that nobody stops: its parameters after each step, its events and its figures."""

    backend: str
    parameters: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    events: dict[str, list[Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def unbroken(server: TrainingServer, backend: str, digits: Dataset) -> Unbroken:
    known, began = Unbroken(backend), time.monotonic()
    assert server.train(*QUICK, *EVERY_STEP, "--backend", backend, "--run-name", backend) == 0
    known.seconds = time.monotonic() - began
    folder = server.folder / "runs" / backend
    known.events, known.summary = events(folder), summary(folder)
    trainer = Trainer(TrainConfig(epochs=2, compare_every=0, frames=0, backend=backend), digits)  # type: ignore[arg-type]

    def keep() -> None:
        known.parameters[trainer.step] = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}

    torch.set_num_threads(1)  # as trainings do: with another number of them sums are rounded otherwise
    keep()
    trainer.run(keep)
    return known


def events(folder: Path) -> dict[str, list[Any]]:
    """What TensorBoard shows under each tag: step and value; of times, and of what each start tells, only the tag."""
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    found: dict[str, list[Any]] = {}
    for tag in board.Tags()["tensors"]:
        told = board.Tensors(tag)
        values = [event.tensor_proto.SerializeToString() for event in told]
        found[tag] = [(event.step, value) for event, value in zip(told, values, strict=True)]
        if "second" in tag or tag == RUN_SUMMARY:
            found[tag] = [event.step for event in told]
        if tag in (
            RUN_START,
            NETWORK,
            "_hparams_/experiment",
            "_hparams_/session_start_info",
            "custom_scalars__config__",
        ):
            found[tag] = [told[0].step]
    return found


def summary(folder: Path) -> dict[str, Any]:
    return {k: v for k, v in json.loads((folder / SUMMARY).read_text()).items() if "second" not in k}


def goes_on_exactly(folder: Path, known: Unbroken) -> int:
    """What a run would be resumed from is what the unbroken run had at that step, bit for bit; returns the step."""
    config = load_config(folder)
    state, damaged = load_checkpoint(folder, config)
    assert not damaged
    if state is None:
        return 0
    step, expected = state.values["step"], known.parameters[state.values["step"]]
    assert all(torch.equal(parameter, expected[name]) for name, parameter in state.group("parameters").items())
    return int(step)


def killed_until_done(server: TrainingServer, known: Unbroken, name: str, chance: random.Random) -> list[str]:
    """One run, killed at random moments until it is done; says how each of them went."""
    folder, told, reached = server.folder / "runs" / name, [], 0
    while not (folder / SUMMARY).exists():
        anew = not (folder / CONFIG).exists()
        flags = (*QUICK, *EVERY_STEP, "--backend", known.backend, "--run-name", name) if anew else ("--resume", name)
        by_time = chance.random() < 0.5
        after, before = (chance.uniform(0, known.seconds), 0) if by_time else (math.inf, chance.randint(1, 60))
        status = server.train(*flags, after=after, before=before)
        assert status in (0, -9), server.stderr()
        if status == -9:
            told.append("in a write" if list(folder.glob(".*.new")) else "elsewhere")
            step = goes_on_exactly(folder, known) if (folder / CONFIG).exists() else 0
            assert step >= reached, "what was saved is lost"
            reached = step
    return told


def test_killed_runs_go_on_exactly(
    server: TrainingServer, small_digits: Dataset, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, chance, told = pytestconfig.getoption("kills"), random.Random(0), list[str]()
    known = [unbroken(server, backend, small_digits) for backend in get_args(Backend)]
    runs = 0
    while len(told) < wanted:
        one, name = known[runs % 3], f"killed_{runs}"
        told += killed_until_done(server, one, name, chance)
        folder, runs = server.folder / "runs" / name, runs + 1
        assert goes_on_exactly(folder, one) == 20
        assert summary(folder) == one.summary
        assert events(folder) == one.events
    with capsys.disabled():
        writes = told.count("in a write")
        print(f"\n{len(told)} kills, {writes} of them in a write, of {runs} runs: all went on exactly, to the same end")
