"""Statement 15: it takes much labelled data."""

from statistics import mean, stdev

import torch
from matplotlib.figure import Figure

from bp_torch.data import accuracy_of
from bp_torch.inspection.experiments.result import Claim, ExperimentResult
from bp_torch.inspection.experiments.setup import Setup, train
from bp_torch.inspection.figures import BLUE, panels

SIZES = (100, 300, 1000, 3000, 10_000, 30_000)


def labelled_data(setup: Setup) -> ExperimentResult:
    """Train networks on more and more examples, by the same number of steps; how well do they read new digits?"""
    steps, seeds = (600, 2) if setup.quick else (6000, 3)
    known = SIZES[:3:2] if setup.quick else SIZES
    sizes = (*(size for size in known if size < len(setup.inputs)), len(setup.inputs))
    reached = {size: [_reached(setup, size, steps, seed) for seed in range(seeds)] for size in sizes}
    means = {size: mean(found) for size, found in reached.items()}
    least, most = sizes[0], sizes[-1]
    claim = Claim(
        15,
        "it takes much labelled data to read new digits well",
        "test accuracy "
        + ", ".join(f"{_summary(reached[size])} from {size:,}" for size in (least, sizes[len(sizes) // 2], most))
        + f" examples, by {steps:,} steps each; mean ± standard deviation of {seeds} seeds",
        min(reached[most]) > max(reached[least]),
        "network",
    )
    metrics = {"accuracy_from_all": means[most]}
    return ExperimentResult((claim,), metrics, _draw(reached, steps), {"test_accuracy": means})


def _reached(setup: Setup, size: int, steps: int, seed: int) -> float:
    """The test accuracy after training on so many examples, drawn by the seed."""
    generator = torch.Generator().manual_seed(setup.seed + seed)
    chosen = torch.randperm(len(setup.inputs), generator=generator)[:size]
    model = train(setup.network(seed), setup.inputs[chosen], setup.targets[chosen], steps, seed=setup.seed + seed)
    return accuracy_of(model(setup.test_inputs), setup.test_labels)


def _summary(found: list[float]) -> str:
    return f"{mean(found):.1%} ± {stdev(found) * 100:.1f}"


def _draw(reached: dict[int, list[float]], steps: int) -> Figure:
    figure, (axes,) = panels(f"Accuracy on new digits, after {steps:,} steps", 1)
    means, deviations = (list(map(summary, reached.values())) for summary in (mean, stdev))
    axes.errorbar(list(reached), means, deviations, fmt="o-", color=BLUE, capsize=3)
    for place in zip(reached, means, strict=True):
        axes.annotate(f"{place[1]:.1%}", place, (0, -16), textcoords="offset points", ha="center")
    axes.set(xscale="log", xlabel="labelled examples to learn from", ylabel="test accuracy", ylim=(0, 1.02))
    return figure
