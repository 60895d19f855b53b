"""Statements 4, 5 and 10: the gradient as the best direction, as a sensitivity, as an average over examples."""

import copy
import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils import parameters_to_vector as flatten

from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.setup import BATCH_SIZE, Claim, ExperimentResult, Setup, cost, costs_at
from bp_torch.inspection.figures import BLUE, DIVERGING, GREEN, GREY, ORANGE, panels
from bp_torch.inspection.per_example import per_example_gradients
from bp_torch.inspection.sensitivity import Sensitivity, Wiggle, sensitivities, wiggle
from bp_torch.nn import as_builtin

EXAMPLES = 500
LENGTH = 1e-3
"""Length of the step of all weights and biases together."""
RATIO = 32
"""3.2 to 0.1, in the lecture."""
WIGGLED = 16
ROWS, COLUMNS = 8, 8
"""Size of the table in the figure."""


def direction(setup: Setup) -> ExperimentResult:
    """Compare the decrease of the cost along the negative gradient, at angles to it, and in random directions."""
    model = copy.deepcopy(setup.partly_trained).double()
    inputs, targets = setup.inputs[:EXAMPLES].double(), setup.targets[:EXAMPLES].double()
    _, gradients = Backprop(model, cost).gradients(inputs, targets)
    downhill = -flatten(gradients.values())
    generator = torch.Generator().manual_seed(setup.seed)
    random = normalize(torch.randn(100 if setup.quick else 1000, len(downhill), generator=generator).double())
    angles = torch.linspace(0, math.pi, 37).double()
    steps = torch.cat([_tilted(downhill, random[: len(angles)], angles), random])
    start = flatten(model.parameters()).detach()
    first, *after = costs_at(model, [start, *(start + LENGTH * step for step in steps)], inputs, targets)
    decreases = (first - torch.stack(after)) / (LENGTH * downhill.norm())
    tilted, at_random = decreases.split([len(angles), len(random)])
    best, others = tilted[0].item(), decreases[1:]  # the first is along the negative gradient itself
    claim = Claim(
        4,
        "the negative gradient is the direction that decreases the cost most efficiently",
        f"it decreases the cost by {best:.4f} of what its length predicts; 5° aside it is {tilted[1] / best:.4f} of "
        f"that, and the best of {len(at_random):,} random directions, nearly all orthogonal to it, "
        f"{at_random.max() / best:.1%} (the cost of {EXAMPLES} examples, a step of length {LENGTH:g})",
        abs(best - 1) < 0.01 and others.max().item() < best,
        "every network",
    )
    metrics = {"decrease_along_gradient": best, "decrease_best_at_random": at_random.max().item()}
    figure = _draw_directions(angles, tilted, normalize(downhill[None])[0] @ random.t(), at_random)
    return ExperimentResult((claim,), metrics, figure)


def _tilted(downhill: Tensor, aside: Tensor, angles: Tensor) -> Tensor:
    """Unit vectors at these angles to `downhill`, each towards a row of `aside`, (angles, parameters)."""
    along = normalize(downhill[None])
    across = normalize(aside - (aside @ along.t()) * along)
    return angles.cos()[:, None] * along + angles.sin()[:, None] * across


def _draw_directions(angles: Tensor, tilted: Tensor, cosines: Tensor, at_random: Tensor) -> Figure:
    figure, (axes,) = panels("How much a step of the same length decreases the cost", 1)
    degrees = angles.rad2deg()
    axes.plot(degrees, angles.cos(), color=GREY, label="cosine of the angle")
    axes.plot(degrees, tilted, "o", color=BLUE, label="measured, at every angle")
    axes.plot(
        cosines.acos().rad2deg(), at_random, ".", color=ORANGE, markersize=4, label=f"{len(at_random):,} at random"
    )
    axes.set(xlabel="angle to the negative gradient, degrees", ylabel="decrease / (length · ‖∇C‖)")
    axes.set_xticks(range(0, 181, 45))
    axes.legend()
    return figure


