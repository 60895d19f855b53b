"""Statements 11, 14 and 15: training on one class, convergence, and the amount of labelled data."""

from statistics import mean, stdev
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils import parameters_to_vector as flatten

from bp_torch.data import accuracy_of
from bp_torch.engine import Backprop
from bp_torch.inspection.experiments.setup import LEARNING_RATE, Claim, ExperimentResult, Setup, cost, train
from bp_torch.inspection.figures import BLUE, GREEN, ORANGE, panels

SHOWN = 2
"""The class in the lecture's example."""
SIZES = (100, 300, 1000, 3000, 10_000, 30_000)
PER_CLASS = 10
MAX_STEPS = 40_000


def one_class(setup: Setup) -> ExperimentResult:
    """Train ten networks on one class each and one on all classes, and count their answers to all test digits."""
    steps = 150 if setup.quick else 600
    rows = [_prediction_shares(setup, setup.labels == label, steps) for label in range(10)]
    rows.append(_prediction_shares(setup, torch.ones_like(setup.labels, dtype=torch.bool), steps))
    answers = torch.stack(rows)  # (11, 10): share of the test digits
    own, least = answers[SHOWN, SHOWN].item(), answers.diagonal().min().item()
    claim = Claim(
        11,
        f"trained on {SHOWN}s alone, the network answers {SHOWN} to everything",
        f"{own:.1%} of all test digits are read as {SHOWN}; for each of the ten classes, at least {least:.1%}",
        own > 0.99,
    )
    metrics = {"answers_2_if_trained_on_2": own, "answers_its_class_least": least}
    return ExperimentResult((claim,), metrics, _draw_answers(answers))


def _prediction_shares(setup: Setup, chosen: Tensor, steps: int) -> Tensor:
    """The fraction of test digits predicted as each class, (10,), after training on the chosen examples."""
    model = train(setup.network(), setup.inputs[chosen], setup.targets[chosen], steps, seed=setup.seed)
    answers = model(setup.test_inputs).argmax(1)
    return torch.bincount(answers, minlength=10) / len(answers)


def _draw_answers(answers: Tensor) -> Figure:
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


class _Point(NamedTuple):
    """Measurements at one step; the curvature is ĝᵀ H ĝ, along the gradient's direction ĝ."""

    step: int
    cost: float
    gradient_norm: float
    curvature: float


def convergence(setup: Setup) -> ExperimentResult:
    """Descend by full gradients on a hundred examples until the gradient is small, and measure the curvature there."""
    chosen = torch.cat([(setup.labels == label).nonzero()[:PER_CLASS, 0] for label in range(10)])
    inputs, targets = setup.inputs[chosen].double(), setup.targets[chosen].double()  # float64: large terms cancel
    model = setup.network().double()
    points = _descend(model, inputs, targets, least=1e-3 if setup.quick else 1e-4)
    last, accuracy = points[-1], accuracy_of(model(inputs), targets)
    least, most = _curvatures(model, inputs, targets, steps=20 if setup.quick else 100, seed=setup.seed)
    correct = f"{accuracy:.0%} of the {len(inputs)} are classified correctly"
    norm_before, norm_after = (flatten(each.parameters()).norm() for each in (setup.network(), model))
    claims = (
        _convergence_claim(points[0], last),
        Claim(
            14,
            "where they end is a local minimum: no direction curves downwards",
            f"the curvature is from {least:+.1e} to {most:+.1e} (Lanczos estimate); the weights have grown "
            f"from a norm of {norm_before:.1f} to {norm_after:.1f}",
            least >= 0,
        ),
        Claim(14, "there the network does well on its training examples", correct, accuracy >= 0.99),
    )
    metrics = {"gradient_norm": last.gradient_norm, "least_curvature": least, "training_accuracy": accuracy}
    return ExperimentResult(claims, metrics | {"curvature": last.curvature}, _draw_descent(points))


def _convergence_claim(first: _Point, last: _Point) -> Claim:
    return Claim(
        14,
        "the steps converge: the gradient vanishes, and the surface does not curve downwards along it",
        f"after {last.step:,} steps its norm has fallen from {first.gradient_norm:.2g} to {last.gradient_norm:.1e}, "
        f"and the curvature along it is {last.curvature:+.1e}",
        last.gradient_norm < 2e-3 * first.gradient_norm and last.curvature >= 0,
    )


