"""Statement 11: who listens to one class only learns to answer that class always."""

import numpy as np
import torch
from matplotlib.figure import Figure

from bp_torch.inspection.experiments.finding import Claim, Finding
from bp_torch.inspection.experiments.style import panels
from bp_torch.inspection.experiments.subject import Subject, learn

SHOWN = 2
"""The lecture's example."""


def one_class(subject: Subject) -> Finding:
    """Teach ten networks one class each, and one network all of them; what do they answer to every test digit?"""
    steps = 150 if subject.quick else 600
    rows = [_answers(subject, subject.labels == label, steps) for label in range(10)]
    rows.append(_answers(subject, torch.ones_like(subject.labels, dtype=torch.bool), steps))
    answers = torch.stack(rows)  # (11, 10): share of the test digits
    own, least = answers[SHOWN, SHOWN].item(), answers.diagonal().min().item()
    claim = Claim(
        11,
        f"taught {SHOWN}s alone, the network answers {SHOWN} to everything",
        f"{own:.1%} of all test digits are read as {SHOWN}; of the ten classes, each taught alone, at least "
        f"{least:.1%}",
        own > 0.99,
        "network",
    )
    return Finding((claim,), {"answers_2_if_taught_2": own, "answers_its_class_least": least}, _draw(answers))


def _answers(subject: Subject, chosen: torch.Tensor, steps: int) -> torch.Tensor:
    """How often each class is answered, (10,), after learning from the chosen examples."""
    model = subject.network()
    learn(model, subject.inputs[chosen], subject.targets[chosen], steps, seed=subject.seed)
    given = model(subject.test_inputs).argmax(1)
    return torch.bincount(given, minlength=10) / len(given)


def _draw(answers: torch.Tensor) -> Figure:
    figure, (axes,) = panels("What a network answers to all test digits", 1)
    axes.grid(visible=False)
    axes.imshow(answers.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(answers.numpy()):
        colour = "black" if share > 0.5 else "white"
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(range(11), [*(f"{label}s alone" for label in range(10)), "all of them"])
    axes.set(xlabel="its answer", ylabel="taught")
    axes.set_xticks(range(10))
    return figure
