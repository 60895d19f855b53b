"""Train a network of hand-written layers on handwritten digits.

Exit status: 0 trained, and every gradient agreed; 1 a gradient did not agree, a number was not finite, or another
process was lost; 2 bad usage or data; 129, 130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM, and saved.
"""

import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bp_torch.commands import cli
from bp_torch.dashboard.tags import BACKPROP
from bp_torch.dashboard.writer import TensorBoardLogger
from bp_torch.data import DataError
from bp_torch.models import MODELS
from bp_torch.training.backends import ProcessLost
from bp_torch.training.config import TrainConfig
from bp_torch.training.logging.events import Logger
from bp_torch.training.logging.progress import Progress, describe
from bp_torch.training.loop import NonFinite
from bp_torch.training.state.run import replay, train
from bp_torch.training.state.run_dir import RunError
from bp_torch.training.state.saver import Interrupted


def main() -> None:
    """Run `bp-torch train`."""
    cli.run(_train, DataError, RunError)


def _defaults(arguments: Sequence[str]) -> TrainConfig:
    """The defaults of the model that the arguments name; those of mlp if it is unknown, which is reported later."""
    models = [after for before, after in pairwise((*arguments, "")) if before == "--model"]
    models += [argument.removeprefix("--model=") for argument in arguments if argument.startswith("--model=")]
    return TrainConfig.defaults(models[-1] if models and models[-1] in MODELS else "mlp")


def _train() -> int:
    config = cli.parse(TrainConfig, sys.argv[1:], _defaults(sys.argv[1:]))
    if config.replay is not None:
        table, failed_again = replay(config)
        print(table)
        return int(failed_again)
    board: TensorBoardLogger | None = None

    def attach(folder: Path, first_step: int) -> Sequence[Logger]:
        nonlocal board
        board = TensorBoardLogger(folder, purge_step=first_step)
        for remark in board.remarks:
            print(remark, file=sys.stderr)
        return [Progress(quiet=config.quiet), board]

    try:
        result = train(config, attach, cli.program(), sys.argv[1:])
    except (NonFinite, ProcessLost) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run is saved: another Ctrl-C would only print a traceback
        print(stop, file=sys.stderr)
        return stop.status
    if board is None:  # only the first process prints the result
        return 0
    overheads = {"logging": board.seconds, "checkpoints": result.saving_seconds}
    print(describe(result.summary, result.folder, result.seconds, overheads))
    print(f"dashboard   {cli.dashboard(result.folder.parent, BACKPROP if config.model == 'mlp' else 'images')}")
    return 0 if result.summary["gradient_checks_passed"] == result.summary["gradient_checks"] else 1
