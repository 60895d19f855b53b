"""One event of each kind, the event files that they make, and one TensorBoard for all tests."""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from board import Board, loaded, write_board
from browsing import ALONE, browsing, choose, console_errors, opened
from playwright.sync_api import Browser, Page, expect
from served import serving, until
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tiny_frames import tiny_frame, tiny_network

from bp_torch.dashboard.writer import TensorBoardLogger
from bp_torch.gradients import Comparison, compare
from bp_torch.inspection import GradientNoise
from bp_torch.training.logging import events as records
from bp_torch.training.logging.events import ParameterHealth

COMMAND = "python scripts/train.py --run-name 'a|b' | tee *log*.txt"


def comparison(name: str, factor: float) -> Comparison:
    """Compare a gradient that is `factor` times the true one, with a builtin that is off by 2⁻²³."""
    truth = torch.tensor([1.0, -0.5], dtype=torch.float64)
    return compare(name, (truth * factor).float(), (truth * (1 + 2**-23)).float(), truth)


@pytest.fixture
def compared() -> Callable[[str, float], Comparison]:
    return comparison


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return write_board(tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="session")
def serve(board: Board) -> Iterator[Callable[[str], str]]:
    """The address of a TensorBoard that has read all runs of the board, by one of its two loaders."""
    with ExitStack() as servers:

        @functools.cache
        def serve(load_fast: str) -> str:
            address = servers.enter_context(serving(board.folder, f"--load_fast={load_fast}"))
            until(lambda: loaded(address, board))
            return address

        yield serve


@pytest.fixture(params=["true", "false"])
def address(request: pytest.FixtureRequest, serve: Callable[[str], str]) -> str:
    """The address of a TensorBoard, with either loader."""
    return serve(request.param)


@pytest.fixture(scope="session")
def open_tab(browser: Browser, serve: Callable[[str], str]) -> Iterator[tuple[Page, list[str]]]:
    """A page with only the Backprop tab, shared by tests, and the errors on its console."""
    with opened(browser, f"{serve('true')}{ALONE}#backprop&run=recorded", reduced_motion="reduce") as page:
        expect(page.locator(".neuron")).not_to_have_count(0)
        yield page, console_errors(page)


@pytest.fixture
def tab(open_tab: tuple[Page, list[str]], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The tab at the address of the test's parameter."""
    page, errors = open_tab
    errors.clear()
    choose(page, f"run=recorded&{request.param}")
    yield page
    assert errors == []


@pytest.fixture(scope="session")
def run_started() -> records.RunStarted:
    return records.RunStarted(
        config={"hidden": (16, 16), "learning_rate": 0.5, "seed": 3, "shuffle": True, "resume": None, "cost": "a|b"},
        data="digits",
        data_origin="Synthetic digits, in place of MNIST: <no network> & no *disk*",
        versions={"python": "3.11.2", "torch": "2.13.0"},
        command=COMMAND,
        model="Sequential(\n  (hidden1): Linear(784, 16)\n)",
        parameters=13002,
        step=0,
        steps=36000,
    )


@pytest.fixture(scope="session")
def picture() -> records.PictureEvent:
    outputs = torch.eye(10)[[3, 5]]
    images = torch.randint(256, (2, 28, 28), dtype=torch.uint8)
    return records.PictureEvent(600, torch.randn(16, 784), images, torch.tensor([8, 9]), outputs)


@pytest.fixture(scope="session")
def one_of_each(run_started: records.RunStarted, picture: records.PictureEvent) -> list[records.Event]:
    tensors = {"0.weight": torch.linspace(-1, 1, 40).view(4, 10)}
    noise = {
        "0.weight": GradientNoise(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0]), torch.tensor([1.0, 3.0])),
        "0.bias": GradientNoise(torch.tensor([1.0, 2.0]), torch.tensor([1.0]), torch.tensor([1.0])),
    }
    health = {"0.weight": ParameterHealth(3.0, 0.25), "0.bias": ParameterHealth(4.0, 0.125)}
    return [
        run_started,
        records.StepEvent(100, 0, 0.75, 0.5, 0.25, 2000.0),
        records.AgreementEvent(200, (comparison("0.weight", 1.0), comparison("0.bias", 1.5)), 2.0, 2, 1),
        records.NoiseEvent(200, noise, 0.75, {"0.weight": 0.5, "0.bias": 2.0}),
        records.HealthEvent(300, 5.0, health),
        records.DistributionEvent(400, tensors, tensors, {"1": torch.zeros(100, 16)}),
        records.EpochEvent(500, 1, 0.25, 0.875, 0.5, 0.75),
        picture,
        tiny_network(step=650),
        tiny_frame(650, costs=torch.tensor([9.0, 9.0, 0.25, 0.5, 0.75, 1.0, 1.25])),
        records.Heartbeat(660),
        records.FailureEvent(
            670, "the cost is not finite: nan, first in the output of module hidden2", torch.tensor([4, 8])
        ),
        records.RunFinished(700, {"test_accuracy": 0.75, "seconds": 14.5, "data": "digits"}),
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., list[Event]]:
    """`written` into a temporary folder."""
    return lambda *recorded: written(tmp_path / "run", recorded)


@pytest.fixture(scope="session")
def whole_run(one_of_each: list[records.Event], tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """The events written for `one_of_each`."""
    return written(tmp_path_factory.mktemp("whole") / "run", one_of_each)


def written(folder: Path, recorded: Iterable[Any]) -> list[Event]:
    """Write records to a folder and read the events back, without the first two of the file."""
    with TensorBoardLogger(folder) as recorder:
        for record in recorded:
            recorder.record(record)
    return list(events(folder))[2:]


def events(folder: Path) -> Iterator[Event]:
    (file,) = folder.glob("events.out.tfevents.*")
    return LegacyEventFileLoader(str(file)).Load()
