"""What the person at the terminal sees."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bp_torch.training.records import AgreementRecord, EpochRecord, Record, RunStarted, StepRecord


class ProgressBar:
    """A recorder that draws a bar: cost, test accuracy, and how many gradients agree."""

    def __init__(self) -> None:
        """Wait for a run to start."""
        self._bar: tqdm[Any] | None = None
        self._figures: dict[str, str] = {}
        self._agreed = self._compared = 0

    def record(self, record: Record) -> None:
        """Show what matters of a record; a wrong gradient at once, in lines of its own."""
        match record:
            case RunStarted():
                print(f"data: {record.data_origin}", file=sys.stderr)
                self._agreed, self._compared = record.agreed, record.compared
                self._bar = tqdm(total=record.steps, initial=record.first_step, unit="step", desc=record.data)
            case StepRecord():
                self._show(record.step, {"cost": f"{record.cost:.4f}"})
            case AgreementRecord():
                self._show(record.step, self._agreement(record))
            case EpochRecord():
                self._show(record.step + 1, {"test accuracy": f"{record.test_accuracy:.2%}"})

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, step: int, figures: dict[str, str]) -> None:
        if self._bar is not None:
            self._figures |= figures
            self._bar.set_postfix(self._figures, refresh=False)
            self._bar.update(step - self._bar.n)

    def _agreement(self, record: AgreementRecord) -> dict[str, str]:
        for comparison in record.comparisons:
            if not comparison.passed:
                tqdm.write(f"step {record.step}: {comparison}", file=sys.stderr)
        self._compared += len(record.comparisons)
        self._agreed += sum(comparison.passed for comparison in record.comparisons)
        return {"gradients agree": f"{self._agreed}/{self._compared}"}


def describe(summary: Mapping[str, Any], folder: Path, runs_dir: Path) -> str:
    """The end of a run in a few lines, the last one the command that opens the dashboard."""
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
    }
    return "\n".join(f"{name:<10} {line}" for name, line in lines.items())
