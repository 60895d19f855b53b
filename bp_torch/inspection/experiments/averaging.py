"""Statement 10: the average of the examples' nudges is minus the gradient, and what a step applies."""

import copy
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils import parameters_to_vector as flatten

from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.setup import BATCH_SIZE, Claim, ExperimentResult, Setup, cost
from bp_torch.inspection.figures import DIVERGING
from bp_torch.inspection.per_example import per_example_gradients
from bp_torch.inspection.sensitivity import Sensitivity, sensitivities
from bp_torch.nn import as_builtin

TITLE = "Each example's nudges of some weights and biases, in thousandths; the deepest colour is twice an average"
ROWS, COLUMNS = 8, 8
"""Of the table that is drawn."""


def averaging(setup: Setup) -> ExperimentResult:
    """Average the gradients of a mini-batch's examples; is it the gradient, and what the step applies?"""
    model = setup.partly_trained
    inputs, targets = setup.inputs[:BATCH_SIZE], setup.targets[:BATCH_SIZE]
    averaged = flatten(each.mean(0) for each in per_example_gradients(model, cost, inputs, targets).values())
    automatic, applied = _automatic(model, inputs, targets), _applied(model, inputs, targets)
    from_gradient, from_step = ((averaged - other).abs().max().item() for other in (automatic, applied))
    largest = automatic.abs().max().item()
    claim = Claim(
        10,
        f"the average of the gradients of {BATCH_SIZE} examples is the gradient, and what SGD applies",
        f"largest difference from autograd's gradient {from_gradient:.1e}, from the step / learning rate "
        f"{from_step:.1e}, of components up to {largest:.2g}",
        max(from_gradient, from_step) < 1e-5 * largest,
        "equation",
    )
    rows = sensitivities(model, cost, inputs, targets)[: ROWS * 24 : 24]
    metrics = {"largest_difference_from_gradient": from_gradient, "largest_difference_from_step": from_step}
    return ExperimentResult((claim,), metrics, _draw(rows, example_nudges(model, inputs, targets, rows), inputs))


def _automatic(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The mini-batch's gradient, by autograd through PyTorch's own layers and cost."""
    builtin = as_builtin(model)
    value = torch.nn.functional.mse_loss(builtin(inputs), targets, reduction="sum") / len(inputs)
    return flatten(torch.autograd.grad(value, list(builtin.parameters())))


def _applied(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """What one step of SGD subtracts for each unit of the learning rate, in float64: w − w′ rounds as w does."""
    moved = copy.deepcopy(model).double()
    before = flatten(moved.parameters()).detach()
    Backprop(moved, cost).sgd_step(inputs.double(), targets.double(), 1.0)
    return (before - flatten(moved.parameters()).detach()).float()


def example_nudges(model: torch.nn.Module, inputs: Tensor, targets: Tensor, rows: Sequence[Sensitivity]) -> Tensor:
    """−∂Cₙ/∂w, how example n would change each of these weights and biases, (rows, N)."""
    gradients = per_example_gradients(model, cost, inputs, targets)
    return torch.stack([-gradients[row.name].movedim(0, -1)[row.index] for row in rows])


def _draw(rows: Sequence[Sensitivity], nudges: Tensor, inputs: Tensor) -> Figure:
    """The lecture's table: its columns are headed by the digits, and the last is the average, which SGD applies."""
    figure = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    figure.suptitle(TITLE, fontsize=13)
    columns = COLUMNS + 2  # examples, dots, average
    numbers = torch.full((ROWS, columns), torch.nan)
    numbers[:, :COLUMNS], numbers[:, -1] = 1000 * nudges[:, :COLUMNS], 1000 * nudges.mean(1)
    grid = figure.add_gridspec(2, columns, height_ratios=(1, ROWS * 0.6), hspace=0.02, wspace=0.02)
    for column in range(COLUMNS):
        digit = figure.add_subplot(grid[0, column])
        digit.imshow(inputs[column].reshape(28, 28).numpy(), cmap="gray_r")
        digit.set_axis_off()
    axes = figure.add_subplot(grid[1, :])
    limit = 2 * numbers[:, -1].abs().max().item()  # a few nudges are far larger
    axes.imshow(numbers.numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    for row in range(ROWS):
        for column in (*range(COLUMNS), columns - 1):
            shown = f"{numbers[row, column]:+.1f}".replace("+0.0", "0").replace("-0.0", "0")
            axes.text(column, row, shown, ha="center", va="center", fontsize=9)
        axes.text(COLUMNS, row, "…", ha="center", va="center")
    axes.set_yticks(range(ROWS), list(map(str, rows)), fontsize=8)
    axes.set_xticks([columns - 1], [f"average\nof {len(inputs)}"])
    return figure
