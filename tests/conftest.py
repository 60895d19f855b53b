"""Fixtures and settings of all tests.

PyTorch uses one thread, the fastest for small tensors. Hypothesis tries the same examples in every run;
`--hypothesis-profile=random` draws others.
"""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from killable import TrainingServer

from bp_torch.data import Dataset, Split
from bp_torch.data.digits import draw

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("repeatable")
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=10, help="number of kills in tests/training/test_soak.py")
    help = "run every mode with every one of PyTorch's samples, in every dtype: hours"
    parser.addoption("--exhaustive", action="store_true", help=help)


@pytest.fixture(scope="session")
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether every mode is to be run with every sample."""
    return bool(request.config.getoption("--exhaustive"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    """A server that starts training runs."""
    with TrainingServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def small_digits() -> Dataset:
    """A thousand synthetic digits for training and two hundred for testing."""
    train, test = torch.arange(1000) % 10, torch.arange(200) % 10
    return Dataset("digits", Split(draw(train, seed=1), train), Split(draw(test, seed=2), test), "a thousand digits")
