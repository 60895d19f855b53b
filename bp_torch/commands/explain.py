"""Explain one test digit: its nudges of every weight, bias, activation and pixel.

Exit status: 0 explained; 2 bad usage or data.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from bp_torch.commands import cli
from bp_torch.data import DataError, load
from bp_torch.functional import squared_error
from bp_torch.inspection import Explanation, Wiggle, explain, hebbian, sensitivities, wiggle
from bp_torch.inspection.drawing import draw_explanation
from bp_torch.inspection.experiments import Setup
from bp_torch.inspection.per_example import Cost
from bp_torch.inspection.tables import explanation_tables, explanation_title, hebbian_table, sensitivity_table
from bp_torch.training.backends import COSTS
from bp_torch.training.state.run import load_trained, run_folder
from bp_torch.training.state.run_dir import RunError, require_no_run

MOST = 5
"""Connections and weights that are listed."""


@dataclass(frozen=True)
class ExplainConfig:
    """Explain one test digit to the terminal and as a figure."""

    example: int = 0
    """Which test digit, from 0."""
    checkpoint: Path | None = None
    """A run's folder, or a checkpoint in it; without one, the lecture's network is taught first, for two seconds."""
    output: int | None = None
    """The output neuron whose three avenues are shown; the right one if not given."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """auto: what the checkpoint was trained on; otherwise MNIST where it can be had, or digits drawn on the spot."""
    data_root: Path = Path("data")
    """Where torchvision keeps MNIST."""
    mnist_source: Path | None = None
    """A folder with MNIST's four .gz files, for places without a network (or BP_TORCH_MNIST_SOURCE)."""
    runs_dir: Path = Path("runs")
    """The figure is written to its folder 'explain'."""

    def __post_init__(self) -> None:
        """Refuse what is no output."""
        if self.output is not None and not 0 <= self.output < 10:
            raise ValueError(f"--output must be from 0 to 9, got {self.output}")


def main() -> None:
    """Run `bp-torch explain`."""
    cli.run(_explain, DataError, RunError)


def _explain() -> int:
    config = cli.parse(ExplainConfig, sys.argv[1:])
    torch.set_num_threads(1)
    run, network = load_trained(config.checkpoint) if config.checkpoint else (None, None)
    name = run.data if run and config.data == "auto" else config.data
    dataset = load(name, config.data_root, source=config.mnist_source)
    if not 0 <= config.example < len(dataset.test.labels):
        raise cli.UsageError(f"--example must be from 0 to {len(dataset.test.labels) - 1:,}, got {config.example}")
    path = _figure_path(config, dataset.name)
    model, cost = network or Setup(dataset).trained, COSTS[run.cost].function if run else squared_error
    image, label = dataset.test.images[config.example], int(dataset.test.labels[config.example])
    explanation = explain(model, cost, image, label)
    title = explanation_title(explanation, config.example, label)
    print(f"data: {dataset.origin}\n{title}")
    strengthened = hebbian_table(hebbian([explanation], count=MOST))
    moved = sensitivity_table(_wiggled(model, cost, explanation))
    Console().print(explanation_tables(explanation, config.output), strengthened, moved)
    draw_explanation(explanation, config.output, title=title).savefig(path)
    print(f"figure: {path}")
    return 0


def _figure_path(config: ExplainConfig, data: str) -> Path:
    """A file for each network, digit and output, in a folder that is made now and not when all is said."""
    network = "taught" if config.checkpoint is None else run_folder(config.checkpoint).resolve().name
    chosen = "" if config.output is None else f"_output_{config.output}"
    folder = config.runs_dir / "explain"
    require_no_run(folder)
    (folder / network).mkdir(exist_ok=True)
    return folder / network / f"{data}_{config.example}{chosen}.png"


def _wiggled(model: torch.nn.Module, cost: Cost, explanation: Explanation) -> list[Wiggle]:
    """For this digit: the most sensitive weights and biases, and one that is a hundred times less so."""
    batch = explanation.image[None], explanation.target[None]
    most, *others = sensitivities(model, cost, *batch)
    chosen = [most, *others[: MOST - 1], min(others, key=lambda one: abs(100 * one.size - most.size))]
    return [wiggle(model, cost, *batch, one) for one in chosen]
