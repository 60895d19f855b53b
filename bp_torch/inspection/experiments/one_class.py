"""Statement 11: a network trained on one class only learns to answer that class always."""

import torch
from matplotlib.figure import Figure

from bp_torch.inspection.experiments.result import Claim, ExperimentResult
from bp_torch.inspection.experiments.setup import Setup, train
from bp_torch.inspection.figures import draw_shares, panels

SHOWN = 2
"""The lecture's example."""


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
        "network",
    )
    return ExperimentResult((claim,), {"answers_2_if_taught_2": own, "answers_its_class_least": least}, _draw(answers))


def _answers(setup: Setup, chosen: torch.Tensor, steps: int) -> torch.Tensor:
    """How often each class is answered, (10,), after training on the chosen examples."""
    model = train(setup.network(), setup.inputs[chosen], setup.targets[chosen], steps, seed=setup.seed)
    answers = model(setup.test_inputs).argmax(1)
    return torch.bincount(answers, minlength=10) / len(answers)


def _draw(answers: torch.Tensor) -> Figure:
    figure, (axes,) = panels("What a network answers to all test digits", 1)
    axes.grid(visible=False)
    draw_shares(axes, answers.double().numpy(), lambda row, column: f"{answers[row, column]:.0%}")
    axes.set_yticks(range(11), [*(f"{label}s alone" for label in range(10)), "all of them"])
    axes.set(xlabel="its answer", ylabel="trained on")
    axes.set_xticks(range(10))
    return figure
