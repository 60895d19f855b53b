"""Event files, against TensorBoard's own checksums and loaders."""

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from bp_torch.dashboard.event_file import EventFile, _checksum
from bp_torch.dashboard.values import own_bytes, scalar


@given(st.binary(max_size=300))
def test_checksums_are_tensorboards_own(content: bytes) -> None:
    assert _checksum(content) == struct.pack("<I", masked_crc32c(content))


def test_the_checksum_of_the_standard_s_example() -> None:
    """RFC 3720, B.4: of 32 zero bytes, 0x8a9136aa; masked by hand."""
    assert _checksum(bytes(32)) == struct.pack(
        "<I", ((0x8A9136AA >> 15 | (0x8A9136AA << 17) % 2**32) + 0xA282EAD8) % 2**32
    )


def read(path: Path) -> list[Event]:
    """By the TFRecord format: length, its checksum, content, its checksum, and so on to the very end."""
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


def test_every_record_of_a_file_is_whole(tmp_path: Path) -> None:
    file = EventFile(tmp_path, first_step=5)
    file.write([scalar("a/b", 0.5), own_bytes("c/d", bytes(range(256)) * 40, "plugin")], 6)
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


def test_what_is_written_can_be_read_before_the_file_is_closed(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.write([scalar("a/b", 0.5)], 6)
    (path,) = tmp_path.iterdir()
    assert len(read(path)) == 3
    file.close()
    file.close()
