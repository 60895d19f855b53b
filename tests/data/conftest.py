"""Shared data sets."""

import os
from pathlib import Path

import pytest

from bp_torch.data import Dataset, load
from bp_torch.data.digits import load_digits


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The synthetic digits."""
    return load_digits()


@pytest.fixture(scope="session")
def mnist_source() -> Path:
    """The folder with MNIST's original files; tests that use it are skipped without one."""
    source = Path(os.environ.get("BP_TORCH_MNIST_SOURCE", "nowhere"))
    if not source.is_dir():
        pytest.skip("BP_TORCH_MNIST_SOURCE is not a folder with MNIST's four .gz files")
    return source


@pytest.fixture(scope="session")
def unpacked(mnist_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with all of MNIST, unpacked from the source."""
    root = tmp_path_factory.mktemp("unpacked")
    load("mnist", root, source=mnist_source)
    return root
