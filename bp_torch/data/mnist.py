"""MNIST through torchvision, with synthetic digits as a fallback.

MNIST is read from disk, unpacked from a folder, or downloaded. torchvision verifies the four .gz files on arrival but
never the unpacked ones, so every load checks those here. New files are written to a temporary folder and moved when
complete, so that concurrent runs do not interfere.
"""

import hashlib
import logging
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Final
from urllib.parse import urlsplit

import torch

from bp_torch.data.dataset import DataError, Dataset, Split
from bp_torch.data.digits import load_digits
from bp_torch.files import read_limited

__all__ = ["load"]

# The unpacked files: length in bytes and SHA-256, which fix every pixel and label.
_FILES: Final = {
    "train-images-idx3-ubyte": (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
_MAX_GZ_BYTES: Final = 10_000_000  # read of a .gz file; the largest has 9,912,422

# Run in a process that can be killed: torchvision's downloader has no time limit.
_DOWNLOADER: Final = "import sys; from bp_torch.data import mnist; mnist._try_mirrors(sys.argv[1])"
_DOWNLOAD_SECONDS: Final = {"mnist": 60.0, "auto": 10.0}  # "auto" has a fallback, so it waits less

_ALTERNATIVES: Final = (
    "set BP_TORCH_MNIST_SOURCE or --mnist-source to a folder with its four .gz files, "
    "or use synthetic digits: --data digits"
)

_logger = logging.getLogger("bp_torch.data")


class DownloadError(DataError):
    """MNIST is not on this machine and could not be downloaded; "auto" then draws digits instead."""


def load(name: str, root: str | Path, *, source: str | Path | None = None) -> Dataset:
    """Load a data set by name.

    The start of a download is logged at level INFO by the logger "bp_torch.data".

    Args:
        name: "mnist"; "digits", which are drawn; or "auto": MNIST, or digits if MNIST is not on this machine and cannot
            be downloaded. A damaged file or a wrong `source` is an error for "auto" too: the user can fix it.
        root: torchvision's data folder, for MNIST; it is created if it does not exist.
        source: a folder with MNIST's four original .gz files. Default: the environment's BP_TORCH_MNIST_SOURCE.

    Raises:
        ValueError: if `name` is unknown.
        DataError: if MNIST is damaged or unavailable.
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
        return replace(digits, origin=f"{digits.origin}, used in its place: {error}")


def load_mnist(root: Path, source: Path | None, *, seconds: float) -> Dataset:
    """Load MNIST from root/MNIST/raw, after fetching any missing file from `source` or the network.

    Without a source, the four .gz files are taken from root/MNIST/raw if all are there. Otherwise they are downloaded,
    which may take at most `seconds`.
    """
    raw = root / "MNIST" / "raw"
    if source is None and all((raw / f"{name}.gz").is_file() for name in _FILES):
        source = raw
    if not all((raw / name).is_file() for name in _FILES):
        _fetch(root, source, seconds)
    for name in _FILES:
        _verify(raw / name, source)
    return Dataset("mnist", _read(raw, "train"), _read(raw, "t10k"), origin=f"MNIST, read by torchvision from {raw}")


def _fetch(root: Path, source: Path | None, seconds: float) -> None:
    """Put the missing unpacked files into root/MNIST/raw."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".mnist-", dir=root) as staging:
            if source is None:
                _download(staging, seconds)
            else:
                _copy_gz_files(source, Path(staging))
                _datasets().MNIST(staging, download=True)  # verifies and unpacks the copies
            _move(Path(staging, "MNIST", "raw"), root / "MNIST" / "raw")
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{root}: cannot unpack MNIST there ({reason}); choose a folder you can write") from error


def _copy_gz_files(source: Path, staging: Path) -> None:
    """Copy the four .gz files to where torchvision looks for downloads, and verify the copies."""
    datasets = _datasets()
    raw = staging / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, md5 in datasets.MNIST.resources:
        try:
            content = read_limited(source / name, _MAX_GZ_BYTES)
        except OSError as error:
            fix = "the source must be a folder with MNIST's four original .gz files"
            raise DataError(f"{source / name} cannot be read ({error.strerror or error}); {fix}") from error
        (raw / name).write_bytes(content)
        # Given a file with a wrong checksum, torchvision would download another.
        if not datasets.utils.check_integrity(raw / name, md5):
            raise DataError(f"{source / name} is damaged (its MD5 is not {md5}); replace it with the original file")


def _download(folder: str, seconds: float) -> None:
    """Download and unpack into `folder`, in a silent process with a time limit."""
    _logger.info("downloading MNIST, for at most %g seconds", seconds)
    command = [sys.executable, "-c", _DOWNLOADER, folder]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        mirrors = f" ({_one_line(error.stdout)}: unfinished)" if error.stdout else ""
        problem = f"MNIST could not be downloaded within {seconds:g} seconds{mirrors}"
        raise DownloadError(f"{problem}; {_ALTERNATIVES}") from error
    except subprocess.CalledProcessError as error:
        reason = _one_line(error.stdout) or _one_line(error.stderr.strip().rpartition(b"\n")[2])
        raise DownloadError(f"MNIST could not be downloaded ({reason}); {_ALTERNATIVES}") from error


def _one_line(output: bytes) -> str:
    return "; ".join(output.decode(errors="replace").splitlines())


def _try_mirrors(folder: str) -> None:
    """Download and unpack MNIST from the first mirror that works; exit with status 1 if none does.

    Runs in the downloading process. Prints a line for each mirror: its host, then the reason once it has failed.
    """
    mnist = _datasets().MNIST
    for mirror in mnist.mirrors:
        print(urlsplit(mirror).hostname, end="", flush=True)
        mnist.mirrors = [mirror]
        try:
            with redirect_stdout(sys.stderr):
                mnist(folder, download=True)
            return
        except Exception as error:  # URLError, HTTPException, RuntimeError for a wrong checksum, ...
            print(f": {_reason(error)}", flush=True)
    sys.exit(1)


def _reason(error: Exception) -> str:
    """The last line of an error's message, in printable ASCII and without error codes."""
    line = str(error).strip().rpartition("\n")[2] or type(error).__name__
    short = re.sub(r"^<urlopen error |>$|\[[^]]*\] | \(_ssl\.c:\d+\)", "", line)
    return re.sub(r"[^ -~]", "?", short)[:100]


def _move(staged: Path, raw: Path) -> None:
    """Move the unpacked files from `staged` to `raw`, except those that exist already."""
    raw.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if not (raw / name).exists():
            (staged / name).replace(raw / name)


def _verify(file: Path, source: Path | None) -> None:
    """Raise DataError if an unpacked file differs from MNIST's."""
    length, sha256 = _FILES[file.name]
    try:
        content = read_limited(file, length + 1)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error
    if hashlib.sha256(content).hexdigest() == sha256:
        return
    size = f"{len(content):,}" if len(content) <= length else "more"
    problem = f"{size} bytes instead of {length:,}" if len(content) != length else "its SHA-256 is not MNIST's"
    fix = f"unpacked again from {source}" if source else "downloaded again"
    raise DataError(f"{file} is damaged ({problem}); delete it and run again: it will be {fix}")


def _read(raw: Path, part: str) -> Split:
    files = _datasets().mnist
    images = files.read_image_file(raw / f"{part}-images-idx3-ubyte")
    return Split(images, files.read_label_file(raw / f"{part}-labels-idx1-ubyte"))


def _datasets() -> ModuleType:
    """Import torchvision.datasets, which takes a second, when it is first needed.

    A torchvision built for CUDA fails to import next to a CPU-only torch, because two of its operators are missing.
    MNIST uses neither, so they are only declared here.
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
