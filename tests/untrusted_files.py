"""Readers of untrusted files: any bytes are read, or refused in one line.

Run as a script with a number of rounds, atheris fuzzes them: it searches for bytes that reach new code.
"""

import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch

from bp_torch.dashboard.event_file import repair
from bp_torch.data import DataError, load
from bp_torch.training.config import TrainConfig
from bp_torch.training.state.run_dir import CHECKPOINT, CONFIG, RunError, State, load_checkpoint, load_config

TRAIN_CONFIG = TrainConfig(hidden=())
FILES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
STATE = State(
    {"config": TRAIN_CONFIG.as_dict(), "image_shape": (28, 28), "classes": 10, "step": 1, "best": (0.5, 3)},
    {"parameters.output.weight": torch.ones(10, 784), "parameters.output.bias": torch.ones(10)},
)
NO_DIGEST = b"0" * 64


def with_digest(content: bytes) -> bytes:
    """Replace a digest of zeros, if there is one, by the valid digest."""
    return content.replace(NO_DIGEST, sha256(content).hexdigest().encode(), 1)


def with_zero_digest(content: bytes) -> bytes:
    """Replace the digest of a checkpoint by zeros."""
    begin = content.index(b'"sha256":"') + 10
    return content[:begin] + NO_DIGEST + content[begin + 64 :]


def read_checkpoint(folder: Path, content: bytes) -> None:
    (folder / CHECKPOINT).write_bytes(content)
    load_checkpoint(folder, TRAIN_CONFIG)


def read_checkpoint_with_digest(folder: Path, content: bytes) -> None:
    """With a valid digest, which an attacker would compute."""
    read_checkpoint(folder, with_digest(content))


def read_config(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    load_config(folder)


def read_idx(folder: Path, content: bytes) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (raw / name).write_bytes(content)
    load("mnist", folder)


def read_gzip(folder: Path, content: bytes) -> None:
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(content)
    load("mnist", folder / "root", source=folder)


def read_events(folder: Path, content: bytes) -> None:
    """Repair the file; TensorBoard must be able to read all that remains, and a copy must have every byte."""
    path = folder / "events.out.tfevents.1.2"
    path.write_bytes(content)
    removed = repair(path)
    assert repair(path) == 0
    assert path.stat().st_size == len(content) - removed
    assert not removed or (folder / "events.out.damaged.1.2").read_bytes() == content


READERS: dict[str, Callable[[Path, bytes], None]] = {
    "checkpoint": read_checkpoint,
    "valid digest": read_checkpoint_with_digest,
    "config": read_config,
    "idx": read_idx,
    "gzip": read_gzip,
    "events": read_events,
}


def read(reader: str, folder: Path, content: bytes) -> None:
    """Read the content; any exception but a refusal in one line is a bug."""
    message = ""
    try:
        READERS[reader](folder, content)
    except (RunError, DataError) as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1000


def _fuzz(rounds: int) -> None:
    import atheris

    folder = Path(tempfile.mkdtemp())
    names = sorted(READERS)

    def fuzz_one(data: bytes) -> None:
        if data:
            read(names[data[0] % len(names)], folder, data[1:])

    atheris.instrument_func(load_checkpoint)
    atheris.instrument_func(load_config)
    atheris.Setup([sys.argv[0], f"-runs={rounds}", "-rss_limit_mb=2048", "-timeout=60"], fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(int(sys.argv[1]))
