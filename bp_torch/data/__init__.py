"""Data to learn from: MNIST through torchvision, or drawn digits that need neither a network nor a disk."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from bp_torch.data.batches import Batches, prepare
from bp_torch.data.dataset import DataError, Dataset, Split
from bp_torch.data.digits import load_digits
from bp_torch.data.mnist import DownloadError, load_mnist

__all__ = ["Batches", "DataError", "Dataset", "Split", "load", "prepare"]

# Who asks for MNIST waits for it; who takes what there is should not wait long.
_DOWNLOAD_SECONDS: Final = {"mnist": 60.0, "auto": 10.0}


def load(name: str, root: str | Path, *, source: str | Path | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
        name: "mnist"; "digits", drawn on the spot; or "auto": MNIST, or digits where MNIST is not on this machine and
            cannot be downloaded. A damaged file or a wrong `source` is an error for "auto" too: you can mend it.
        root: torchvision's data folder, for MNIST; it is made if it does not exist.
        source: a folder with MNIST's four original .gz files, for places without a network. Without it, the
            environment variable BP_TORCH_MNIST_SOURCE names the folder, if it is set.

    Returns:
        The data set. Its `origin` says where the data come from and, if digits stand in for MNIST, why.

    Raises:
        ValueError: if `name` is none of the three.
        DataError: if MNIST is damaged or cannot be had.
    """
    if name == "digits":
        return load_digits()
    if name not in _DOWNLOAD_SECONDS:
        raise ValueError(f"name: expected 'auto', 'mnist' or 'digits', got {name!r}")
    source = source or os.environ.get("BP_TORCH_MNIST_SOURCE")
    folder = Path(source).expanduser() if source else None
    try:
        return load_mnist(Path(root).expanduser(), folder, seconds=_DOWNLOAD_SECONDS[name])
    except DownloadError as error:
        if name == "mnist":
            raise
        digits = load_digits()
        return replace(digits, origin=f"{digits.origin}, which they stand in for: {error}")
