"""Train a network of hand-written layers on handwritten digits; see --help for every flag.

Exit status: 0 trained, and every gradient agreed; 1 a gradient did not, or the cost became infinite; 2 what was asked
for cannot be done.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bp_torch import cli
from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.data import DataError
from bp_torch.training.checkpoint import RunError
from bp_torch.training.config import TrainConfig
from bp_torch.training.loop import NonFiniteCost
from bp_torch.training.progress import ProgressBar, describe
from bp_torch.training.records import Recorder
from bp_torch.training.run import train


def main() -> int:
    """Train as the command line says."""
    config = cli.parse(TrainConfig, sys.argv[1:])
    board: TensorBoardRecorder | None = None

    def attach(folder: Path, first_step: int) -> Sequence[Recorder]:
        nonlocal board
        board = TensorBoardRecorder(folder, purge_step=first_step or None)
        return [ProgressBar(), board]

    try:
        folder, summary = train(config, attach, shlex.join(["python", *sys.argv]))
    except NonFiniteCost as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(summary, folder, config.runs_dir))
    assert board is not None
    print(f"logging    took {board.seconds:.2f} s, {board.seconds / summary['seconds']:.1%} of the time")
    return 0 if summary["gradient_checks_passed"] == summary["gradient_checks"] else 1


if __name__ == "__main__":
    cli.run(main, DataError, RunError)
