"""TensorBoard's event files, and the values in them."""

import os
import re
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto
from torch import Tensor

from bp_torch.dashboard.tags import BACKPROP
from bp_torch.files import atomic_write

SYNC_SECONDS = 5.0  # between calls of fsync
_SEARCH_LIMIT = 2**20  # bytes after a damaged place in which to look for the next record
_LONGEST = 2**26  # bytes of a record; our own are shorter
_MOST_WRONG = 100  # records with a right length and wrong content before the rest of a file is given up


class EventFile:
    """Writes events to a file without delay.

    SummaryWriter uses a thread whose checksums in pure Python compete with the training: 15 ms for 150 KB. A C library
    takes 10 µs. A killed run loses no event; a power failure loses those of the last seconds.
    """

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        """Begin a new file. TensorBoard drops the events of earlier files at `first_step` and later."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{_timestamp(folder):.6f}.{os.getpid()}"
        self._file = path.open("xb", buffering=0)
        self._synced = time.monotonic()
        self._write(Event(file_version="brain.Event:2"))
        # Also in the first file: one of TensorBoard's two loaders does not treat a folder's first start as a restart.
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, values: Sequence[Summary.Value], step: int) -> None:
        """Write values as one event."""
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        self._append(length + _checksum(length) + content + _checksum(content))
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def _append(self, record: bytes) -> None:
        """Write the whole record, or nothing if that fails, as on a full disk."""
        whole, written = self._file.tell(), 0
        try:
            while written < len(record):
                written += self._file.write(record[written:])
        except OSError as error:
            error.filename = self._file.name
            with suppress(OSError):
                self._file.truncate(whole)
            raise


def _timestamp(folder: Path) -> float:
    """The time, or a later one if the clock was set back: TensorBoard reads the files in the order of their names."""
    stamps = [re.match(r"events\.out\.tfevents\.(\d+\.\d+)", path.name) for path in event_files(folder)]
    return max(time.time(), *(float(stamp[1]) + 1 for stamp in stamps if stamp), 0)


def event_files(folder: Path) -> list[Path]:
    """The event files of a folder, in TensorBoard's order."""
    return sorted(folder.glob("events.out.tfevents.*"))


def repair(path: Path) -> int:
    """Reduce a damaged event file to its valid records, and keep a copy of the damaged file.

    TensorBoard stops reading at the first damaged record. Later records are found by their checksums, if they begin
    within a megabyte after the damage.

    Returns:
        The number of bytes that could not be read.
    """
    if path.is_symlink() or not path.is_file() or not (size := path.stat().st_size):
        return 0
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        lost = size - sum(end - begin for begin, end in _valid_records(content))
        if lost:
            records = (content[begin:end] for begin, end in _valid_records(content))
            atomic_write(path, records, backup=path.with_name(path.name.replace("tfevents", "damaged")))
    return lost


def _valid_records(content: mmap) -> Iterator[tuple[int, int]]:
    """Where the valid records begin and end."""
    begin = last = wrong = 0
    while begin + 16 <= len(content) and begin - last < _SEARCH_LIMIT and wrong < _MOST_WRONG:
        end = _end_of_record(content, begin)
        if end is not None and content[end - 4 : end] == _checksum(content[begin + 12 : end - 4]):
            yield begin, end
            begin = last = end
        else:
            wrong += end is not None
            begin += 1


def _end_of_record(content: mmap, begin: int) -> int | None:
    """The end of a record that begins here; None if the checksum of its length is wrong."""
    header = content[begin : begin + 12]
    if header[8:] != _checksum(header[:8]):
        return None
    (length,) = struct.unpack("<Q", header[:8])
    end = begin + 16 + length
    return end if end <= len(content) and length <= _LONGEST else None


def _checksum(content: bytes) -> bytes:
    """CRC-32C, masked as the TFRecord format requires: rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def scalar(tag: str, number: float) -> Summary.Value:
    """A point of a curve; it may be NaN or infinite."""
    return Summary.Value(tag=tag, simple_value=number)


def text(tag: str, markdown: str) -> Summary.Value:
    """A page of Markdown; bytes of a path that are not text are escaped."""
    return text_pb(tag, markdown.encode(errors="backslashreplace").decode()).value[0]


def histogram(tag: str, tensor: Tensor) -> Summary.Value | None:
    """A histogram of the finite components of a tensor, in 30 buckets; None if there are none."""
    components = tensor.detach().cpu().double()
    finite = components[components.isfinite()]
    return histogram_pb(tag, finite.numpy()).value[0] if len(finite) else None


def plugin_value(tag: str, content: bytes | float) -> Summary.Value:
    """Bytes, or a point of a curve, for the Backprop tab alone."""
    blob = isinstance(content, bytes)
    plugin = SummaryMetadata.PluginData(plugin_name=BACKPROP)
    metadata = SummaryMetadata(plugin_data=plugin, data_class=DATA_CLASS_BLOB_SEQUENCE if blob else DATA_CLASS_SCALAR)
    return Summary.Value(tag=tag, tensor=make_tensor_proto([content] if blob else content), metadata=metadata)