def wiggles(setup: Setup) -> ExperimentResult:
    """Rank all weights and biases of the trained network, and compare the sensitivity of some with a wiggle."""
    examples = 1000 if setup.quick else 10_000
    inputs, targets = setup.inputs[:examples], setup.targets[:examples]
    ranked = sensitivities(setup.trained, cost, inputs, targets)
    most = ranked[0]
    partner = min(ranked, key=lambda one: abs(one.size * RATIO - most.size))
    chosen = [most, partner, *ranked[1 : len(ranked) // 2 : len(ranked) // (2 * WIGGLED)]]
    measured = [wiggle(setup.trained, cost, inputs, targets, one) for one in chosen]
    ratio = abs(measured[0].measured / measured[1].measured)
    order = torch.tensor([one.order for one in measured]).nanmedian().item()
    compared = f"{most.compare_to(partner)}; wiggled, the cost changes {ratio:.1f} times as much"
    same = abs(ratio / RATIO - 1) < 0.1
    worst = torch.tensor([one.measured / one.predicted - 1 for one in measured]).abs().max().item()
    claims = (
        Claim(
            5,
            "a component's size is the cost's sensitivity to that weight or bias",
            f"{len(measured)} of the more sensitive half moved by {measured[0].step:.4f}: the cost changes as "
            f"predicted, to {worst:.1%}; Taylor order {order:.2f} in the median",
            worst < 0.1 and abs(order - 2) < 0.1,
            "every network",
        ),
        Claim(5, f"{RATIO} times as large is {RATIO} times as sensitive", compared, same, "every network"),
    )
    metrics = {"largest_gradient": most.size, "measured_ratio": ratio, "taylor_order": order}
    return ExperimentResult(claims, metrics, _draw_sensitivities(ranked, measured))


def _draw_sensitivities(ranked: list[Sensitivity], measured: list[Wiggle]) -> Figure:
    figure, (sizes, changes) = panels("How sensitive the cost is to every weight and bias", 2)
    for layer, colour in zip(("hidden1", "hidden2", "output"), (GREY, GREEN, ORANGE), strict=True):
        own = [one.size for one in ranked if one.layer == layer]
        sizes.plot(range(1, len(own) + 1), own, color=colour, label=layer)
    sizes.set(title="|∂C/∂w|, ranked in each layer", xscale="log", xlabel="rank")
    sizes.set(yscale="log", ylim=(ranked[0].size / 1e5, None))
    sizes.legend()
    _draw_changes(changes, measured)
    return figure


def _draw_changes(axes: Axes, wiggles: list[Wiggle]) -> None:
    """Draw each measured change over the predicted one, and the line where they agree."""
    predicted, measured = ([abs(getattr(one, name)) for one in wiggles] for name in ("predicted", "measured"))
    decades = 10 ** math.floor(math.log10(min(predicted))), 10 ** math.ceil(math.log10(max(predicted)))
    axes.plot(predicted, predicted, color=GREY)
    axes.plot(predicted, measured, "o", color=BLUE)
    axes.set(title="change of the cost when wiggled", xlabel="predicted", ylabel="measured")
    axes.set(xscale="log", yscale="log", xlim=decades, ylim=decades)


def averaging(setup: Setup) -> ExperimentResult:
    """Compare the average gradient of a mini-batch's examples with autograd's gradient and with the step of SGD."""
    model = setup.partly_trained
    inputs, targets = setup.inputs[:BATCH_SIZE], setup.targets[:BATCH_SIZE]
    averaged = flatten(each.mean(0) for each in per_example_gradients(model, cost, inputs, targets).values())
    automatic, applied = _autograd_gradient(model, inputs, targets), _sgd_step(model, inputs, targets)
    from_gradient, from_step = ((averaged - other).abs().max().item() for other in (automatic, applied))
    largest = automatic.abs().max().item()
    claim = Claim(
        10,
        f"the average of the gradients of {BATCH_SIZE} examples is the gradient, and what SGD applies",
        f"largest difference from autograd's gradient {from_gradient:.1e}, from the step / learning rate "
        f"{from_step:.1e}, of components up to {largest:.2g}",
        max(from_gradient, from_step) < 1e-5 * largest,
        "every network",
    )
    rows = sensitivities(model, cost, inputs, targets)[: ROWS * 24 : 24]
    metrics = {"largest_difference_from_gradient": from_gradient, "largest_difference_from_step": from_step}
    return ExperimentResult((claim,), metrics, _draw_table(rows, example_nudges(model, inputs, targets, rows), inputs))


def _autograd_gradient(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The gradient of the mini-batch, by autograd through PyTorch's own layers and cost."""
    builtin = as_builtin(model)
    value = torch.nn.functional.mse_loss(builtin(inputs), targets, reduction="sum") / len(inputs)
    return flatten(torch.autograd.grad(value, list(builtin.parameters())))


def _sgd_step(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """What a step of SGD subtracts at a learning rate of 1; in float64, because w − w′ has the rounding of w."""
    wide = copy.deepcopy(model).double()
    before = flatten(wide.parameters()).detach()
    Backprop(wide, cost).sgd_step(inputs.double(), targets.double(), 1.0)
    return (before - flatten(wide.parameters()).detach()).float()


def example_nudges(model: torch.nn.Module, inputs: Tensor, targets: Tensor, rows: Sequence[Sensitivity]) -> Tensor:
    """−∂Cₙ/∂w, the nudges of these weights and biases by each example, (rows, N)."""
    gradients = per_example_gradients(model, cost, inputs, targets)
    return torch.stack([-gradients[row.name].movedim(0, -1)[row.index] for row in rows])


def _draw_table(rows: Sequence[Sensitivity], nudges: Tensor, inputs: Tensor) -> Figure:
    """Draw the lecture's table: a column for each digit, and the average, which SGD applies, in the last."""
    figure = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    title = "Each example's nudges of some weights and biases, in thousandths; the deepest colour is twice an average"
    figure.suptitle(title, fontsize=13)
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
