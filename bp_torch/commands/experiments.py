"""Measure the lecture's claims on a real network, and write figures, curves and a table.

Exit status: 0 measured, whether the claims hold or not; 2 bad usage or data.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console

from bp_torch.commands import cli
from bp_torch.dashboard.reports import write_experiments
from bp_torch.data import DataError, load
from bp_torch.inspection.experiments import EXPERIMENTS, ExperimentResult, Setup
from bp_torch.inspection.tables import claims_list
from bp_torch.training.state.run_dir import RunError, require_no_run, update_json


@dataclass(frozen=True)
class ExperimentsConfig:
    """Measure the claims of the lecture on backpropagation: claim, figure, holds or not."""

    experiments: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of experiments; by default, all."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """auto: MNIST, or synthetic digits if it cannot be downloaded."""
    data_root: Path = Path("data")
    """Folder of MNIST, as torchvision stores it."""
    mnist_source: Path | None = None
    """A folder with MNIST's four .gz files, instead of a download (or set BP_TORCH_MNIST_SOURCE)."""
    runs_dir: Path = Path("runs")
    """Folder of all runs; figures and TensorBoard's events are written to its folder 'experiments'."""
    quick: bool = False
    """Measure roughly, in a few seconds."""
    seed: int = 0
    """Seed of initial weights and random choices."""

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown experiment or an invalid seed."""
        for name in self.experiments:
            if name not in EXPERIMENTS:
                raise ValueError(f"unknown experiment {name!r}; expected one of {', '.join(EXPERIMENTS)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must be from 0 to {2**32 - 1:,}, got {self.seed:,}")


def main() -> None:
    """Run `bp-torch experiments`."""
    cli.run(_measure, DataError, RunError)


def _measure() -> int:
    config = cli.parse(ExperimentsConfig, sys.argv[1:])
    torch.set_num_threads(1)
    dataset = load(config.data, config.data_root, source=config.mnist_source)
    folder = config.runs_dir / "experiments"
    require_no_run(folder)
    print(f"data: {dataset.origin}", file=sys.stderr)
    setup = Setup(dataset, quick=config.quick, seed=config.seed)
    claims = write_experiments(folder, _results(config, setup, folder), _describe(config, dataset.origin))
    title = f"The lecture's claims, measured on {_describe(config, dataset.name)}"
    Console().print(claims_list(claims, title), markup=False)
    print(f"figures     {folder}\ndashboard   {cli.dashboard(config.runs_dir, 'images')}")
    return 0


def _results(config: ExperimentsConfig, setup: Setup, folder: Path) -> Iterator[tuple[str, ExperimentResult]]:
    """Run the experiments; add their claims to those of earlier sessions in claims.json."""
    for name in dict.fromkeys(config.experiments or EXPERIMENTS):
        began = time.perf_counter()
        result = EXPERIMENTS[name](setup)
        yield name, result
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        settings = {"data": setup.name, "quick": config.quick, "seed": config.seed}
        update_json(folder / "claims.json", {name: settings | {"claims": [claim._asdict() for claim in result.claims]}})


def _describe(config: ExperimentsConfig, data: str) -> str:
    return f"{data}, seed {config.seed}" + (", quick: rough figures" if config.quick else "")
