"""The folder of a run: its lock, its files, and how untrusted ones are read.

A checkpoint is a safetensors file. Its metadata has all values that are not Tensors, as JSON, and the SHA-256 of the
file with zeros in place of the digest. The last two checkpoints and the best are kept. Reading one runs no code and
takes no more memory than the file's size, which is checked against a limit first.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import safetensors.torch
import torch
from filelock import BaseFileLock, FileLock, Timeout
from torch import Tensor

from bp_torch.files import atomic_write, read_limited
from bp_torch.training.config import ADDED_SETTINGS, MAX_NEURONS, MAX_PARAMETERS, TrainConfig, parameters_of

_Parsed = TypeVar("_Parsed")
CONFIG, SUMMARY = "config.json", "summary.json"
_SHORTER_SUMMARIES = "summary.*_epochs.json"
CHECKPOINT, PREVIOUS, BEST = "checkpoint.safetensors", "checkpoint.previous.safetensors", "best.safetensors"
FAILURE = "failure.safetensors"
NEWEST_FIRST = CHECKPOINT, PREVIOUS, BEST
_LOCK = ".lock"
_DAMAGED = tuple(f"{name}.damaged" for name in NEWEST_FIRST)
_OF_EARLIER_VERSIONS = "checkpoint.pt", "checkpoint.previous.pt", "best.pt", "failure.pt"
_EVENTS = "events.out.tfevents.*", "events.out.damaged.*"
# The configuration is last: as long as it exists, the run can be resumed.
_RUN_FILES = (SUMMARY, _SHORTER_SUMMARIES, *NEWEST_FIRST, FAILURE, *_DAMAGED, *_OF_EARLIER_VERSIONS, *_EVENTS, CONFIG)
_LARGEST_HEADER = 2**20
_NO_DIGEST = "0" * 64
_FIXED_SETTINGS = (
    "model", "hidden", "activation", "cost", "batch_size", "optimizer", "learning_rate", "schedule", "warmup_steps",
    "momentum", "weight_decay", "seed", "backend", "data",
)  # fmt: skip
"""Settings that a resumed run must share with its checkpoint."""


class RunError(RuntimeError):
    """A run cannot be started, resumed or read; the message is one line."""


def require_free(folder: Path) -> None:
    """Raise RunError if the folder has files; hidden ones, such as the lock, do not count."""
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        raise RunError(f"run {folder.name!r} exists in {folder.parent}: choose another --run-name, or --overwrite it")


def require_no_run(folder: Path) -> None:
    """Make a folder for other results; RunError if it holds a training run."""
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a training run: choose another --runs-dir")
    folder.mkdir(parents=True, exist_ok=True)


def lock_run(folder: Path) -> BaseFileLock:
    """Lock a run's folder against other processes; RunError if it is locked already."""
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
    """Make and lock a run's folder; RunError if it is in use or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_run(folder)
        if not overwrite:
            require_free(folder)
        remove_run(folder)
    except OSError as error:
        raise RunError(f"cannot make {folder} (--runs-dir, --run-name): {error.strerror}") from None
    return lock


def remove_run(folder: Path) -> None:
    """Remove the files of a run, and nothing else, from its folder."""
    for pattern in (*_RUN_FILES, *(f".{name}.new" for name in _RUN_FILES)):
        for old in folder.glob(pattern):
            old.unlink()


def require_restartable(folder: Path) -> None:
    """Raise RunError if a run without a checkpoint has other files that starting again would remove."""
    for pattern in (FAILURE, *_DAMAGED, *_OF_EARLIER_VERSIONS, SUMMARY, _SHORTER_SUMMARIES):
        for name in (path.name for path in folder.glob(pattern)):
            look = f"look at it with --replay {folder.name}, or start" if name == FAILURE else "start"
            raise RunError(f"cannot resume {folder.name!r}: no checkpoint, only {name}; {look} again with --overwrite")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; non-finite numbers, which JSON lacks, become null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    text = json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(path, text.encode(errors="backslashreplace"))  # a path may have bytes that are not text


def update_json(path: Path, values: Mapping[str, Any]) -> None:
    """Set some values of a JSON file, and keep the others; an unreadable file is replaced."""
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        before = {}
    write_json(path, {**before, **values})


class State(NamedTuple):
    """The content of a checkpoint."""

    values: dict[str, Any]  # for JSON
    tensors: dict[str, Tensor]  # by names such as "parameters.hidden1.weight"

    def group(self, kind: str) -> dict[str, Tensor]:
        """The Tensors whose names begin with `kind`, by the rest of their names."""
        return {name.removeprefix(f"{kind}."): t for name, t in self.tensors.items() if name.startswith(f"{kind}.")}

    def of_model(self, kind: str, model: torch.nn.Module) -> dict[str, Tensor]:
        """The group `kind`, by the names of an mlp's parameters.

        Earlier versions numbered the modules, "0.weight", "0.bias", "2.weight", …: these are renamed by position.
        """
        layers = dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters())
        names = {str(2 * number): layer for number, layer in enumerate(layers)}
        parts = [(*name.partition("."), tensor) for name, tensor in self.group(kind).items()]
        return {f"{names.get(layer, layer)}{dot}{parameter}": tensor for layer, dot, parameter, tensor in parts}


def pack(state: State) -> bytes:
    """The bytes of a checkpoint."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    content = safetensors.torch.save(tensors, {"sha256": _NO_DIGEST, "state": json.dumps(state.values)})
    return content.replace(_NO_DIGEST.encode(), sha256(content).hexdigest().encode(), 1)


