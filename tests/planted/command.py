"""The command that checks the checker: `bp-torch check`, and the scoreboard of planted bugs."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from bp_torch.commands import cli
from bp_torch.commands.check import RUN, CheckConfig, check, check_catalogue, show, workers
from bp_torch.dashboard.tags import CHECKED_FUNCTIONS, CHECKER_SCORES
from bp_torch.gradients import CannotCheck
from bp_torch.training.state.run_dir import RunError, require_no_run
from planted.scoreboard import scoreboard


@dataclass(frozen=True)
class ScoreboardConfig(CheckConfig):
    """Check gradients against PyTorch's own, float64 and finite differences.

    Your own function: mine.py:function --shapes 4x8 --reference torch.nn.functional:gelu. Without arguments: every
    function of bp_torch and the planted bugs, also shown in TensorBoard.
    """

    planted: bool = False
    """Only the planted bugs, as a page of Markdown: which checker catches which."""
    seeds: int = 1
    """Number of seeds with which bp_torch's checker must catch a bug, and raise no false alarm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.functions and (self.planted or self.seeds != 1):
            names = " ".join(self.functions)
            raise ValueError(f"--planted and --seeds have no effect with the name of a function, got {names}")
        if self.planted and self.runs_dir != Path("runs"):
            raise ValueError("--planted writes no run: leave out --runs-dir")
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")


def main() -> None:
    cli.run(_check, CannotCheck, RunError)


def _check() -> int:
    config = cli.parse(ScoreboardConfig, sys.argv[1:])
    if config.functions:
        return check(config)
    torch.set_num_threads(1)
    return _print_page(config) if config.planted else _check_everything(config)


def _print_page(config: ScoreboardConfig) -> int:
    with workers() as pool:
        board = scoreboard(range(config.seeds), pool.map)
    print(*board.page(), sep="\n")
    return int(not board.perfect)


def _check_everything(config: ScoreboardConfig) -> int:
    require_no_run(config.runs_dir / RUN)
    with workers() as pool:
        table, passed = check_catalogue(pool)
        board = scoreboard(range(config.seeds), pool.map)
    print("", board.table(), "", sep="\n")
    show(config.runs_dir, {CHECKED_FUNCTIONS: table, CHECKER_SCORES: f"{board.table()}\n\n{board.table_of_kinds()}"})
    return int(not (passed and board.perfect))
