"""When a run is saved: every so many seconds, when it is asked to stop, and at its end."""

import time
from pathlib import Path

from bp_torch.files import replace_file
from bp_torch.training.checkpoint import packed, save_checkpoint
from bp_torch.training.config import TrainConfig
from bp_torch.training.folder import BEST
from bp_torch.training.interruption import Interruption, Stopped
from bp_torch.training.loop import Trainer


class Keeper:
    """Saves a trainer between its steps; of several processes the first does.

    Attributes:
        seconds: how long training has waited for it.
        kept: the step from which the last checkpoint goes on.
    """

    def __init__(self, trainer: Trainer, folder: Path, interruption: Interruption) -> None:
        """Take what is to be saved where, and who says when to stop."""
        self.seconds = 0.0
        self.kept = trainer.step
        self._trainer = trainer
        self._folder = folder
        self._interruption = interruption
        self._saved = time.monotonic()
        self._best: bytes | None = None

    def after_step(self) -> None:
        """Save if it is time to, and stop if any process was asked to.

        Raises:
            Stopped: saying how to go on.
            NonFinite: if there are numbers that are not worth saving.
        """
        first = self._trainer.processes.first
        if first and self._trainer.best[1] == self._trainer.step:
            self._best = packed(self._trainer.state())
        stop = self._trainer.processes.any(self._interruption.asked is not None)
        if first and (stop or time.monotonic() - self._saved >= self._trainer.config.checkpoint_seconds):
            self.save()
        if stop:
            raise self._stopped()

    def save(self) -> None:
        """Write the best and then the last: a crash between them is made up for when the run is gone on with."""
        began = time.monotonic()
        self._trainer.require_finite()
        self.save_best()
        save_checkpoint(self._folder, packed(self._trainer.state()))
        self.kept = self._trainer.step
        self._saved = time.monotonic()
        self.seconds += self._saved - began

    def save_best(self) -> None:
        """Write the best, if a better one was met since."""
        if self._best is not None:
            replace_file(self._folder / BEST, self._best)
            self._best = None

    def finish(self) -> None:
        """Save the end, if that was not done."""
        if self.kept < self._trainer.step:
            self.save()

    def _stopped(self) -> Stopped:
        trainer, asked = self._trainer, self._interruption.asked
        by = "as another process was asked to" if asked is None else f"by {asked.name}"
        done = f"stopped {by} after {trainer.step:,} of {trainer.steps:,} steps"
        return Stopped(f"{done}; go on with {how_to_resume(trainer.config)}", 128 + (asked or 15))


def how_to_resume(config: TrainConfig) -> str:
    """The flags that go on with a run."""
    elsewhere = "" if config.runs_dir == TrainConfig.runs_dir else f"--runs-dir {config.runs_dir} "
    return f"{elsewhere}--resume {config.run_name}"
