"""MNIST through torchvision, or the drawn digits in its place.

MNIST is found on disk, unpacked from a folder, or downloaded. torchvision verifies the four .gz files when they arrive,
and never looks at the unpacked ones again, so those are checked here at each load. New files are made in a temporary
folder and moved in only when whole: two runs that start together do not disturb each other.
"""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Final

import torch

from bp_torch.data.dataset import DataError, Dataset, Split
from bp_torch.data.digits import load_digits
from bp_torch.files import read_limited

__all__ = ["load"]

# The unpacked files: length in bytes and SHA-256. Together they fix the shape, the count and every pixel.
_FILES: Final = {
    "train-images-idx3-ubyte": (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
_MOST_PACKED: Final = 10_000_000  # bytes that are read of an original .gz file; the longest has 9,912,422

# Runs in a process of its own, which can be stopped: torchvision's downloader has no time limit.
_DOWNLOADER: Final = "import sys; from bp_torch.data import mnist; mnist._datasets().MNIST(sys.argv[1], download=True)"

_OTHER_WAYS: Final = "set BP_TORCH_MNIST_SOURCE to a folder with its four .gz files, or load 'digits'"

# "mnist" was asked for and may take longer; "auto" falls back to digits.
_DOWNLOAD_SECONDS: Final = {"mnist": 60.0, "auto": 10.0}


class DownloadError(DataError):
    """MNIST is not on this machine and could not be downloaded: the one case in which "auto" turns to the digits."""


def load(name: str, root: str | Path, *, source: str | Path | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
        name: "mnist"; "digits", drawn on the spot; or "auto": MNIST, or digits where MNIST is not on this machine and
            cannot be downloaded. A damaged file or a wrong `source` is an error for "auto" too: it can be fixed.
        root: torchvision's data folder, for MNIST; it is made if it does not exist.
        source: a folder with MNIST's four original .gz files; by default what BP_TORCH_MNIST_SOURCE names.

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


def load_mnist(root: Path, source: Path | None, *, seconds: float) -> Dataset:
    """Loads MNIST from root/MNIST/raw, after fetching what is missing there from `source` or from the network.

    Without a source, the four .gz files are taken from root/MNIST/raw if they lie there, and else downloaded, within so
    many seconds.
    """
    raw = root / "MNIST" / "raw"
    if source is None and all((raw / f"{name}.gz").is_file() for name in _FILES):
        source = raw
    if not all((raw / name).is_file() for name in _FILES):
        _obtain(root, source, seconds)
    for name in _FILES:
        _check(raw / name, source)
    return Dataset("mnist", _read(raw, "train"), _read(raw, "t10k"), origin=f"MNIST, read by torchvision from {raw}")


def _obtain(root: Path, source: Path | None, seconds: float) -> None:
    """Puts the missing ones of the unpacked files into root/MNIST/raw."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".mnist-", dir=root) as staging:
            if source is None:
                _download(staging, seconds)
            else:
                _copy(source, Path(staging))
                _datasets().MNIST(staging, download=True)  # verifies and unpacks what lies there
            _move(Path(staging, "MNIST", "raw"), root / "MNIST" / "raw")
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{root}: MNIST cannot be unpacked there ({reason}); choose a folder you can write") from error


def _copy(source: Path, staging: Path) -> None:
    """Copies the four .gz files to where torchvision looks for downloads, and checks the copies."""
    datasets = _datasets()
    raw = staging / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, md5 in datasets.MNIST.resources:
        try:
            content = read_limited(source / name, _MOST_PACKED)
        except OSError as error:
            mend = "the source must be a folder with MNIST's four original .gz files"
            raise DataError(f"{source / name} cannot be read ({error.strerror or error}); {mend}") from error
        (raw / name).write_bytes(content)
        # With a wrong sum torchvision would turn to the network: this check keeps a source free of it.
        if not datasets.utils.check_integrity(raw / name, md5):
            raise DataError(f"{source / name} is damaged (its MD5 is not {md5}); replace it with the original file")


def _download(staging: str, seconds: float) -> None:
    """Lets torchvision download and unpack into `staging`, within the time, and silently."""
    command = [sys.executable, "-c", _DOWNLOADER, staging]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"MNIST could not be downloaded within {seconds:g} seconds; {_OTHER_WAYS}") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]  # the last line says what happened
        raise DownloadError(f"MNIST could not be downloaded ({reason}); {_OTHER_WAYS}") from error


def _move(staged: Path, raw: Path) -> None:
    """Moves each unpacked file to its place; a file that is already there stays."""
    raw.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if not (raw / name).exists():
            (staged / name).replace(raw / name)


def _check(file: Path, source: Path | None) -> None:
    """Raises DataError unless the unpacked file is MNIST's to the last bit."""
    length, sha256 = _FILES[file.name]
    try:
        content = read_limited(file, length + 1)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error
    if hashlib.sha256(content).hexdigest() == sha256:
        return
    found = f"{len(content):,}" if len(content) <= length else "more"
    problem = f"{found} bytes instead of {length:,}" if len(content) != length else "its SHA-256 is not MNIST's"
    remedy = f"unpacked again from {source}" if source else "downloaded again"
    raise DataError(f"{file} is damaged ({problem}); delete it and run again: it will be {remedy}")


def _read(raw: Path, part: str) -> Split:
    files = _datasets().mnist
    images = files.read_image_file(raw / f"{part}-images-idx3-ubyte")
    return Split(images, files.read_label_file(raw / f"{part}-labels-idx1-ubyte"))


def _datasets() -> ModuleType:
    """Imports torchvision.datasets, only when MNIST is asked for: it takes a second.

    A torchvision built for CUDA cannot load its compiled operators beside a CPU-only torch, and its import then fails
    for want of two of them. MNIST needs neither, so declaring them is cure enough.
    """
    try:
        from torchvision import datasets
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import datasets
    return datasets  # type: ignore[no-any-return]
