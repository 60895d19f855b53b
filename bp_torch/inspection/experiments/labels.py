"""Statements 11 and 15: one class alone teaches to answer that class always; and it takes much labelled data."""

from statistics import mean, stdev

import torch
from matplotlib.figure import Figure

from bp_torch.data import accuracy_of
from bp_torch.inspection.experiments.setup import Claim, ExperimentResult, Setup, train
from bp_torch.inspection.figures import BLUE, panels

SHOWN = 2
"""The lecture's example."""
SIZES = (100, 300, 1000, 3000, 10_000, 30_000)


def one_class(setup: Setup) -> ExperimentResult:
    """Train ten networks on one class each, and one on all of them; what do they answer to every test digit?"""
    steps = 150 if setup.quick else 600
    rows = [_answers(setup, setup.labels == label, steps) for label in range(10)]
    rows.append(_answers(setup, torch.ones_like(setup.labels, dtype=torch.bool), steps))
    answers = torch.stack(rows)  # (11, 10): share of the test digits
    own, least = answers[SHOWN, SHOWN].item(), answers.diagonal().min().item()
    claim = Claim(
        11,
        f"trained on {SHOWN}s alone, the network answers {SHOWN} to everything",
        f"{own:.1%} of all test digits are read as {SHOWN}; of ten classes taught alone, at least {least:.1%} each",
        own > 0.99,
    )
    metrics = {"answers_2_if_taught_2": own, "answers_its_class_least": least}
    return ExperimentResult((claim,), metrics, _draw_answers(answers))


def _answers(setup: Setup, chosen: torch.Tensor, steps: int) -> torch.Tensor:
    """How often each class is answered, (10,), after training on the chosen examples."""
    model = train(setup.network(), setup.inputs[chosen], setup.targets[chosen], steps, seed=setup.seed)
    answers = model(setup.test_inputs).argmax(1)
    return torch.bincount(answers, minlength=10) / len(answers)


def _draw_answers(answers: torch.Tensor) -> Figure:
    figure, (axes,) = panels("What a network answers to all test digits", 1)
    axes.grid(visible=False)
    axes.imshow(answers.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in torch.ones_like(answers).nonzero().tolist():
        share = answers[row, column].item()
        colour = "black" if share > 0.5 else "white"
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_yticks(range(11), [*(f"{label}s alone" for label in range(10)), "all of them"])
    axes.set(xlabel="its answer", ylabel="trained on")
    axes.set_xticks(range(10))
    return figure


def labelled_data(setup: Setup) -> ExperimentResult:
    """Train networks on more and more examples, by the same number of steps; how well do they read new digits?"""
    steps, seeds = (600, 2) if setup.quick else (6000, 3)
    known = SIZES[:3:2] if setup.quick else SIZES
    sizes = (*(size for size in known if size < len(setup.inputs)), len(setup.inputs))
    reached = {size: [_reached(setup, size, steps, seed) for seed in range(seeds)] for size in sizes}
    means = {size: mean(found) for size, found in reached.items()}
    least, most = sizes[0], sizes[-1]
    shown = {size: reached[size] for size in (least, sizes[len(sizes) // 2], most)}
    told = ", ".join(f"{mean(found):.1%} ± {100 * stdev(found):.1f} from {size:,}" for size, found in shown.items())
    claim = Claim(
        15,
        "it takes much labelled data to read new digits well",
        f"test accuracy {told} examples, by {steps:,} steps each; mean ± standard deviation of {seeds} seeds",
        min(reached[most]) > max(reached[least]),
    )
    figure = _draw_accuracies(reached, steps)
    return ExperimentResult((claim,), {"accuracy_from_all": means[most]}, figure, {"test_accuracy": means})


def _reached(setup: Setup, size: int, steps: int, seed: int) -> float:
    """The test accuracy after training on so many examples, drawn by the seed."""
    generator = torch.Generator().manual_seed(setup.seed + seed)
    chosen = torch.randperm(len(setup.inputs), generator=generator)[:size]
    model = train(setup.network(seed), setup.inputs[chosen], setup.targets[chosen], steps, seed=setup.seed + seed)
    return accuracy_of(model(setup.test_inputs), setup.test_labels)


def _draw_accuracies(reached: dict[int, list[float]], steps: int) -> Figure:
    figure, (axes,) = panels(f"Accuracy on new digits, after {steps:,} steps", 1)
    means, deviations = (list(map(summary, reached.values())) for summary in (mean, stdev))
    axes.errorbar(list(reached), means, deviations, fmt="o-", color=BLUE, capsize=3)
    for place in zip(reached, means, strict=True):
        axes.annotate(f"{place[1]:.1%}", place, (0, -16), textcoords="offset points", ha="center")
    axes.set(xscale="log", xlabel="labelled examples to learn from", ylabel="test accuracy", ylim=(0, 1.02))
    return figure
