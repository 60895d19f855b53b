"""When a run is saved: every few seconds, on a signal, and at its end."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Self

from bp_torch.files import atomic_write
from bp_torch.training.logging.events import FailureEvent
from bp_torch.training.loop import Trainer
from bp_torch.training.state.run_dir import BEST, FAILURE, State, pack, save_checkpoint

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(Exception):
    """A run was stopped by a signal and saved; the message is one line that says how to resume it."""

    def __init__(self, message: str, status: int) -> None:
        """Take the message and the exit status: 128 plus the signal's number, as in a shell."""
        super().__init__(message)
        self.status = status


class StopSignals:
    """Records the first of Ctrl-C, SIGTERM and SIGHUP."""

    def __init__(self, *, ignore_repeated: bool) -> None:
        """Patient: ignore a repeated Ctrl-C (torchrun forwards the first one); otherwise it ends the run at once."""
        self.received: signal.Signals | None = None
        self._ignore_repeated = ignore_repeated

    @contextmanager
    def handle(self) -> Iterator[Self]:
        """Handle the signals, except those that are ignored, such as by nohup; only the main thread can."""
        numbers = _SIGNALS if current_thread() is main_thread() else []
        handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._receive) for number in handled}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT and not self._ignore_repeated:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)


class CheckpointSaver:
    """Saves a trainer between its steps, in the first process."""

    def __init__(self, trainer: Trainer, folder: Path, signals: StopSignals, resume: str) -> None:
        """Store the trainer, the folder, the signal handler, and the command that resumes the run."""
        self.resume = resume
        self.seconds = 0.0  # spent on saving
        self.saved_step = trainer.step  # of the last checkpoint
        self._trainer, self._folder, self._signals = trainer, folder, signals
        self._saved_at = time.monotonic()
        self._best: bytes | None = None

    def after_step(self) -> None:
        """Save if due; raise Interrupted if any process received a signal, NonFinite if the state is not finite."""
        trainer = self._trainer
        if trainer.group.first and trainer.best[1] == trainer.step:
            self._best = pack(trainer.state())
        stop = trainer.group.any(self._signals.received is not None)
        due = time.monotonic() - self._saved_at >= trainer.config.checkpoint_seconds
        if trainer.group.first and (stop or due):
            self.save()
        if stop:
            received = self._signals.received
            by = "because another process was" if received is None else f"by {received.name}"
            done = f"stopped {by} after {trainer.step:,} of {trainer.steps:,} steps"
            raise Interrupted(f"{done}; resume with: {self.resume}", 128 + (received or 15))

    def save(self) -> None:
        """Write the best checkpoint, then the last; a resumed run repeats what a crash between them lost."""
        began = time.monotonic()
        self._trainer.require_finite()
        self.save_best()
        save_checkpoint(self._folder, pack(self._trainer.state()))
        self.saved_step = self._trainer.step
        self._saved_at = time.monotonic()
        self.seconds += self._saved_at - began

    def save_best(self) -> None:
        """Write the best checkpoint, if there is a new one."""
        if self._best is not None:
            atomic_write(self._folder / BEST, self._best)
            self._best = None

    def save_failure(self, event: FailureEvent) -> None:
        """Write the network that failed and the indices of its mini-batch; the checkpoints are kept."""
        self.save_best()
        values, tensors = self._trainer.state()
        failure = {**values, "failed_step": event.step, "what": event.what}
        atomic_write(self._folder / FAILURE, pack(State(failure, {**tensors, "examples": event.examples})))
        self._trainer.monitor.record(event)
