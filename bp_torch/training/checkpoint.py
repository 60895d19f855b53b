"""Checkpoints: where a run can be gone on from, kept so that neither a crash nor a hostile file does harm.

A checkpoint is what torch.save writes of numbers and Tensors, followed by a seal: a mark, and the SHA-256 of all
before. The last two are kept, and the best. They are read as if a stranger had written them.
`torch.load(weights_only=True)` runs no code that is in a file, but it does not bound memory: of 1,300 bytes that name
`bytearray` it makes 8 GB. So the archive is checked first, and the names in its pickle.
"""

import io
import json
import math
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from bp_torch.files import beginning, replace_file
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS, RunError

State = dict[str, Any]
"""What a checkpoint holds, by name."""

NEWEST_FIRST = CHECKPOINT, PREVIOUS, BEST
_SEAL = b"bp_torch sha256 "
_SEALED = len(_SEAL) + sha256().digest_size
_MEMBERS = re.compile(r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/\w+)")
_NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in ("Byte", "Double", "Float", "Long")),
}
"""What a pickle of numbers and Tensors names."""
_LEARNED = "hidden", "activation", "cost", "batch_size", "learning_rate", "epochs", "seed", "backend", "data"
"""What of the configuration decides the numbers."""
_LARGEST_CONFIG = 2**20


def packed(state: Mapping[str, Any]) -> bytes:
    """A checkpoint's content."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    return content + _SEAL + sha256(content).digest()


def unpacked(content: bytes) -> State:
    """The state in a checkpoint's content; without a seal it must be of an earlier version.

    Raises:
        Exception: of any kind, if it is damaged or no checkpoint.
    """
    body, seal, digest = content[:-_SEALED], content[-_SEALED : len(_SEAL) - _SEALED], content[len(_SEAL) - _SEALED :]
    if seal != _SEAL:
        body = content
    elif sha256(body).digest() != digest:
        raise ValueError("its digest is not that of its content")
    state = torch.load(_of_numbers_only(body), weights_only=True, map_location="cpu")
    if type(state) is not dict:
        raise TypeError(f"it is a {type(state).__name__}")
    if seal != _SEAL and "config" in state:
        raise ValueError("its seal is missing")
    return state


def save_checkpoint(folder: Path, content: bytes) -> None:
    """Keep a checkpoint, and the one before."""
    replace_file(folder / CHECKPOINT, content, before=folder / PREVIOUS)


def load_config(folder: Path, **changes: Any) -> TrainConfig:
    """The configuration of a run.

    Args:
        folder: the run's.
        changes: what is to be configured otherwise than it was.

    Raises:
        RunError: if there is no such run, or the file is damaged.
    """
    try:
        values = json.loads(_read(folder / CONFIG, _LARGEST_CONFIG))
        return TrainConfig.from_dict({**values, **changes})
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"cannot read run {folder.name!r}: there is no {folder / CONFIG}") from None
    except OSError as error:
        raise RunError(f"cannot read {folder / CONFIG}: {error.strerror}") from None
    except Exception as error:  # whatever a damaged file makes json raise, RecursionError among it
        raise _damaged(folder, CONFIG, error) from None


def load_checkpoint(folder: Path, config: TrainConfig, names: Sequence[str] = NEWEST_FIRST) -> tuple[State, list[str]]:
    """The newest checkpoint of a run that is whole.

    Args:
        folder: the run's.
        config: the run's, which says how large a checkpoint can be.
        names: of the files, the first choice first.

    Returns:
        What it holds, nothing if there is no checkpoint; and the names of those that are damaged.

    Raises:
        RunError: if all that there are are damaged, or the checkpoint is of another run than the configuration.
    """
    damaged: dict[str, Exception] = {}
    for name in names:
        try:
            state = unpacked(_read(folder / name, 2**20 + 16 * config.parameters))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RunError(f"cannot read {folder / name}: {error.strerror}") from None
        except Exception as error:  # whatever a damaged file makes zipfile, pickletools or torch raise
            damaged[name] = error
        else:
            if not _fits(state, config):
                raise RunError(f"cannot read run {folder.name!r}: its {name} does not fit its {CONFIG}")
            return state, list(damaged)
    for name, reason in damaged.items():
        raise _damaged(folder, name, reason)
    return {}, []


def set_aside(folder: Path, names: Sequence[str]) -> None:
    """Rename damaged checkpoints, so that none takes the place of a whole one when the next is saved."""
    for name in names:
        (folder / name).replace(folder / f"{name}.damaged")


def _damaged(folder: Path, name: str, error: Exception) -> RunError:
    reason = printable(str(error).partition("\n")[0]) or type(error).__name__
    return RunError(f"cannot read run {folder.name!r}: its {name} is damaged ({reason:.200})")


def printable(text: str) -> str:
    """What a stranger wrote, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def number(value: object, *, least: float = -math.inf) -> int | float:
    """A number that a stranger may have written; no Tensor, and not NaN.

    Raises:
        ValueError: if it is something else, or less than it can be.
    """
    if type(value) not in (int, float) or not value >= least:  # type: ignore[operator]
        raise ValueError(f"a {type(value).__name__} is no number from {least}")
    return value  # type: ignore[return-value]


def _read(path: Path, most: int) -> bytes:
    """A file's content, if it is not longer than that."""
    content = beginning(path, most + 1)
    if len(content) > most:
        raise ValueError(f"it is longer than {most:,} bytes")
    return content


def _of_numbers_only(body: bytes) -> io.BytesIO:
    """The same archive made anew of what was checked: so torch reads in it what we read, and nothing besides.

    Raises:
        Exception: of any kind, if a member is compressed or not torch.save's, or the pickle names what no number needs.
    """
    anew = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as archive, zipfile.ZipFile(anew, "w") as copy:
        members = archive.infolist()
        if sum(member.file_size for member in members) > len(body):
            raise ValueError("its members are said to be larger than it is")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it holds a member twice")
        for member in members:
            if not _MEMBERS.fullmatch(member.filename) or member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"it holds {member.filename!r}, which is not of a checkpoint")
            copy.writestr(member.filename, content := archive.read(member))
            if member.filename.endswith(".pkl"):
                _require_numbers(content)
    anew.seek(0)
    return anew


def _require_numbers(pickled: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(pickled):
        if ("GLOBAL" in opcode.name or opcode.name == "INST") and argument not in _NAMES:
            raise ValueError(f"it names {argument!r}, which is neither number nor Tensor")


def _fits(state: State, config: TrainConfig) -> bool:
    """Whether a checkpoint is of a run of this configuration; earlier versions' do not say."""
    kept, asked = state.get("config", config.as_dict()), config.as_dict()
    return type(kept) is dict and all(_same(kept.get(name), asked[name]) for name in _LEARNED)


def _same(kept: object, asked: object) -> bool:
    """Of the same type first, and so no Tensor, whose comparison is one, too."""
    return type(kept) is type(asked) and repr(kept) == repr(asked)
