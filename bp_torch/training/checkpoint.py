"""What a run leaves on disk beside its curves: its configuration, its figures, and where to go on from."""

import io
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bp_torch.files import replace_file
from bp_torch.training.config import TrainConfig

CONFIG, SUMMARY, CHECKPOINT = "config.json", "summary.json", "checkpoint.pt"
_EVENTS = "events.out.tfevents.*"
_PROJECTOR = "projector"
# The list before what it lists: TensorBoard stumbles over a list whose files are missing.
_EMBEDDINGS = ("projector_config.pbtxt", f"{_PROJECTOR}/step_*.tsv", f"{_PROJECTOR}/digits_*.png")


class RunError(RuntimeError):
    """A run cannot begin, or go on, in its folder; the message is one line."""


def require_free(folder: Path) -> None:
    """Raise RunError if there is a run in this folder already."""
    if folder.exists():
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


def create_run(folder: Path, *, overwrite: bool) -> None:
    """Make a run's folder, with those above it.

    Args:
        folder: where the run is kept.
        overwrite: remove what a run of this name left there.

    Raises:
        RunError: if it exists and is not to be overwritten, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=overwrite)
        for pattern in (CONFIG, SUMMARY, CHECKPOINT, _EVENTS, *_EMBEDDINGS):
            for old in folder.glob(pattern):
                old.unlink()
        with suppress(OSError):  # there is something else in it, or it is not there
            (folder / _PROJECTOR).rmdir()
    except OSError as error:
        raise RunError(f"cannot make {folder} (--runs-dir, --run-name): {error.strerror}") from None


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


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Keep what training needs to go on, in place of the checkpoint before."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    replace_file(folder / CHECKPOINT, buffer.getvalue())


def load_run(folder: Path, **changes: Any) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration and the checkpoint of a run.

    Nothing in the files can run code.

    Args:
        folder: the run's.
        changes: what is to be configured otherwise than it was.

    Raises:
        RunError: if there is no such run, or a file in it cannot be read.
    """
    try:
        config = TrainConfig.from_dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")) | changes)
        checkpoint = dict(torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"cannot read run {folder.name!r}: there is no {error.filename}") from None
    except Exception as error:  # whatever a damaged file makes json or torch raise
        raise RunError(f"cannot read run {folder.name!r}: a file in it is damaged ({type(error).__name__})") from None
    return config, checkpoint
