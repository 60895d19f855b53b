"""One record of each kind, and what is found in the event files that they leave."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import browsing
from playwright.sync_api import Browser
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tiny_frames import tiny_frame, tiny_network

from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.gradients import Comparison, compare
from bp_torch.inspection import GradientNoise
from bp_torch.training import records
from bp_torch.training.records import ParameterHealth, Record

COMMAND = "python scripts/train.py --run-name 'a|b' | tee *log*.txt"


def comparison(name: str, factor: float) -> Comparison:
    """Of a gradient that is `factor` times the true one, with a builtin that errs by 2⁻²³."""
    truth = torch.tensor([1.0, -0.5], dtype=torch.float64)
    return compare(name, (truth * factor).float(), (truth * (1 + 2**-23)).float(), truth)


@pytest.fixture
def compared() -> Callable[[str, float], Comparison]:
    return comparison


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def run_started() -> records.RunStarted:
    return records.RunStarted(
        config={"hidden": (16, 16), "learning_rate": 0.5, "seed": 3, "shuffle": True, "resume": None, "cost": "a|b"},
        data="digits",
        data_origin="Drawn digits, in place of MNIST: <no network> & no *disk*",
        versions={"python": "3.11.2", "torch": "2.13.0"},
        command=COMMAND,
        model="Sequential(\n  (0): Linear(784, 16)\n)",
        parameters=13002,
        first_step=0,
        steps=36000,
    )


@pytest.fixture
def picture() -> records.PictureRecord:
    outputs = torch.eye(10)[[3, 5]]
    images = torch.randint(256, (2, 28, 28), dtype=torch.uint8)
    return records.PictureRecord(600, torch.randn(16, 784), images, torch.tensor([8, 9]), outputs)


@pytest.fixture
def one_of_each(run_started: records.RunStarted, picture: records.PictureRecord) -> list[Record]:
    tensors = {"0.weight": torch.linspace(-1, 1, 40).view(4, 10)}
    noise = GradientNoise(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0]), torch.tensor([1.0, 3.0]))
    health = {"0.weight": ParameterHealth(3.0, 0.25), "0.bias": ParameterHealth(4.0, 0.125)}
    return [
        run_started,
        records.StepRecord(100, 0, 0.75, 0.5, 0.25, 2000.0),
        records.AgreementRecord(200, (comparison("0.weight", 1.0), comparison("0.bias", 1.5)), 2.0),
        records.NoiseRecord(200, 640.0, {"0.weight": noise}),
        records.HealthRecord(300, 5.0, health),
        records.DistributionRecord(400, tensors, tensors, {"1": torch.zeros(100, 16)}),
        records.EpochRecord(500, 1, 0.25, 0.875, 0.5, 0.75),
        picture,
        tiny_network(step=650),
        tiny_frame(650, costs=torch.tensor([9.0, 9.0, 0.25, 0.5, 0.75, 1.0, 1.25])),
        records.PulseRecord(660),
        records.FailureRecord(670, "the cost is not finite: nan, first in the output of layer 2", torch.tensor([4, 8])),
        records.RunFinished(700, {"test_accuracy": 0.75, "seconds": 14.5, "data": "digits"}),
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., list[Event]]:
    """Records into a folder named run and reads the events back, without the two that begin every file."""

    def write(*recorded: Any) -> list[Event]:
        with TensorBoardRecorder(tmp_path / "run") as recorder:
            for record in recorded:
                recorder.record(record)
        return list(events(tmp_path / "run"))[2:]

    return write


def events(folder: Path) -> Iterator[Event]:
    (file,) = folder.glob("events.out.tfevents.*")
    return LegacyEventFileLoader(str(file)).Load()
