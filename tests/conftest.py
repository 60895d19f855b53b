"""Properties are tried on the same examples at every run; `--hypothesis-profile=random` draws others."""

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="how often to kill trainings in tests/training/test_soak.py")
