"""A run's folder: the files in it beside the curves, and the lock that lets one process write there."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from bp_torch.files import atomic_write

CONFIG, SUMMARY = "config.json", "summary.json"
CHECKPOINT, PREVIOUS, BEST = "checkpoint.safetensors", "checkpoint.previous.safetensors", "best.safetensors"
FAILURE = "failure.safetensors"
_LOCK = ".lock"
_DAMAGED = tuple(f"{name}.damaged" for name in (CHECKPOINT, PREVIOUS, BEST))
_OF_EARLIER_VERSIONS = "checkpoint.pt", "checkpoint.previous.pt", "best.pt", "failure.pt"
_EVENTS = "events.out.tfevents.*", "events.out.damaged.*"
# The configuration last: as long as it is there, the run can be resumed.
_OURS = (SUMMARY, CHECKPOINT, PREVIOUS, BEST, FAILURE, *_DAMAGED, *_OF_EARLIER_VERSIONS, *_EVENTS, CONFIG)


class RunError(RuntimeError):
    """A run cannot begin, or go on, in its folder; the message is one line."""


def require_free(folder: Path) -> None:
    """Raise RunError if there is a run in this folder already; hidden files, such as the lock, do not count."""
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        raise RunError(f"run {folder.name!r} exists in {folder.parent}: choose another --run-name, or --overwrite it")


def require_no_run(folder: Path) -> None:
    """Make a folder for other results than a training run's, before they are computed.

    Raises:
        RunError: if there is a training run in it.
        OSError: if it cannot be made.
    """
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a training run of that name: choose another --runs-dir")
    folder.mkdir(parents=True, exist_ok=True)


def claim(folder: Path) -> BaseFileLock:
    """Keep other trainings out of a run's folder until the lock is released or this process has ended.

    Raises:
        RunError: if another process trains there.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(f"run {folder.name!r} in {folder.parent} is being trained by another process") from None
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}") from None
    except NotImplementedError:
        raise RunError(f"cannot lock {folder}: its file system has no locks; choose another --runs-dir") from None
    return lock


def create_run(folder: Path, *, overwrite: bool) -> BaseFileLock:
    """Make a run's folder, with its parents, and claim it.

    Args:
        folder: where the run is kept.
        overwrite: remove the files of a run of this name.

    Raises:
        RunError: if it exists and is not to be overwritten, is being trained, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = claim(folder)
        if not overwrite:
            require_free(folder)
        remove_run(folder)
    except OSError as error:
        raise RunError(f"cannot make {folder} (--runs-dir, --run-name): {error.strerror}") from None
    return lock


def remove_run(folder: Path) -> None:
    """Remove the files of a run from its folder, and nothing else."""
    for pattern in (*_OURS, *(f".{name}.new" for name in _OURS)):
        for old in folder.glob(pattern):
            old.unlink()


def require_restartable(folder: Path) -> None:
    """Raise RunError if a run without a checkpoint has files worth keeping, so that it must not begin again."""
    for name in (FAILURE, *_DAMAGED, *_OF_EARLIER_VERSIONS):
        if (folder / name).exists():
            raise RunError(
                f"cannot resume {folder.name!r}: it has no checkpoint that can be read, but {name}; --overwrite it"
            )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; a number that is not finite, which JSON lacks, becomes null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    atomic_write(path, (json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def update_json(path: Path, values: Mapping[str, Any]) -> None:
    """Set some values of a JSON file, and keep the others; one that cannot be read is replaced."""
    try:
        kept = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        kept = {}
    write_json(path, {**kept, **values})
