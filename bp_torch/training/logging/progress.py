"""Progress on stderr: a bar on a terminal, lines in a log; and the summary at the end."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bp_torch.training.logging.events import AgreementEvent, EpochEvent, Event, Heartbeat, RunStarted, StepEvent


class Progress:
    """A logger that shows the steps done, the time left and a few figures, and prints wrong gradients immediately.

    Errors of a closed stderr are ignored.
    """

    def __init__(self, *, quiet: bool) -> None:
        """Quiet: print only the origin of the data, and problems."""
        self._options: dict[str, Any] = dict(_TERMINAL_OPTIONS if sys.stderr.isatty() else _LOG_OPTIONS)
        self._options |= {"disable": quiet}
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._figures = {"epoch": "", "result": "", "agreement": ""}  # in the order in which they are shown
        self._epochs = 0

    def record(self, event: Event) -> None:
        """Show the figures of an event: cost over the training set, accuracy on the test set."""
        with suppress(OSError):
            match event:
                case RunStarted():
                    self._say(f"data: {event.data_origin}", *event.remarks)
                    self._bar = tqdm(total=event.steps, initial=event.step, **self._options)
                    self._epochs = event.config["epochs"]
                case StepEvent():
                    self._show(event.step, {"epoch": f"epoch {event.epoch + 1}/{self._epochs}"})
                case AgreementEvent():
                    self._say(*(f"step {event.step}: {one}" for one in event.comparisons if not one.passed))
                    agreement = f"gradients {event.compared - event.failed}/{event.compared}"
                    self._show(event.step, {"agreement": agreement})
                case EpochEvent():
                    result = f"cost {event.train_cost:.4f}, accuracy {event.test_accuracy:.2%}"
                    self._show(event.step + 1, {"epoch": f"epoch {event.epoch}/{self._epochs}", "result": result})
                case Heartbeat():
                    self._show(event.step + 1, {})

    def close(self) -> None:
        """Finish the bar, or print the last line."""
        with suppress(OSError):
            self._bar.close()

    def _say(self, *lines: str) -> None:
        for line in lines:
            tqdm.write(line, file=sys.stderr)

    def _show(self, step: int, figures: dict[str, str]) -> None:
        self._figures |= figures
        self._bar.set_postfix_str(", ".join(filter(None, self._figures.values())), refresh=False)
        self._bar.update(step - self._bar.n)


class _Lines:
    """A stream that prints each state of tqdm's bar as a line on stderr."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


_TERMINAL_OPTIONS = {
    "dynamic_ncols": True,
    "bar_format": "{percentage:3.0f}%{bar}{remaining} left{postfix}",
}
_LOG_OPTIONS = {
    "file": _Lines(),
    "mininterval": 10.0,  # seconds
    "miniters": 1,
    "smoothing": 0.0,  # time left from the mean speed
    "bar_format": "step {n:,} of {total:,}{postfix}; time left: {remaining}",
}


def describe(summary: Mapping[str, Any], folder: Path, total: float, overheads: Mapping[str, float]) -> str:
    """The result of a run in a few lines; `overheads` and `total` are seconds of this session."""
    checks, passed = summary["gradient_checks"], summary["gradient_checks_passed"]
    agreement = f"{passed:,} of {checks:,} comparisons with autograd agree"
    lines = {
        "data": summary["data"],
        "accuracy": f"{summary['test_accuracy']:.2%} on test digits, {summary['train_accuracy']:.2%} in training",
        "gradients": agreement if checks else "not compared",
        "time": f"{summary['seconds']:.1f} s for {summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}, "
        f"{summary['examples_per_second']:,.0f} examples a second",
        "folder": str(folder),
        **{name: f"{seconds:.2f} s of this session's {total:.2f} s" for name, seconds in overheads.items()},
    }
    return "\n".join(f"{name:<11} {line}" for name, line in lines.items())
