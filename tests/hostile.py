"""The readers of files that a stranger may have written: they make of any bytes what they should, or say why not.

Run as a script with a number of rounds, they are fuzzed by atheris, which looks for bytes that lead somewhere new.
"""

import io
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from bp_torch.dashboard.event_file import mend
from bp_torch.data import DataError, load
from bp_torch.training.checkpoint import load_checkpoint, load_config, packed
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import CHECKPOINT, CONFIG, RunError

CONFIGURED = TrainConfig(hidden=())
FILES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
STATE = {"parameters": {"0.weight": torch.ones(10, 784), "0.bias": torch.ones(10)}, "epoch": 1, "best": [0.5, 3]}
PICKLE = "archive/data.pkl"


def read_checkpoint(folder: Path, content: bytes) -> None:
    (folder / CHECKPOINT).write_bytes(content)
    load_checkpoint(folder, CONFIGURED)


def read_pickle(folder: Path, content: bytes) -> None:
    """In an archive that is otherwise right."""
    archive = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed(STATE))) as old, zipfile.ZipFile(archive, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == PICKLE else old.read(name))
    read_checkpoint(folder, archive.getvalue())


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
    lost = mend(path)
    assert mend(path) == 0
    assert path.stat().st_size == len(content) - lost
    assert not lost or (folder / "events.out.damaged.1.2").read_bytes() == content


READERS: dict[str, Callable[[Path, bytes], None]] = {
    "checkpoint": read_checkpoint,
    "pickle": read_pickle,
    "config": read_config,
    "unpacked": read_unpacked,
    "packed": read_packed,
    "events": read_events,
}


def pickled() -> bytes:
    """The pickle of a right checkpoint."""
    with zipfile.ZipFile(io.BytesIO(packed(STATE))) as archive:
        return archive.read(PICKLE)


def read(reader: str, folder: Path, content: bytes) -> None:
    """Read it; whatever is raised but a refusal in one line is a bug."""
    said = ""
    try:
        READERS[reader](folder, content)
    except (RunError, DataError) as refused:
        said = str(refused)
    assert "\n" not in said
    assert len(said) < 1000


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
