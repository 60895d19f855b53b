"""A run's folder: who may write there, and what is in it beside the curves."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from bp_torch.files import replace_file

CONFIG, SUMMARY = "config.json", "summary.json"
CHECKPOINT, PREVIOUS, BEST = "checkpoint.pt", "checkpoint.previous.pt", "best.pt"
FAILURE = "failure.pt"
_LOCK = ".lock"
_DAMAGED = tuple(f"{name}.damaged" for name in (CHECKPOINT, PREVIOUS, BEST))
_EVENTS = "events.out.tfevents.*", "events.out.damaged.*"
_PROJECTOR = "projector"
# The list before what it lists: TensorBoard stumbles over a list whose files are missing.
_EMBEDDINGS = ("projector_config.pbtxt", f"{_PROJECTOR}/step_*.tsv", f"{_PROJECTOR}/digits_*.png")
# The configuration last: as long as it is there, the run can be resumed.
_OURS = (SUMMARY, CHECKPOINT, PREVIOUS, BEST, FAILURE, *_DAMAGED, *_EVENTS, *_EMBEDDINGS, CONFIG)


class RunError(RuntimeError):
    """A run cannot begin, or go on, in its folder; the message is one line."""


def require_free(folder: Path) -> None:
    """Raise RunError if there is a run in this folder already; what is hidden, such as the lock, is none."""
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        raise RunError(f"run {folder.name!r} exists in {folder.parent}: choose another --run-name, or --overwrite it")


def require_no_run(folder: Path) -> None:
    """Make a folder for what is no training run; say now, and not when there is something to write, if that fails.

    Raises:
        RunError: if a training run is kept there.
        OSError: if it cannot be made.
    """
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a training run of that name: choose another --runs-dir")
    folder.mkdir(parents=True, exist_ok=True)


def claim(folder: Path) -> BaseFileLock:
    """Keep other trainings out of a run's folder until the lock is released, or this process has ended in any way.

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
    """Make a run's folder, with those above it, and claim it.

    Args:
        folder: where the run is kept.
        overwrite: remove what a run of this name left there.

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
    """Remove what a run left in its folder, and nothing else."""
    for pattern in (*_OURS, *(f".{name}.new" for name in _OURS)):
        for old in folder.glob(pattern):
            old.unlink()
    with suppress(OSError):  # there is something else in it, or it is not there
        (folder / _PROJECTOR).rmdir()


def require_nothing_to_lose(folder: Path) -> None:
    """Raise RunError if a run without a checkpoint has left something that is looked at."""
    for name in (FAILURE, *_DAMAGED):
        if (folder / name).exists():
            raise RunError(
                f"cannot resume {folder.name!r}: it has no checkpoint that can be read, but {name}; --overwrite it"
            )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file whole or not at all; a number that is not finite, which JSON lacks, becomes null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    replace_file(path, (json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def update_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write these values over those of the same names in a file, if there is one that can be read."""
    try:
        kept = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        kept = {}
    write_json(path, {**kept, **values})
