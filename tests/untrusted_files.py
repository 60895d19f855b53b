"""The readers of files that a stranger may have written: any bytes are read, or refused in one line.

Run as a script with a number of rounds, they are fuzzed by atheris, which looks for bytes that reach new code.
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

CONFIGURED = TrainConfig(hidden=())
FILES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
STATE = State(
    {"config": CONFIGURED.as_dict(), "sizes": (784, 10), "step": 1, "best": (0.5, 3)},
    {"parameters.output.weight": torch.ones(10, 784), "parameters.output.bias": torch.ones(10)},
)
NO_DIGEST = b"0" * 64


def sealed(content: bytes) -> bytes:
    """Bytes with a right digest, if they have a place for one."""
    return content.replace(NO_DIGEST, sha256(content).hexdigest().encode(), 1)


def unsealed(content: bytes) -> bytes:
    """A checkpoint's bytes with zeros for the digest."""
    begin = content.index(b'"sha256":"') + 10
    return content[:begin] + NO_DIGEST + content[begin + 64 :]


def read_checkpoint(folder: Path, content: bytes) -> None:
    (folder / CHECKPOINT).write_bytes(content)
    load_checkpoint(folder, CONFIGURED)


def read_sealed(folder: Path, content: bytes) -> None:
    """With a right digest, as an attacker would write it."""
    read_checkpoint(folder, sealed(content))


def read_config(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    load_config(folder)


def read_unpacked(folder: Path, content: bytes) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (raw / name).write_bytes(content)
    load("mnist", folder)


def read_packed(folder: Path, content: bytes) -> None:
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(content)
    load("mnist", folder / "root", source=folder)


def read_events(folder: Path, content: bytes) -> None:
    """What is left is what TensorBoard can read to its end, and nothing of the file is lost."""
    path = folder / "events.out.tfevents.1.2"
    path.write_bytes(content)
    lost = repair(path)
    assert repair(path) == 0
    assert path.stat().st_size == len(content) - lost
    assert not lost or (folder / "events.out.damaged.1.2").read_bytes() == content


READERS: dict[str, Callable[[Path, bytes], None]] = {
    "checkpoint": read_checkpoint,
    "sealed": read_sealed,
    "config": read_config,
    "unpacked": read_unpacked,
    "packed": read_packed,
    "events": read_events,
}


def read(reader: str, folder: Path, content: bytes) -> None:
    """Read it; whatever is raised but a refusal in one line is a bug."""
    message = ""
    try:
        READERS[reader](folder, content)
    except (RunError, DataError) as refused:
        message = str(refused)
    assert "\n" not in message
    assert len(message) < 1000


def _fuzz(rounds: int) -> None:
    import atheris

    folder = Path(tempfile.mkdtemp())
    names = sorted(READERS)

    def one(data: bytes) -> None:
        if data:
            read(names[data[0] % len(names)], folder, data[1:])

    atheris.instrument_func(load_checkpoint)
    atheris.instrument_func(load_config)
    atheris.Setup([sys.argv[0], f"-runs={rounds}", "-rss_limit_mb=2048", "-timeout=60"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(int(sys.argv[1]))
