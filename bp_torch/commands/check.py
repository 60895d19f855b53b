"""Check the gradients of your own function, or of every function of bp_torch.

Exit status: 0 passed, 1 failed, 2 cannot be checked, 3 the gradient passed and something else failed.
"""

import json
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from bp_torch.catalogue import CATALOGUE
from bp_torch.commands import cli
from bp_torch.dashboard.tags import CHECKED_FUNCTIONS
from bp_torch.gradients import CannotCheck, check_gradients, entry_report
from bp_torch.gradients.entry_report import EntryReport, check_entry
from bp_torch.training.state.run_dir import RunError, require_no_run

RUN = "gradients"
MAX_COMPONENTS = 200_000
"""Largest number of components of a Tensor made by --shapes."""


@dataclass(frozen=True)
class CheckConfig:
    """Check gradients against PyTorch's own, float64 and finite differences.

    Your own function: mine.py:function --shapes 4x8 --reference torch.nn.functional:gelu. Without arguments: every
    function of bp_torch, also shown in TensorBoard.

    Exit status: 0 passed, 1 failed, 2 cannot be checked, 3 the gradient passed and something else failed.
    """

    functions: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of functions of bp_torch, or your own function as file.py:function or package.module:function."""
    reference: str | None = None
    """Function to compare with, as file.py:function or package.module:function; by default, finite differences."""
    shapes: tuple[str, ...] = ()
    """Samples of random Tensors for your function: each value is one sample, such as 5x4,3x4 for two Tensors."""
    samples: str | None = None
    """Samples for your function, as file.py:list or package.module:list: a list of tuples of arguments."""
    json: bool = False
    """Print the report on your function as JSON."""
    runs_dir: Path = Path("runs")
    """Directory of runs; the results on all functions are written to its run 'gradients'."""

    def __post_init__(self) -> None:
        """Reject what cannot be checked, and flags that would have no effect."""
        names = " ".join(self.functions)
        if self.is_custom and len(self.functions) > 1:
            raise ValueError(f"check one function of your own at a time, got {names}")
        for name in self.functions:
            if name not in CATALOGUE and not self.is_custom:
                own = f"{name}:function" if name.endswith(".py") else "file.py:function"
                raise ValueError(f"unknown function {name!r}; expected {own} or one of {', '.join(CATALOGUE)}")
        if not self.is_custom and (self.reference or self.shapes or self.samples or self.json):
            raise ValueError(
                "--reference, --shapes, --samples and --json need a function of your own, before them: file.py:function"
            )
        if self.is_custom and bool(self.shapes) == bool(self.samples):
            raise ValueError(f"{names} needs {'only one of' if self.shapes else 'samples:'} --shapes or --samples")
        if self.functions and self.runs_dir != Path("runs"):
            raise ValueError(f"--runs-dir has no effect with the name of a function, got {names}")
        if len(set(self.functions)) < len(self.functions):
            raise ValueError(f"a function is named twice: {names}")

    @property
    def is_custom(self) -> bool:
        """Whether the function is the user's own."""
        return any(":" in name for name in self.functions)


def main() -> None:
    """Run `bp-torch check`."""
    cli.run(lambda: check(cli.parse(CheckConfig, sys.argv[1:])), CannotCheck, RunError)


def check(config: CheckConfig) -> int:
    """Check what the configuration names."""
    torch.set_num_threads(1)
    if config.is_custom:
        return check_custom(config)
    if config.functions:
        return int(any(report.wrong for report in print_reports(map(check_entry, config.functions))))
    require_no_run(config.runs_dir / RUN)
    with workers() as pool:
        table, passed = check_catalogue(pool)
    show(config.runs_dir, {CHECKED_FUNCTIONS: table})
    return int(not passed)


def check_custom(config: CheckConfig) -> int:
    """Report on one function."""
    function = cli.import_object(config.functions[0], "function")
    reference = cli.import_object(config.reference, "--reference") if config.reference else None
    samples = cli.import_object(config.samples, "--samples") if config.samples else [*map(random_sample, config.shapes)]
    report = check_gradients(function, samples, reference=reference)
    print(json.dumps(report.as_dict(), indent=2, allow_nan=False) if config.json else report)
    return {"right": 0, "wrong": 1, "gradient right": 3}[report.grade]


def random_sample(shapes: str) -> tuple[torch.Tensor, ...]:
    """Random Tensors, the same at every run; '5x4,3x4' makes two.

    Raises:
        UsageError: if it cannot be read, or a Tensor would be too large.
    """
    try:
        sizes = [tuple(int(size) for size in shape.split("x")) for shape in shapes.split(",")]
    except ValueError:
        raise cli.UsageError(f"--shapes {shapes!r} must be sizes such as 5x4,3x4") from None
    if any(min(shape) < 0 or math.prod(shape) > MAX_COMPONENTS for shape in sizes):
        raise cli.UsageError(f"--shapes {shapes!r}: a Tensor may have 0 to {MAX_COMPONENTS:,} components")
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator) for shape in sizes)


def check_catalogue(pool: Executor) -> tuple[str, bool]:
    """Check every function of bp_torch.

    Returns:
        A table of Markdown with a row for each function, and whether all passed.
    """
    reports = print_reports(pool.map(check_entry, CATALOGUE))
    table = "\n".join([entry_report.HEADINGS, *(report.row for report in reports), "", entry_report.ACCURACY])
    return table, not any(report.wrong for report in reports)


def show(runs_dir: Path, tables: Mapping[str, str]) -> None:
    """Write tables of Markdown, by their tags, as a run for TensorBoard."""
    from bp_torch.dashboard.reports import write_tables  # imports TensorBoard

    write_tables(runs_dir / RUN, tables)
    print(f"dashboard: {cli.dashboard(runs_dir, 'text')}")


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
def workers() -> Iterator[Executor]:
    """A process for each core; Ctrl-C reaches this process alone, which then ends the others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A terminated process leaves semaphores, such as tqdm's in torch.fx; the tracker removes them, with a warning.
    filters = filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker"])
    os.environ["PYTHONWARNINGS"] = ",".join(filters)
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
