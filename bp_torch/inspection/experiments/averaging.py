"""Statement 10: record what each example asks for, and average; that is the gradient, and what a step applies."""

import copy

import torch
from matplotlib.figure import Figure
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.inspection.drawing import WISHES
from bp_torch.inspection.experiments.finding import Claim, Finding
from bp_torch.inspection.experiments.subject import BATCH_SIZE, Subject, cost, flat, place
from bp_torch.inspection.per_example import per_example_gradients
from bp_torch.inspection.per_example_table import PerExampleTable, per_example_table
from bp_torch.inspection.sensitivity import sensitivities
from bp_torch.nn import as_builtin

TITLE = "What each example wishes of some weights and biases, in thousandths; the deepest colour is twice an average"
ROWS, COLUMNS = 8, 8
"""Of the table that is drawn."""


def averaging(subject: Subject) -> Finding:
    """Average what a mini-batch's examples ask for; is it the gradient, and what the step applies?"""
    model = subject.learning
    inputs, targets = subject.inputs[:BATCH_SIZE], subject.targets[:BATCH_SIZE]
    averaged = flat(each.mean(0) for each in per_example_gradients(model, cost, inputs, targets).values())
    automatic, applied = _automatic(model, inputs, targets), _applied(model, inputs, targets)
    from_gradient, from_step = ((averaged - other).abs().max().item() for other in (automatic, applied))
    largest = automatic.abs().max().item()
    claim = Claim(
        10,
        f"the average of what {BATCH_SIZE} examples ask for is the gradient, and what SGD applies",
        f"largest difference from autograd's gradient {from_gradient:.1e}, from the step / learning rate "
        f"{from_step:.1e}, of components up to {largest:.2g}",
        max(from_gradient, from_step) < 1e-5 * largest,
        "equation",
    )
    ranked = sensitivities(model, cost, inputs, targets)
    table = per_example_table(model, cost, inputs, targets, ranked[: ROWS * 24 : 24])
    merits = {"largest_difference_from_gradient": from_gradient, "largest_difference_from_step": from_step}
    return Finding((claim,), merits, _draw(table, inputs))


def _automatic(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The mini-batch's gradient, by autograd through PyTorch's own layers and cost."""
    builtin = as_builtin(model)
    value = torch.nn.functional.mse_loss(builtin(inputs), targets, reduction="sum") / len(inputs)
    return flat(torch.autograd.grad(value, list(builtin.parameters())))


def _applied(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """What one step of SGD subtracts for each unit of the learning rate, in float64: w − w′ rounds as w does."""
    moved = copy.deepcopy(model).double()
    before = place(moved)
    Backprop(moved, cost).sgd_step(inputs.double(), targets.double(), 1.0)
    return (before - place(moved)).float()


def _draw(table: PerExampleTable, inputs: Tensor) -> Figure:
    """The lecture's table: its columns are headed by the digits."""
    figure = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    figure.suptitle(TITLE, fontsize=13)
    columns = COLUMNS + 2  # examples, dots, average
    numbers = torch.full((len(table.rows), columns), torch.nan)
    numbers[:, :COLUMNS], numbers[:, -1] = 1000 * table.nudges[:, :COLUMNS], 1000 * table.average
    grid = figure.add_gridspec(2, columns, height_ratios=(1, len(table.rows) * 0.6), hspace=0.02, wspace=0.02)
    for column in range(COLUMNS):
        digit = figure.add_subplot(grid[0, column])
        digit.imshow(inputs[column].reshape(28, 28).numpy(), cmap="gray_r")
        digit.set_axis_off()
    axes = figure.add_subplot(grid[1, :])
    limit = 2 * numbers[:, -1].abs().max().item()  # a few wishes are far larger
    axes.imshow(numbers.numpy(), cmap=WISHES, vmin=-limit, vmax=limit, aspect="auto")
    for row in range(len(table.rows)):
        for column in (*range(COLUMNS), columns - 1):
            axes.text(column, row, _told(numbers[row, column].item()), ha="center", va="center", fontsize=9)
        axes.text(COLUMNS, row, "…", ha="center", va="center")
    axes.set_yticks(range(len(table.rows)), [str(row) for row in table.rows], fontsize=8)
    axes.set_xticks([columns - 1], [f"average\nof {table.nudges.shape[1]}"])
    return figure


def _told(number: float) -> str:
    return "0" if abs(number) < 0.05 else f"{number:+.1f}"
