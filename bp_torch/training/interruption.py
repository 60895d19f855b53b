"""Ctrl-C, SIGTERM and SIGHUP: remembered, so that a step is finished and a checkpoint written before the end."""

import signal
from threading import current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(Exception):
    """A run was asked to stop, and has; the message is one line that says how to go on.

    Attributes:
        status: the exit status by which a shell knows the signal: 128 and its number.
    """

    def __init__(self, message: str, status: int) -> None:
        """Take both."""
        super().__init__(message)
        self.status = status


class Interruption:
    """Takes the signals while it is entered, but for those that are ignored, as by nohup; a second Ctrl-C is at once.

    Attributes:
        asked: the signal that came, if one did.
    """

    def __init__(self, *, patient: bool) -> None:
        """Patient: that a second Ctrl-C is the same as the first, as where a launcher passes on what all have got."""
        self.asked: signal.Signals | None = None
        self._patient = patient
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Begin to take them."""
        if current_thread() is main_thread():  # no other may
            heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._take) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave them to whoever took them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == self.asked == signal.SIGINT and not self._patient:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number)
