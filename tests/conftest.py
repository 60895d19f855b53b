"""What all tests share.

Properties are tried on the same examples at every run; `--hypothesis-profile=random` draws others.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from mortal import Nursery

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="how often to kill trainings in tests/training/test_soak.py")


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts trainings that may be killed."""
    with Nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery
