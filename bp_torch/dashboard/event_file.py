"""An event file, which is what TensorBoard reads."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
    """Writes events at once.

    SummaryWriter hands them to a thread instead. But its checksums are pure Python, so that thread only takes turns
    with the training it is meant to spare: it costs as much, where no clock sees it. And here a run that is killed
    loses nothing.
    """

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        """Begins a new file.

        Args:
            folder: where it is written; made if it does not exist.
            first_step: TensorBoard forgets what earlier files in the folder say of this step and later ones.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"  # TensorBoard reads in order of names
        self._records = RecordWriter(path.open("xb"))
        self._write(Event(file_version="brain.Event:2"))
        # In a first file, too: one of TensorBoard's two loaders takes a folder's first start for no restart.
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, values: Sequence[Summary.Value], step: int) -> None:
        """Writes all these values as one event."""
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Closes the file; a second time does nothing."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()
