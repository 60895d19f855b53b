"""Check gradients: of every hand-written function, of planted bugs, or of a function of your own; see --help.

Exit status: 0 passed, 1 something is wrong, 2 it cannot be checked.
"""

import json
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from bp_torch import cli
from bp_torch.catalogue import CATALOGUE
from bp_torch.gradients import CannotCheck, check_gradients, entry_report
from bp_torch.gradients.entry_report import EntryReport, check_entry
from bp_torch.training.state.run_dir import RunError, require_no_run

RUN = "gradients"
MOST_COMPONENTS = 200_000
"""Of a Tensor that --shapes makes."""


@dataclass(frozen=True)
class CheckConfig:
    """Check gradients against PyTorch's own, float64 and finite differences.

    Without arguments: every function of bp_torch, and the scoreboard of planted bugs; TensorBoard shows them too. For a
    function of yours: mine.py:function --shapes 4x8 --reference torch.nn.functional:gelu
    """

    functions: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of functions of bp_torch, or one of yours as file.py:function or package.module:function."""
    reference: str | None = None
    """What yours is compared with, written the same way; finite differences if not given."""
    shapes: tuple[str, ...] = ()
    """Samples for yours, of random Tensors: each text is one sample, such as 5x4,3x4 for two Tensors."""
    samples: str | None = None
    """Samples for yours, written the same way: a list of tuples of arguments."""
    json: bool = False
    """Print the report on yours as JSON."""
    planted: bool = False
    """Only the planted bugs, as a page of Markdown: which checker catches which."""
    seeds: int = 1
    """With how many seeds bp_torch's checker must catch a bug, and raise no false alarm."""
    runs_dir: Path = Path("runs")
    """Where TensorBoard reads; the results become the run 'gradients' there."""

    def __post_init__(self) -> None:
        """Refuse what cannot be checked, and flags that would do nothing."""
        names = " ".join(self.functions)
        if self.yours and len(self.functions) > 1:
            raise ValueError(f"one function of yours at a time, got {names}")
        for name in self.functions:
            if name not in CATALOGUE and not self.yours:
                raise ValueError(f"{name!r} is none of {', '.join(CATALOGUE)}, and no file.py:function")
        if not self.yours and (self.reference or self.shapes or self.samples or self.json):
            raise ValueError("--reference, --shapes, --samples and --json go with a file.py:function")
        if self.yours and bool(self.shapes) == bool(self.samples):
            raise ValueError(f"{names} needs {'only one of' if self.shapes else 'samples:'} --shapes or --samples")
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
    """Check what the command line names."""
    config = cli.parse(CheckConfig, sys.argv[1:])
    torch.set_num_threads(1)
    if config.yours:
        return check_yours(config)
    if config.functions:
        return 1 if any(report.wrong for report in print_reports(map(check_entry, config.functions))) else 0
    if not config.planted:
        require_no_run(config.runs_dir / RUN)
    with _workers() as pool:
        return check_everything(config, pool)


def check_yours(config: CheckConfig) -> int:
    """Report on one function."""
    function = cli.import_object(config.functions[0], "function")
    reference = cli.import_object(config.reference, "--reference") if config.reference else None
    samples = cli.import_object(config.samples, "--samples") if config.samples else [*map(sample_of, config.shapes)]
    report = check_gradients(function, samples, reference=reference)
    print(json.dumps(report.as_dict(), indent=2, allow_nan=False) if config.json else report)
    return 0 if report.passed else 1


def sample_of(shapes: str) -> tuple[torch.Tensor, ...]:
    """Random Tensors, the same at every run; '5x4,3x4' makes two.

    Raises:
        UsageError: if it cannot be read, or a Tensor would be too large.
    """
    try:
        sizes = [tuple(int(size) for size in shape.split("x")) for shape in shapes.split(",")]
    except ValueError:
        raise cli.UsageError(f"--shapes {shapes!r} must be sizes such as 5x4,3x4") from None
    if any(min(shape) < 0 or math.prod(shape) > MOST_COMPONENTS for shape in sizes):
        raise cli.UsageError(f"--shapes {shapes!r}: a Tensor may have 0 to {MOST_COMPONENTS:,} components")
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator) for shape in sizes)


def check_everything(config: CheckConfig, pool: Executor) -> int:
    """Print a row for each function, every failure, and the scoreboard; show all of it in TensorBoard."""
    from planted.scoreboard import scoreboard

    if config.planted:
        board = scoreboard(range(config.seeds), pool.map)
        print(*board.page(), sep="\n")
        return 0 if board.perfect else 1
    from bp_torch.dashboard.reports import write_gradients  # which imports TensorBoard

    reports = print_reports(pool.map(check_entry, CATALOGUE))
    board = scoreboard(range(config.seeds), pool.map)
    print("", board.table(), "", sep="\n")
    functions = "\n".join([entry_report.HEADINGS, *(report.row for report in reports), "", entry_report.ACCURACY])
    write_gradients(config.runs_dir / RUN, functions, f"{board.table()}\n\n{board.table_of_kinds()}")
    print(f"dashboard: tensorboard --logdir {config.runs_dir}   (or: make dashboard)")
    return 1 if any(report.wrong for report in reports) or not board.perfect else 0


def print_reports(reports: Iterable[EntryReport]) -> list[EntryReport]:
    """Print a row for each report as it comes, then every failure."""
    printed = []
    print(entry_report.HEADINGS, flush=True)
    for report in reports:
        print(report.row, flush=True)
        printed.append(report)
    print("", entry_report.ACCURACY, *(str(wrong) for report in printed for wrong in report.wrong), sep="\n")
    return printed


@contextmanager
def _workers() -> Iterator[Executor]:
    """A process for each core; Ctrl-C reaches this process alone, which then ends the others."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))  # where the planted bugs are
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the processes inherit
    for _ in range(cores):
        pool.submit(int)  # each starts one
    signal.signal(signal.SIGINT, handler)
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
