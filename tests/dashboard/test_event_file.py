"""Event files, against TensorBoard's own checksums and loaders."""

import os
import resource
import signal
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from bp_torch.dashboard import event_file
from bp_torch.dashboard.event_file import EventFile, _checksum, event_files, plugin_value, repair, scalar


@given(st.binary(max_size=300))
def test_checksums_are_tensorboards_own(content: bytes) -> None:
    assert _checksum(content) == struct.pack("<I", masked_crc32c(content))


def test_the_checksum_of_an_example_of_the_standard() -> None:
    """RFC 3720, B.4: of 32 zero bytes, 0x8a9136aa; masked by hand."""
    assert _checksum(bytes(32)) == struct.pack(
        "<I", ((0x8A9136AA >> 15 | (0x8A9136AA << 17) % 2**32) + 0xA282EAD8) % 2**32
    )


def read(path: Path) -> list[Event]:
    """Parse TFRecords: length, its checksum, content, its checksum, until the end of the file."""
    content, place, events = path.read_bytes(), 0, []
    while place < len(content):
        length, of_length = struct.unpack_from("<QI", content, place)
        event = content[place + 12 : place + 12 + length]
        (of_event,) = struct.unpack_from("<I", content, place + 12 + length)
        assert of_length == masked_crc32c(content[place : place + 8])
        assert of_event == masked_crc32c(event)
        events.append(Event.FromString(event))
        place += 16 + length
    return events


def test_every_record_of_a_file_is_valid(tmp_path: Path) -> None:
    file = EventFile(tmp_path, first_step=5)
    file.write([scalar("a/b", 0.5), plugin_value("c/d", bytes(range(256)) * 40)], 6)
    file.write([], 2**40)
    file.close()
    (path,) = tmp_path.iterdir()
    events = read(path)
    assert events[0].file_version == "brain.Event:2"
    assert (events[1].step, events[1].session_log.status) == (5, SessionLog.START)
    assert [event.step for event in events[2:]] == [6, 2**40]
    first, second = events[2].summary.value
    assert (first.tag, first.simple_value, second.tag) == ("a/b", 0.5, "c/d")
    assert second.tensor.string_val == [bytes(range(256)) * 40]
    assert list(LegacyEventFileLoader(str(path)).Load()) == events


def test_events_can_be_read_before_the_file_is_closed(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.write([scalar("a/b", 0.5)], 6)
    (path,) = tmp_path.iterdir()
    assert len(read(path)) == 3
    file.close()
    file.close()


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, list[Event]]:
    """A file of five events, the last three of which are a curve."""
    file = EventFile(tmp_path)
    for step in range(3):
        file.write([scalar("a/b", step / 2)], step)
    file.close()
    (path,) = event_files(tmp_path)
    return path, read(path)


def test_a_valid_file_is_not_changed(three: tuple[Path, list[Event]]) -> None:
    path, _ = three
    before = path.stat()
    assert repair(path) == 0
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("part", ["length", "checksum of the length", "content", "checksum of the content"])
def test_valid_records_after_a_damaged_one_are_kept(three: tuple[Path, list[Event]], part: str) -> None:
    path, events = three
    content = bytearray(path.read_bytes())
    sizes = [event.ByteSize() + 16 for event in events]
    begin, end = sum(sizes[:3]), sum(sizes[:4])
    content[{"length": begin + 1, "checksum of the length": begin + 9, "content": begin + 14}.get(part, end - 1)] ^= 1
    path.write_bytes(content)
    assert repair(path) == sizes[3]
    assert read(path) == [*events[:3], events[4]]
    assert repair(path) == 0
    aside = path.with_name(path.name.replace("tfevents", "damaged"))
    assert aside.read_bytes() == content
    assert event_files(path.parent) == [path]


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_truncated_record_at_the_end_is_removed(three: tuple[Path, list[Event]], kept: int) -> None:
    path, events = three
    last = events[-1].ByteSize() + 16
    whole = path.read_bytes()[:-last]
    path.write_bytes(path.read_bytes()[: len(whole) + kept % last])
    assert repair(path) == kept % last
    assert path.read_bytes() == whole


def test_an_event_that_does_not_fit_leaves_the_file_valid(tmp_path: Path) -> None:
    """In a process that may write at most 4,000 bytes to a file."""
    if (pid := os.fork()) == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        file = EventFile(tmp_path)
        try:
            for step in range(10):
                file.write([plugin_value("c/d", bytes(900))], step)
        except OSError as error:
            os._exit(7 if str(tmp_path) in str(error.filename) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    (path,) = event_files(tmp_path)
    events = read(path)
    assert [event.step for event in events] == [0, 0, 0, 1, 2, 3][: len(events)]
    assert len(events) >= 5
    assert repair(path) == 0


def test_events_are_synced_to_the_disk_after_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, synced = [0.0], list[float]()
    monkeypatch.setattr("bp_torch.dashboard.event_file.time.monotonic", lambda: now[0])
    monkeypatch.setattr("os.fsync", lambda _: synced.append(now[0]))
    file = EventFile(tmp_path)
    for second in range(30):
        now[0] = float(second)
        file.write([scalar("a/b", 0.5)], second)
    file.close()
    assert max(b - a for a, b in zip([0.0, *synced], [*synced, 29.0], strict=True)) < 10
    assert len(synced) < 7, "not at each of them"


def test_a_file_of_zeros_or_of_random_bytes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a power failure or an attack; the search is limited to less than a megabyte here."""
    monkeypatch.setattr(event_file, "_SEARCH_LIMIT", 2**16)
    path = tmp_path / "events.out.tfevents.1.2"
    with path.open("wb") as file:
        file.truncate(2**42)
    assert repair(path) == 2**42
    assert path.stat().st_size == 0


def test_a_file_of_valid_lengths_with_wrong_content_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each would require a checksum of the rest of the file."""
    lengths, summed = [struct.pack("<Q", 10**5 - 30 * n) for n in range(3000)], list[int]()
    content = b"".join(length + _checksum(length) for length in lengths) + bytes(10**5)
    path = tmp_path / "events.out.tfevents.1.2"
    path.write_bytes(content)

    def checksum(part: bytes) -> bytes:
        summed.append(len(part))
        return _checksum(part)

    monkeypatch.setattr(event_file, "_checksum", checksum)
    assert repair(path) == len(content)
    assert sum(summed) < 300 * len(content), "not three thousand times, twice"


def test_what_is_not_a_file_is_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.out.tfevents.1.2")
    (tmp_path / "events.out.tfevents.1.3").mkdir()
    (tmp_path / "mine").write_bytes(b"precious")
    (tmp_path / "events.out.tfevents.1.4").symlink_to(tmp_path / "mine")
    assert [repair(path) for path in event_files(tmp_path)] == [0, 0, 0]
    assert (tmp_path / "mine").read_bytes() == b"precious"


def test_a_new_file_is_last_even_if_the_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise TensorBoard would read its start mark before the events that the mark purges."""
    EventFile(tmp_path).close()
    first = event_files(tmp_path)
    monkeypatch.setattr("bp_torch.dashboard.event_file.time.time", lambda: 1.7e9)
    EventFile(tmp_path, first_step=3).close()
    assert event_files(tmp_path)[0] == first[0]
    assert len(event_files(tmp_path)) == 2