def _descend(model: torch.nn.Module, inputs: Tensor, targets: Tensor, *, least: float) -> list[_Point]:
    backprop, points, next_point = Backprop(model, cost), [], 0
    for step in range(MAX_STEPS + 1):
        if step == next_point:
            points.append(_measure(model, backprop, inputs, targets, step))
            if points[-1].gradient_norm < least:
                break
            next_point = max(step + 1, int(step * 1.1))
        backprop.sgd_step(inputs, targets, LEARNING_RATE)
    return points


def _measure(model: torch.nn.Module, backprop: Backprop, inputs: Tensor, targets: Tensor, step: int) -> _Point:
    cost, gradients = backprop.gradients(inputs, targets)
    gradient = flatten(gradients.values())
    curvature = gradient @ _hessian_product(model, inputs, targets, gradient) / (gradient @ gradient)
    return _Point(step, cost.item(), gradient.norm().item(), curvature.item())


def _hessian_product(model: torch.nn.Module, inputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
    """H d, by differentiating the hand-written backwards."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(cost(model(inputs), targets), parameters, create_graph=True)
    return flatten(torch.autograd.grad(flatten(gradients) @ direction, parameters))


def _curvatures(model: torch.nn.Module, inputs: Tensor, targets: Tensor, *, steps: int, seed: int) -> list[float]:
    """The smallest and the largest curvature over all directions, estimated by Lanczos' method in `steps` steps."""
    start = torch.randn(len(flatten(model.parameters())), generator=torch.Generator().manual_seed(seed)).double()
    basis, projected = (start / start.norm()).unsqueeze(0), torch.zeros(steps, steps).double()
    for step in range(steps):
        product = _hessian_product(model, inputs, targets, basis[step])
        projected[: step + 1, step] = projected[step, : step + 1] = basis @ product
        for _ in range(2):  # twice, to remove what rounding leaves
            product = product - basis.t() @ (basis @ product)
        basis = torch.cat([basis, torch.nn.functional.normalize(product, dim=0).unsqueeze(0)])
    return torch.linalg.eigvalsh(projected)[[0, -1]].tolist()  # type: ignore[no-any-return]


def _draw_descent(points: list[_Point]) -> Figure:
    figure, axes = panels(f"Full gradients of {10 * PER_CLASS} examples", 3)
    steps, *curves = zip(*points, strict=True)
    titles = ("cost", "norm of the gradient", "curvature along the gradient")
    for each, curve, title, colour in zip(axes, curves, titles, (BLUE, ORANGE, GREEN), strict=True):
        each.plot([max(step, 0.5) for step in steps], curve, color=colour)
        each.set(title=title, xscale="log", xlabel="step", yscale="log")
    axes[-1].axhline(0, color="black", linewidth=0.8)
    axes[-1].set_yscale("symlog", linthresh=1e-4)
    return figure


def labelled_data(setup: Setup) -> ExperimentResult:
    """Train networks on more and more examples by the same number of steps, and measure their test accuracy."""
    steps, seeds = (600, 2) if setup.quick else (6000, 3)
    candidates = SIZES[:3:2] if setup.quick else SIZES
    sizes = (*(size for size in candidates if size < len(setup.inputs)), len(setup.inputs))
    reached = {size: [_test_accuracy(setup, size, steps, seed) for seed in range(seeds)] for size in sizes}
    means = {size: mean(found) for size, found in reached.items()}
    least, most = sizes[0], sizes[-1]
    shown = {size: reached[size] for size in (least, sizes[len(sizes) // 2], most)}
    listed = ", ".join(f"{mean(found):.1%} ± {100 * stdev(found):.1f} from {size:,}" for size, found in shown.items())
    claim = Claim(
        15,
        "it takes much labelled data to read new digits well",
        f"test accuracy {listed} examples, by {steps:,} steps each; mean ± standard deviation of {seeds} seeds",
        min(reached[most]) > max(reached[least]),
    )
    figure = _draw_accuracies(reached, steps)
    return ExperimentResult((claim,), {"accuracy_from_all": means[most]}, figure, {"test_accuracy": means})


def _test_accuracy(setup: Setup, size: int, steps: int, seed: int) -> float:
    """The test accuracy after training on `size` random examples."""
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
