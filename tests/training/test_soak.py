"""Training runs that are killed repeatedly and resumed: no saved step is lost, and none is recorded twice."""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
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
class Uninterrupted:
    """The results of an uninterrupted run: its parameters after each step, its events and its summary."""

    backend: str
    parameters: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    events: dict[str, list[Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def uninterrupted(server: TrainingServer, backend: str, digits: Dataset) -> Uninterrupted:
    known, began = Uninterrupted(backend), time.monotonic()
    assert server.train(*QUICK, *EVERY_STEP, "--backend", backend, "--run-name", backend) == 0
    known.seconds = time.monotonic() - began
    folder = server.folder / "runs" / backend
    known.events, known.summary = events(folder), summary(folder)
    trainer = Trainer(TrainConfig(epochs=2, compare_every=0, frames=0, backend=backend), digits)  # type: ignore[arg-type]

    def save() -> None:
        known.parameters[trainer.step] = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}

    save()
    trainer.run(save)
    return known


def events(folder: Path) -> dict[str, list[Any]]:
    """Steps and values by tag, as TensorBoard reads them.

    Values that are times are left out, and so are values and repetitions of what every start writes.
    """
    board = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    board.Reload()
    result: dict[str, list[Any]] = {}
    for tag in board.Tags()["tensors"]:
        tensors = board.Tensors(tag)
        result[tag] = [(event.step, event.tensor_proto.SerializeToString()) for event in tensors]
        if "second" in tag or tag == RUN_SUMMARY:
            result[tag] = [event.step for event in tensors]
        if tag in (
            RUN_START,
            NETWORK,
            "_hparams_/experiment",
            "_hparams_/session_start_info",
            "custom_scalars__config__",
        ):
            result[tag] = [tensors[0].step]
    return result


def summary(folder: Path) -> dict[str, Any]:
    return {k: v for k, v in json.loads((folder / SUMMARY).read_text()).items() if "second" not in k}


def saved_step(folder: Path, known: Uninterrupted) -> int:
    """The step of the last checkpoint, whose parameters must equal the uninterrupted run's at that step."""
    config = load_config(folder)
    state, damaged = load_checkpoint(folder, config)
    assert not damaged
    if state is None:
        return 0
    step, expected = state.values["step"], known.parameters[state.values["step"]]
    assert all(torch.equal(parameter, expected[name]) for name, parameter in state.group("parameters").items())
    return int(step)


def kill_until_complete(server: TrainingServer, known: Uninterrupted, name: str, random: Random) -> list[bool]:
    """Kill one run at random moments until it is complete; returns for each kill whether it was during a write."""
    folder, during_write, step = server.folder / "runs" / name, [], 0
    while not (folder / SUMMARY).exists():
        start = (*QUICK, *EVERY_STEP, "--backend", known.backend, "--run-name", name)
        flags = ("--resume", name) if (folder / CONFIG).exists() else start
        by_time = random.random() < 0.5
        kill_after, kill_at = (random.uniform(0, known.seconds), 0) if by_time else (math.inf, random.randint(1, 60))
        status = server.train(*flags, kill_after=kill_after, kill_at=kill_at)
        assert status in (0, -9), server.stderr()
        if status == -9:
            during_write.append(any(folder.glob(".*.new")))
            before, step = step, saved_step(folder, known) if (folder / CONFIG).exists() else 0
            assert step >= before, "a saved step is lost"
    return during_write


def test_killed_runs_end_like_an_uninterrupted_run(
    server: TrainingServer, small_digits: Dataset, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    during_write, random, runs = list[bool](), Random(0), 0
    known = [uninterrupted(server, backend, small_digits) for backend in get_args(Backend)]
    while len(during_write) < pytestconfig.getoption("kills"):
        expected, name = known[runs % 3], f"killed_{runs}"
        during_write += kill_until_complete(server, expected, name, random)
        folder, runs = server.folder / "runs" / name, runs + 1
        assert saved_step(folder, expected) == 20
        assert summary(folder) == expected.summary
        assert events(folder) == expected.events
    with capsys.disabled():
        print(f"\n{len(during_write)} kills in {runs} runs, {sum(during_write)} during a write: no difference")
