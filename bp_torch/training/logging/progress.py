"""Progress on stderr: a bar on a terminal, lines in a log; and the summary at the end."""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bp_torch.training.logging.events import AgreementEvent, EpochEvent, Event, Heartbeat, RunStarted, StepEvent


class Progress:
    """A logger that prints only where the data come from, problems with the run's files, and wrong gradients."""

    def __init__(self) -> None:
        """Wait for a run to start."""
        self._agreed = self._compared = 0

    def record(self, event: Event) -> None:
        """Print what matters of an event; errors of a closed stderr are ignored."""
        with suppress(OSError):
            match event:
                case RunStarted():
                    self._begin(event)
                case StepEvent():
                    self._show(event.step, {"cost": f"{event.cost:.4f}"})
                case AgreementEvent():
                    self._show(event.step, {"gradients agree": self._agreement(event)})
                case EpochEvent():
                    self._show(event.step + 1, {"test accuracy": f"{event.test_accuracy:.2%}"})
                case Heartbeat():
                    self._show(event.step + 1, {})

    def close(self) -> None:
        """Print nothing more."""

    def _start(self, event: RunStarted) -> None:
        """Begin to show progress."""

    def _show(self, step: int, figures: dict[str, str]) -> None:
        """Show that so many steps are done, and new figures."""

    def _begin(self, event: RunStarted) -> None:
        for line in (f"data: {event.data_origin}", *event.remarks):
            tqdm.write(line, file=sys.stderr)
        self._agreed, self._compared = event.agreed, event.compared
        self._start(event)

    def _agreement(self, event: AgreementEvent) -> str:
        for comparison in event.comparisons:
            if not comparison.passed:
                tqdm.write(f"step {event.step}: {comparison}", file=sys.stderr)
        self._compared += len(event.comparisons)
        self._agreed += sum(comparison.passed for comparison in event.comparisons)
        return f"{self._agreed}/{self._compared}"


class ProgressBar(Progress):
    """On a terminal: a bar with the time left, cost, test accuracy, and how many gradients agree."""

    def __init__(self, *, seconds: float = 0.1) -> None:
        """Wait for a run to start; the bar is drawn at most once in so many seconds."""
        super().__init__()
        self._seconds = seconds
        self._bar: tqdm[Any] | None = None
        self._figures: dict[str, str] = {}

    def _start(self, event: RunStarted) -> None:
        done = event.first_step
        self._bar = tqdm(total=event.steps, initial=done, unit="step", desc=event.data, mininterval=self._seconds)

    def _show(self, step: int, figures: dict[str, str]) -> None:
        if self._bar is not None:
            self._figures |= figures
            self._bar.set_postfix(self._figures, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leave it as it stands."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()


class ProgressLines(Progress):
    """In a log: the same in lines, one at the start, one every so many seconds, and one at the end."""

    def __init__(self, *, seconds: float = 10.0) -> None:
        """Wait for a run to start."""
        super().__init__()
        self._seconds = seconds
        self._first = self._step = self._steps = 0
        self._figures: dict[str, str] = {}
        self._began = self._printed = time.monotonic()

    def _start(self, event: RunStarted) -> None:
        self._first = self._step = event.first_step
        self._steps = event.steps
        self._began = time.monotonic()
        self._print()

    def _show(self, step: int, figures: dict[str, str]) -> None:
        self._step, self._figures = step, self._figures | figures
        if time.monotonic() - self._printed >= self._seconds:
            self._print()

    def close(self) -> None:
        """Print the last line."""
        with suppress(OSError):
            self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        done, taken = self._step - self._first, self._printed - self._began
        left = timedelta(seconds=round(taken / done * (self._steps - self._step))) if done else "unknown"
        figures = "".join(f", {name} {figure}" for name, figure in self._figures.items())
        print(f"step {self._step:,} of {self._steps:,}{figures}; time left: {left}", file=sys.stderr, flush=True)


def progress(*, quiet: bool) -> Progress:
    """The kind that suits stderr."""
    if quiet:
        return Progress()
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()


def describe(summary: Mapping[str, Any], folder: Path, total: float, overheads: Mapping[str, float]) -> str:
    """The result of a run in a few lines.

    Args:
        summary: the content of its summary.json.
        folder: its folder.
        total: seconds that it took since it began or was resumed.
        overheads: how many of them went into something other than training.
    """
    checks, passed = summary["gradient_checks"], summary["gradient_checks_passed"]
    worst = summary["worst_gradient_ratio"]
    agreement = f"{passed} of {checks} comparisons with autograd agree; worst error {worst:.2f} x PyTorch's own"
    lines = {
        "data": summary["data_origin"],
        "accuracy": f"{summary['test_accuracy']:.2%} on test digits, {summary['train_accuracy']:.2%} in training",
        "gradients": agreement if checks else "not compared",
        "time": f"{summary['seconds']:.1f} s for {summary['epochs']} epochs, "
        f"{summary['examples_per_second']:,.0f} examples a second",
        "kept in": str(folder),
        "dashboard": f"tensorboard --logdir {folder.parent}   (or: make dashboard)",
        **{name: f"took {seconds:.2f} s, {seconds / total:.1%} of the time" for name, seconds in overheads.items()},
    }
    return "\n".join(f"{name:<11} {line}" for name, line in lines.items())
