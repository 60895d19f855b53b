"""Checkpoints: one safetensors file each, from which a run goes on exactly, read as if a stranger had written it.

The Tensors are the file's; its metadata holds everything else as JSON, and the SHA-256 of the file with zeros in the
digest's place. The last two checkpoints are kept, and the best. Reading one runs no code, and takes no more memory
than the file's own size, which is limited first.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import safetensors.torch
from torch import Tensor

from bp_torch.files import atomic_write, read_limited
from bp_torch.training.config import MOST_NEURONS, MOST_PARAMETERS, TrainConfig, parameters_of
from bp_torch.training.state.run_dir import BEST, CHECKPOINT, CONFIG, PREVIOUS, RunError

_Parsed = TypeVar("_Parsed")
NEWEST_FIRST = CHECKPOINT, PREVIOUS, BEST
_LARGEST_HEADER = 2**20
_NO_DIGEST = "0" * 64
_DECISIVE = "hidden", "activation", "cost", "batch_size", "learning_rate", "epochs", "seed", "backend", "data"
"""The settings on which a run's numbers depend."""


class State(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        values: numbers, strings, lists and dictionaries.
        tensors: by names such as "parameters.0.weight".
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, kind: str) -> dict[str, Tensor]:
        """The Tensors whose names begin with this word, by the rest of their names."""
        return {name.removeprefix(f"{kind}."): t for name, t in self.tensors.items() if name.startswith(f"{kind}.")}


def pack(state: State) -> bytes:
    """A checkpoint's content."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    content = safetensors.torch.save(tensors, {"sha256": _NO_DIGEST, "state": json.dumps(state.values)})
    return content.replace(_NO_DIGEST.encode(), sha256(content).hexdigest().encode(), 1)


def unpack(content: bytes) -> State:
    """The state in a checkpoint's content.

    Raises:
        Exception: of many kinds, if it is damaged or no checkpoint.
    """
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= _LARGEST_HEADER:
        raise ValueError("it has no header of a checkpoint")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    digest = metadata["sha256"].encode()
    if sha256(content.replace(digest, _NO_DIGEST.encode(), 1)).hexdigest().encode() != digest:
        raise ValueError("its digest is not that of its content")
    values = json.loads(metadata["state"])
    if type(values) is not dict:
        raise TypeError(f"its state is a {type(values).__name__}")
    return State(values, safetensors.torch.load(content))


def save_checkpoint(folder: Path, content: bytes) -> None:
    """Write a checkpoint, and keep the one before."""
    atomic_write(folder / CHECKPOINT, content, backup=folder / PREVIOUS)


def load_config(folder: Path, **changes: Any) -> TrainConfig:
    """The configuration of a run.

    Args:
        folder: the run's.
        changes: settings to replace.

    Raises:
        RunError: if there is no such run, or the file is damaged.
    """
    config = _load(folder, CONFIG, 2**20, lambda content: TrainConfig.from_dict({**json.loads(content), **changes}))
    if config is None:
        raise RunError(f"cannot read run {folder.name!r}: there is no {folder / CONFIG}")
    return config


def load_checkpoint(
    folder: Path, config: TrainConfig, names: Sequence[str] = NEWEST_FIRST
) -> tuple[State | None, list[str]]:
    """The newest checkpoint of a run that is whole.

    Args:
        folder: the run's.
        config: the run's, which limits the size of a checkpoint.
        names: of the files, the first choice first.

    Returns:
        Its state, None if there is no checkpoint; and the names of those that are damaged.

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
        if state is not None and not _fits(state, config):
            raise RunError(f"cannot read run {folder.name!r}: its {name} does not fit its {CONFIG}")
        if state is not None:
            return state, list(damaged)
    if damaged:
        raise next(iter(damaged.values()))
    return None, []


def largest_checkpoint(config: TrainConfig) -> int:
    """Bytes of the largest checkpoint of a network with these hidden layers, momentum included."""
    return 2 * 2**20 + 16 * min(MOST_PARAMETERS, parameters_of((MOST_NEURONS, *config.hidden, MOST_NEURONS)))


def set_aside(folder: Path, names: Sequence[str]) -> None:
    """Rename damaged checkpoints, so that none replaces a whole one when the next is saved."""
    for name in names:
        (folder / name).replace(folder / f"{name}.damaged")


def printable(text: str) -> str:
    """Untrusted text without control characters, which a terminal might obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def number(value: object, *, least: float = -math.inf) -> int | float:
    """A number from an untrusted file; not NaN.

    Raises:
        ValueError: if it is something else, or less than it can be.
    """
    if type(value) not in (int, float) or not value >= least:  # type: ignore[operator]
        raise ValueError(f"a {type(value).__name__} is no number from {least}")
    return value  # type: ignore[return-value]


class _Damaged(RunError):
    """A file is not what its name says."""


def _load(folder: Path, name: str, most: int, parse: Callable[[bytes], _Parsed]) -> _Parsed | None:
    """Read and parse a file of at most so many bytes; None if there is none."""
    try:
        content = read_limited(folder / name, most + 1)
        if len(content) > most:
            raise ValueError(f"it is longer than {most:,} bytes")
        return parse(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"cannot read {folder / name}: {error.strerror}") from None
    except Exception as error:  # of the many kinds that a damaged file makes json or safetensors raise
        reason = printable(str(error).partition("\n")[0]) or type(error).__name__
        raise _Damaged(f"cannot read run {folder.name!r}: its {name} is damaged ({reason:.200})") from None


def _fits(state: State, config: TrainConfig) -> bool:
    """Whether a checkpoint belongs to a run of this configuration.

    Compared as JSON, in which 1, 1.0 and true are different, and a tuple is a list.
    """
    kept, expected = state.values.get("config"), config.as_dict()
    return isinstance(kept, Mapping) and all(
        json.dumps(kept.get(name)) == json.dumps(expected[name]) for name in _DECISIVE
    )
