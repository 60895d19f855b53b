"""Measure the lecture's claims on a real network, and write figures, curves and a table; see --help.

Exit status: 0 measured, whatever holds; 2 what was asked for cannot be done.
"""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from bp_torch import cli
from bp_torch.dashboard.experiment_run import write_experiments
from bp_torch.data import DataError, load
from bp_torch.inspection.experiments import EXPERIMENTS, Claim, Finding, Subject
from bp_torch.training.checkpoint import RunError, require_no_run

RUN = "experiments"


@dataclass(frozen=True)
class ExperimentsConfig:
    """Measure what the lecture says: claim, measured, holds or not."""

    experiments: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which ones; all of them if none is named."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """auto: MNIST where it can be had, otherwise digits drawn on the spot."""
    data_root: Path = Path("data")
    """Where torchvision keeps MNIST."""
    mnist_source: Path | None = None
    """A folder with MNIST's four .gz files, for places without a network (or BP_TORCH_MNIST_SOURCE)."""
    runs_dir: Path = Path("runs")
    """Where TensorBoard looks for runs; the figures go there too."""
    quick: bool = False
    """Rougher figures, in a few seconds."""
    seed: int = 0
    """Of all weights and all draws."""

    def __post_init__(self) -> None:
        """Refuse what is none of them."""
        for name in self.experiments:
            if name not in EXPERIMENTS:
                raise ValueError(f"unknown experiment {name!r}; expected one of {', '.join(EXPERIMENTS)}")
        if not 0 <= self.seed < 2**62:
            raise ValueError(f"--seed must be from 0 to {2**62 - 1:,}, got {self.seed}")


def main() -> int:
    """Do the experiments, one after the other."""
    config = cli.parse(ExperimentsConfig, sys.argv[1:])
    folder = config.runs_dir / RUN
    require_no_run(folder)
    torch.set_num_threads(1)
    dataset = load(config.data, config.data_root, source=config.mnist_source)
    print(f"data: {dataset.origin}", file=sys.stderr)
    subject = Subject(dataset, quick=config.quick, seed=config.seed)
    findings = {name: _timed(name, subject) for name in config.experiments or EXPERIMENTS}
    write_experiments(folder, findings, dataset.origin)
    claims = [claim for finding in findings.values() for claim in finding.claims]
    record = {"data": dataset.name, "quick": config.quick, "seed": config.seed, "claims": [asdict(c) for c in claims]}
    (folder / "claims.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Console().print(_table(claims, dataset.name))
    print(f"figures    {folder}\ndashboard  tensorboard --logdir {config.runs_dir}   (or: make dashboard)")
    return 0


def _timed(name: str, subject: Subject) -> Finding:
    began = time.perf_counter()
    finding = EXPERIMENTS[name](subject)
    print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return finding


def _table(claims: Iterable[Claim], data: str) -> Table:
    table = Table("", "claim", "measured", "holds", title=f"The lecture's claims, measured on {data}", show_lines=True)
    for claim in claims:
        table.add_row(str(claim.statement), claim.claim, claim.measured, "yes" if claim.holds else "no")
    return table


if __name__ == "__main__":
    cli.run(main, DataError, RunError)
