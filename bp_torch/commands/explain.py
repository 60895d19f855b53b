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
from bp_torch.inspection.tables import explanation_tables, hebbian_table, sensitivity_table
from bp_torch.training.backends import COSTS
from bp_torch.training.state.run import load_trained, run_folder
from bp_torch.training.state.run_dir import RunError, require_no_run

MOST = 5
"""Number of connections and of weights in the tables."""


@dataclass(frozen=True)
class ExplainConfig:
    """Explain one test digit, in tables and in a figure."""

    example: int = 0
    """Index of the test digit, from 0; it is not the digit itself."""
    checkpoint: Path | None = None
    """A run's folder, or a checkpoint in it; by default, the lecture's network is trained for two seconds."""
    output: int | None = None
    """The output neuron whose three avenues are shown; by default, the one of the label."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """auto: what the checkpoint was trained on; otherwise MNIST, or synthetic digits if it cannot be downloaded."""
    data_root: Path = Path("data")
    """Folder of MNIST, as torchvision stores it."""
    mnist_source: Path | None = None
    """A folder with MNIST's four .gz files, instead of a download (or set BP_TORCH_MNIST_SOURCE)."""
    runs_dir: Path = Path("runs")
    """Folder of all runs; the figure is written to its folder 'explain'."""

    def __post_init__(self) -> None:
        """Raise ValueError if there is no such output."""
        if self.output is not None and not 0 <= self.output < 10:
            raise ValueError(f"--output must be from 0 to 9, got {self.output}")


def main() -> None:
    """Run `bp-torch explain`."""
    cli.run(_explain, DataError, RunError)


def _explain() -> int:
    config = cli.parse(ExplainConfig, sys.argv[1:])
    torch.set_num_threads(1)
    run, network = load_trained(config.checkpoint) if config.checkpoint else (None, None)
    if run and run.model != "mlp":
        raise cli.UsageError(f"--checkpoint {config.checkpoint} is a {run.model}; only a network of mlp is explained")
    name = run.data if run and config.data == "auto" else config.data
    dataset = load(name, config.data_root, source=config.mnist_source)
    if not 0 <= config.example < len(dataset.test.labels):
        raise cli.UsageError(f"--example must be from 0 to {len(dataset.test.labels) - 1:,}, got {config.example}")
    path = _figure_path(config, dataset.name)
    model, cost = network or Setup(dataset).trained, COSTS[run.cost].function if run else squared_error
    image, label = dataset.test.images[config.example], int(dataset.test.labels[config.example])
    explanation = explain(model, cost, image, label)
    read_as = int(explanation.outputs.argmax())
    title = f"Test example {config.example}, labelled {label}, read as {read_as}: cost {explanation.cost:.4f}"
    trained = config.checkpoint or "trained now; --checkpoint runs/NAME explains a network of yours"
    print(f"data: {dataset.origin}\nnetwork: {trained}\n{title}")
    strengthened = hebbian_table(hebbian([explanation], count=MOST))
    sensitive = sensitivity_table(_wiggled(model, cost, explanation))
    Console().print(explanation_tables(explanation, config.output), strengthened, sensitive)
    draw_explanation(explanation, config.output, title=title).savefig(path)
    print(f"figure: {path}")
    return 0


def _figure_path(config: ExplainConfig, data: str) -> Path:
    """The file for a network, digit and output; its folder is made, so that an error comes early."""
    network = "trained" if config.checkpoint is None else run_folder(config.checkpoint).resolve().name
    chosen = "" if config.output is None else f"_output_{config.output}"
    folder = config.runs_dir / "explain"
    require_no_run(folder)
    (folder / network).mkdir(exist_ok=True)
    return folder / network / f"{data}_{config.example}{chosen}.png"


def _wiggled(model: torch.nn.Module, cost: Cost, explanation: Explanation) -> list[Wiggle]:
    """Wiggle the most sensitive weights and biases of a digit, and one that is a hundred times less sensitive."""
    batch = explanation.image[None], explanation.target[None]
    most, *others = sensitivities(model, cost, *batch)
    chosen = [most, *others[: MOST - 1], min(others, key=lambda one: abs(100 * one.size - most.size))]
    return [wiggle(model, cost, *batch, one) for one in chosen]
