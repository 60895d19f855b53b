"""What the person at the terminal sees, or who reads the log later."""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bp_torch.training.records import (
    AgreementRecord,
    EpochRecord,
    PulseRecord,
    Record,
    Recorder,
    RunStarted,
    StepRecord,
)

LINE_SECONDS = 10.0
"""Between two lines of a log."""


class Progress:
    """A recorder that says no more than must be known: where the data come from, what is amiss, wrong gradients."""

    def __init__(self) -> None:
        """Wait for a run to start."""
        self._agreed = self._compared = 0

    def record(self, record: Record) -> None:
        """Tell what matters of a record, a wrong gradient at once; or nothing, if nobody reads any more."""
        with suppress(OSError):
            self._tell_of(record)

    def _tell_of(self, record: Record) -> None:
        match record:
            case RunStarted():
                for line in (f"data: {record.data_origin}", *record.remarks):
                    tqdm.write(line, file=sys.stderr)
                self._agreed, self._compared = record.agreed, record.compared
                self.start(record)
            case StepRecord():
                self.show(record.step, {"cost": f"{record.cost:.4f}"})
            case AgreementRecord():
                self.show(record.step, self._agreement(record))
            case EpochRecord():
                self.show(record.step + 1, {"test accuracy": f"{record.test_accuracy:.2%}"})
            case PulseRecord():
                self.show(record.step + 1, {})

    def close(self) -> None:
        """There will be no more."""

    def start(self, record: RunStarted) -> None:
        """Begin to show progress."""

    def show(self, step: int, figures: dict[str, str]) -> None:
        """Show that so many steps are done, and figures that are new."""

    def _agreement(self, record: AgreementRecord) -> dict[str, str]:
        for comparison in record.comparisons:
            if not comparison.passed:
                tqdm.write(f"step {record.step}: {comparison}", file=sys.stderr)
        self._compared += len(record.comparisons)
        self._agreed += sum(comparison.passed for comparison in record.comparisons)
        return {"gradients agree": f"{self._agreed}/{self._compared}"}


class ProgressBar(Progress):
    """On a terminal: a bar with the time that is left, cost, test accuracy, and how many gradients agree."""

    def __init__(self) -> None:
        """Wait for a run to start."""
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._figures: dict[str, str] = {}

    def start(self, record: RunStarted) -> None:
        """Draw it."""
        self._bar = tqdm(total=record.steps, initial=record.first_step, unit="step", desc=record.data)

    def show(self, step: int, figures: dict[str, str]) -> None:
        """Draw it anew, if it is time to."""
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
    """In a log: the same in plain lines, one at the start, one every so many seconds, and one at the end."""

    def __init__(self) -> None:
        """Wait for a run to start."""
        super().__init__()
        self._first = self._step = self._steps = 0
        self._figures: dict[str, str] = {}
        self._began = self._told = time.monotonic()

    def start(self, record: RunStarted) -> None:
        """Write the first."""
        self._first = self._step = record.first_step
        self._steps = record.steps
        self._began = time.monotonic()
        self._tell()

    def show(self, step: int, figures: dict[str, str]) -> None:
        """Write one, if it is time to."""
        self._step, self._figures = step, self._figures | figures
        if time.monotonic() - self._told >= LINE_SECONDS:
            self._tell()

    def close(self) -> None:
        """Write the last."""
        with suppress(OSError):
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        done, taken = self._step - self._first, self._told - self._began
        left = timedelta(seconds=round(taken / done * (self._steps - self._step))) if done else "unknown"
        figures = "".join(f", {name} {figure}" for name, figure in self._figures.items())
        print(f"step {self._step:,} of {self._steps:,}{figures}; time left: {left}", file=sys.stderr, flush=True)


def progress(*, quiet: bool) -> Recorder:
    """What suits where stderr leads to."""
    if quiet:
        return Progress()
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()


def describe(
    summary: Mapping[str, Any], folder: Path, runs_dir: Path, shares: Mapping[str, tuple[float, float]]
) -> str:
    """The end of a run in a few lines.

    Args:
        summary: its figures.
        folder: its folder.
        runs_dir: where it is.
        shares: what else took how many seconds, and of the time.
    """
    checks, passed = summary["gradient_checks"], summary["gradient_checks_passed"]
    agreement = (
        f"{passed} of {checks} comparisons with autograd agree; worst error {summary['worst_gradient_ratio']:.2f} x "
        "PyTorch's own"
        if checks
        else "not compared"
    )
    lines = {
        "data": summary["data_origin"],
        "accuracy": f"{summary['test_accuracy']:.2%} on test digits, {summary['train_accuracy']:.2%} in training",
        "gradients": agreement,
        "time": f"{summary['seconds']:.1f} s for {summary['epochs']} epochs, "
        f"{summary['examples_per_second']:,.0f} examples a second",
        "kept in": str(folder),
        "dashboard": f"tensorboard --logdir {runs_dir}   (or: make dashboard)",
        **{name: f"took {seconds:.2f} s, {share:.1%} of the time" for name, (seconds, share) in shares.items()},
    }
    return "\n".join(f"{name:<11} {line}" for name, line in lines.items())
