"""Train a network of hand-written layers on handwritten digits; see --help for every flag.

Exit status: 0 trained, and every gradient agreed; 1 a gradient did not, a number became infinite, or another process
was lost; 2 what was asked for cannot be done; 130 and 143 stopped by Ctrl-C and SIGTERM, and saved.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bp_torch import cli
from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.data import DataError
from bp_torch.training.config import TrainConfig
from bp_torch.training.failure import replay
from bp_torch.training.folder import RunError
from bp_torch.training.interruption import Stopped
from bp_torch.training.loop import NonFinite
from bp_torch.training.processes import ProcessLost
from bp_torch.training.progress import describe, progress
from bp_torch.training.records import Recorder
from bp_torch.training.run import train


def main() -> int:
    """Train as the command line says."""
    config = cli.parse(TrainConfig, sys.argv[1:])
    if config.replay is not None:
        told, again = replay(config)
        print(told)
        return int(again)
    board: TensorBoardRecorder | None = None

    def attach(folder: Path, first_step: int) -> Sequence[Recorder]:
        nonlocal board
        board = TensorBoardRecorder(folder, purge_step=first_step or None)
        for remark in board.remarks:
            print(remark, file=sys.stderr)
        return [progress(quiet=config.quiet), board]

    try:
        done = train(config, attach, shlex.join(["python", *sys.argv]))
    except (NonFinite, ProcessLost) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return stop.status
    if board is None:  # the first process tells
        return 0
    shares = {"logging": board.seconds, "checkpoints": done.saving_seconds}
    print(describe(done.summary, done.folder, config.runs_dir, {n: (s, s / done.seconds) for n, s in shares.items()}))
    return 0 if done.summary["gradient_checks_passed"] == done.summary["gradient_checks"] else 1


if __name__ == "__main__":
    cli.run(main, DataError, RunError)
