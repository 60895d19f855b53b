"""Statement 15: it takes much labelled data."""

from statistics import mean, stdev

import torch
from matplotlib.figure import Figure

from bp_torch.inspection.experiments.finding import Claim, Finding
from bp_torch.inspection.experiments.style import BLUE, panels
from bp_torch.inspection.experiments.subject import Subject, learn

SIZES = (100, 300, 1000, 3000, 10_000, 30_000)


def labelled_data(subject: Subject) -> Finding:
    """Teach networks from more and more examples, by the same number of steps; how well do they read new digits?"""
    steps, seeds = (1000, 2) if subject.quick else (6000, 3)
    known = SIZES[:3:2] if subject.quick else SIZES
    sizes = (*(size for size in known if size < len(subject.inputs)), len(subject.inputs))
    reached = {size: [_reached(subject, size, steps, seed) for seed in range(seeds)] for size in sizes}
    means = {size: mean(found) for size, found in reached.items()}
    least, most = sizes[0], sizes[-1]
    claim = Claim(
        15,
        "it takes much labelled data to read new digits well",
        "test accuracy "
        + ", ".join(f"{_told(reached[size])} from {size:,}" for size in (least, sizes[len(sizes) // 2], most))
        + f" examples, by {steps:,} steps each; mean ± standard deviation of {seeds} seeds",
        min(reached[most]) > max(reached[least]),
        "network",
    )
    return Finding((claim,), {"accuracy_from_all": means[most]}, _draw(reached, steps), {"test_accuracy": means})


def _reached(subject: Subject, size: int, steps: int, seed: int) -> float:
    """The test accuracy after learning from so many examples, drawn by the seed."""
    generator = torch.Generator().manual_seed(subject.seed + seed)
    chosen = torch.randperm(len(subject.inputs), generator=generator)[:size]
    model = subject.network(seed)
    learn(model, subject.inputs[chosen], subject.targets[chosen], steps, seed=subject.seed + seed)
    return subject.accuracy(model)


def _told(found: list[float]) -> str:
    return f"{mean(found):.1%} ± {stdev(found) * 100:.1f}"


def _draw(reached: dict[int, list[float]], steps: int) -> Figure:
    figure, (axes,) = panels(f"Accuracy on new digits, after {steps:,} steps", 1)
    sizes = list(reached)
    axes.errorbar(
        sizes,
        [mean(found) for found in reached.values()],
        [stdev(found) for found in reached.values()],
        fmt="o-",
        color=BLUE,
        capsize=3,
    )
    for size, found in reached.items():
        axes.annotate(f"{mean(found):.1%}", (size, mean(found)), (0, -16), textcoords="offset points", ha="center")
    axes.set(xscale="log", xlabel="labelled examples to learn from", ylabel="test accuracy", ylim=(0, 1.02))
    return figure