def unpack(content: bytes) -> State:
    """The state in the bytes of a checkpoint; various exceptions if they are damaged."""
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= _LARGEST_HEADER:
        raise ValueError("no checkpoint header")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    digest = metadata["sha256"].encode()
    if sha256(content.replace(digest, _NO_DIGEST.encode(), 1)).hexdigest().encode() != digest:
        raise ValueError("its SHA-256 does not match")
    values = json.loads(metadata["state"])
    if type(values) is not dict:
        raise TypeError(f"its state is a {type(values).__name__}")
    return State(values, safetensors.torch.load(content))


def save_checkpoint(folder: Path, content: bytes) -> None:
    """Write a checkpoint, and keep the previous one."""
    atomic_write(folder / CHECKPOINT, content, backup=folder / PREVIOUS)


def load_config(folder: Path, **changes: Any) -> TrainConfig:
    """Load the configuration of a run, with changes; RunError if there is none, or it is damaged."""
    config = _load(folder, CONFIG, 2**20, lambda content: TrainConfig.from_dict({**json.loads(content), **changes}))
    if config is None:
        raise RunError(f"cannot read run {folder.name!r}: there is no {folder / CONFIG}")
    return config


def load_checkpoint(
    folder: Path, config: TrainConfig, names: Sequence[str] = NEWEST_FIRST
) -> tuple[State | None, list[str]]:
    """Load the first valid checkpoint of these, or None; and return the names of the damaged ones before it.

    Raises:
        RunError: if all that exist are damaged, or the checkpoint does not belong to the configuration.
    """
    damaged: dict[str, _Damaged] = {}
    for name in names:
        try:
            state = _load(folder, name, largest_checkpoint(config), unpack)
        except _Damaged as error:
            damaged[name] = error
            continue
        if state is not None:
            if not _fits(state, config):
                raise RunError(f"cannot read run {folder.name!r}: its {name} does not fit its {CONFIG}")
            return state, list(damaged)
    if damaged:
        raise next(iter(damaged.values()))
    return None, []


def largest_checkpoint(config: TrainConfig) -> int:
    """The size in bytes of the largest checkpoint with these hidden layers, the state of AdamW included."""
    return 2 * 2**20 + 24 * min(MAX_PARAMETERS, parameters_of((MAX_NEURONS, *config.hidden, MAX_NEURONS)))


def epochs_done(folder: Path) -> int | None:
    """The epochs of a finished run; None if it has no summary."""
    return _load(folder, SUMMARY, 2**20, lambda content: int(number(json.loads(content)["epochs"], least=0)))


def set_epochs(folder: Path, epochs: int) -> None:
    """Change the number of epochs of a run; the summary of a finished run is kept under another name.

    The configuration is written first: a summary with other epochs does not count.
    """
    if load_config(folder, device="cpu").epochs != epochs:
        update_json(folder / CONFIG, {"epochs": epochs})
    done = epochs_done(folder)
    if done is not None and done != epochs:
        (folder / SUMMARY).replace(folder / _SHORTER_SUMMARIES.replace("*", str(done)))


def rename_damaged(folder: Path, names: Sequence[str]) -> None:
    """Rename damaged checkpoints, so that saving the next one does not back them up over a valid one."""
    for name in names:
        (folder / name).replace(folder / f"{name}.damaged")


def printable(text: str) -> str:
    """Untrusted text without control characters, which a terminal might interpret."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def number(value: object, *, least: float = -math.inf) -> int | float:
    """An untrusted value, if it is a number from `least` on and not NaN; otherwise ValueError."""
    if type(value) not in (int, float) or not value >= least:  # type: ignore[operator]
        raise ValueError(f"expected a number from {least}, got a {type(value).__name__}")
    return value  # type: ignore[return-value]


class _Damaged(RunError):
    """A file is damaged."""


def _load(folder: Path, name: str, most: int, parse: Callable[[bytes], _Parsed]) -> _Parsed | None:
    """Read and parse a file of at most `most` bytes; None if there is none."""
    try:
        content = read_limited(folder / name, most + 1)
        if len(content) > most:
            raise ValueError(f"it is longer than {most:,} bytes")
        return parse(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"cannot read {folder / name}: {error.strerror}") from None
    except Exception as error:  # json and safetensors raise many kinds for a damaged file
        reason = printable(str(error).partition("\n")[0]) or type(error).__name__
        raise _Damaged(f"cannot read run {folder.name!r}: its {name} is damaged ({reason:.200})") from None


def _fits(state: State, config: TrainConfig) -> bool:
    """Whether a checkpoint has this configuration, compared as JSON: 1, 1.0 and true differ, tuples are lists."""
    found, expected = state.values.get("config"), config.as_dict()
    if not isinstance(found, Mapping):
        return False
    found = {**{name: getattr(TrainConfig, name) for name in ADDED_SETTINGS}, **found}
    return all(json.dumps(found.get(name)) == json.dumps(expected[name]) for name in _FIXED_SETTINGS)
