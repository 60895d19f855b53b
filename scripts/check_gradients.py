"""Check gradients: of every hand-written function, of planted bugs, or of a function of your own; see --help.

Exit status: 0 passed, 1 something is wrong, 2 what was asked for cannot be done.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from bp_torch import cli
from bp_torch.catalogue import CATALOGUE
from bp_torch.gradients import CannotCheck, Scoreboard, Survey, check_gradients, tables
from bp_torch.gradients.expressions import parse_sample
from bp_torch.gradients.survey import survey
from bp_torch.training.folder import RunError, require_no_run

RUN = "gradients"
PLANTED = Path(__file__).parents[1] / "tests"
"""Where the planted bugs are: they are no part of the package."""


@dataclass(frozen=True)
class CheckConfig:
    """Check gradients against PyTorch's own, float64 and finite differences.

    Without arguments: every function of bp_torch, and the scoreboard of planted bugs; TensorBoard shows them too. For a
    function of yours: package.module:function --reference torch.nn.functional:gelu --inputs "randn(4, 8)"
    """

    functions: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of functions of bp_torch, or package.module:function for one of yours."""
    reference: str | None = None
    """What yours is judged by, as package.module:function; finite differences if not given."""
    inputs: tuple[str, ...] = ()
    """Samples for yours, each its arguments in one text: "randn(4, 3, dtype=float64), randint(0, 3, (4,))"."""
    samples: str | None = None
    """Samples for yours as package.module:samples, a list of argument tuples."""
    json: bool = False
    """Print the report on yours as JSON."""
    planted: bool = False
    """Only the planted bugs, as a page of Markdown: which checker catches which."""
    seeds: int = 1
    """With how many seeds bp_torch's checker must catch a bug, and raise no false alarm."""
    runs_dir: Path = Path("runs")
    """Where TensorBoard reads; what is found becomes the run 'gradients' there."""

    def __post_init__(self) -> None:
        """Refuse what cannot be checked, and flags that would do nothing."""
        names = " ".join(self.functions)
        if self.yours and len(self.functions) > 1:
            raise ValueError(f"one package.module:function at a time, got {names}")
        for name in self.functions:
            if name not in CATALOGUE and not self.yours:
                raise ValueError(f"{name!r} is none of {', '.join(CATALOGUE)}, and no package.module:function")
        if not self.yours and (self.reference or self.inputs or self.samples or self.json):
            raise ValueError("--reference, --inputs, --samples and --json go with a package.module:function")
        if self.yours and bool(self.inputs) == bool(self.samples):
            raise ValueError(f"{names} needs samples: either --inputs or --samples")
        if self.functions and (self.planted or self.seeds != 1 or self.runs_dir != Path("runs")):
            raise ValueError(f"--planted, --seeds and --runs-dir go without the name of a function, got {names}")
        if self.planted and self.runs_dir != Path("runs"):
            raise ValueError("--planted writes no run: give it no --runs-dir")
        if len(set(self.functions)) < len(self.functions):
            raise ValueError(f"a function is named twice: {names}")
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")

    @property
    def yours(self) -> bool:
        """Whether it is about the user's own function."""
        return any(":" in name for name in self.functions)


def main() -> int:
    """Check what the command line asks for."""
    config = cli.parse(CheckConfig, sys.argv[1:])
    torch.set_num_threads(1)
    if config.yours:
        return check_yours(config)
    with _workers() as pool:
        if config.planted:
            return check_checkers(config, pool)
        return check_catalogue(config, pool)


def check_yours(config: CheckConfig) -> int:
    """Report on one function."""
    function = cli.named(config.functions[0], "function")
    reference = cli.named(config.reference, "--reference") if config.reference else None
    samples = cli.named(config.samples, "--samples") if config.samples else [*map(parse_sample, config.inputs)]
    report = check_gradients(function, samples, reference=reference)
    print(json.dumps(report.as_dict(), indent=2, allow_nan=False) if config.json else report)
    return 0 if report.passed else 1


def check_checkers(config: CheckConfig, pool: Executor) -> int:
    """Print which checker catches which planted bug."""
    board = _scoreboard(config.seeds, pool)
    print(*tables.page(board), sep="\n")
    return 0 if board.perfect else 1


def check_catalogue(config: CheckConfig, pool: Executor) -> int:
    """Print a row for each function and every failure; for the whole catalogue, the scoreboard too, in TensorBoard."""
    folder = config.runs_dir / RUN
    if not config.functions:
        require_no_run(folder)
    surveys: list[Survey] = []
    for row in tables.functions(_surveyed(config.functions or tuple(CATALOGUE), pool, surveys)):
        print(row, flush=True)
    print("", tables.ACCURACY, *(str(wrong) for found in surveys for wrong in found.wrong), sep="\n")
    right = all(not found.wrong for found in surveys)
    if config.functions:
        return 0 if right else 1
    board = _scoreboard(config.seeds, pool)
    print("", *tables.scores(board), "", sep="\n")
    _show(folder, surveys, board)
    print(f"dashboard: tensorboard --logdir {config.runs_dir}   (or: make dashboard)")
    return 0 if right and board.perfect else 1


def _surveyed(names: Sequence[str], pool: Executor, kept: list[Survey]) -> Iterator[Survey]:
    """Each function in its turn."""
    for found in pool.map(survey, names):
        kept.append(found)
        yield found


def _scoreboard(seeds: int, pool: Executor) -> Scoreboard:
    from planted.scoreboard import scoreboard

    return scoreboard(range(seeds), pool.map)


def _show(folder: Path, surveys: Sequence[Survey], board: Scoreboard) -> None:
    from bp_torch.dashboard.gradient_run import write_gradients  # which takes TensorBoard

    functions = "\n".join([*tables.functions(surveys), "", tables.ACCURACY])
    scores = "\n\n".join("\n".join(table) for table in (tables.scores(board), tables.kinds(board)))
    write_gradients(folder, functions, scores)


@contextmanager
def _workers() -> Iterator[Executor]:
    """A process for each core. An interruption is this process's affair, which then ends the others."""
    sys.path.append(str(PLANTED))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the processes inherit
    for _ in range(cores):
        pool.submit(int)  # each starts one
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    cli.run(main, CannotCheck, RunError)
