"""The measurements of the experiments, compared with independent numbers; claims fail if the equations are wrong."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian
from torch.func import functional_call

from bp_torch import nn
from bp_torch.data import Batches, Dataset, Split
from bp_torch.data.digits import draw
from bp_torch.engine import Backprop
from bp_torch.engine.per_example import _OuterProducts
from bp_torch.functional.linear import Linear
from bp_torch.inspection.experiments import EXPERIMENTS, Setup
from bp_torch.inspection.experiments.gradient import _tilted
from bp_torch.inspection.experiments.learning import _curvatures, _measure
from bp_torch.inspection.experiments.mini_batches import Descent, _curve, _descend, _speed_claim
from bp_torch.inspection.experiments.setup import ExperimentResult, cost, train


@pytest.fixture(scope="module")
def setup() -> Iterator[Setup]:
    """Six hundred synthetic digits for training, two hundred for tests; fewer are explained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["bp_torch.inspection.experiments.one_example"], "EXAMPLES", 20)
        yield few_digits()


def few_digits() -> Setup:
    train, test = torch.arange(600) % 10, torch.arange(200) % 10
    return Setup(Dataset("digits", Split(draw(train, seed=1), train), Split(draw(test, seed=2), test), ""), quick=True)


@pytest.fixture(scope="module")
def results(setup: Setup) -> dict[str, ExperimentResult]:
    return {name: EXPERIMENTS[name](setup) for name in ("direction", "wiggles", "one_example", "averaging")}


def test_claims_that_do_not_depend_on_the_data_hold(results: dict[str, ExperimentResult]) -> None:
    assert {claim.claim: claim.holds for one in results.values() for claim in one.claims if not claim.holds} == {}
    assert results["wiggles"].metrics["measured_ratio"] == pytest.approx(32, rel=0.1)
    assert results["direction"].metrics["decrease_along_gradient"] == pytest.approx(1, abs=0.01)


def halved(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
    input, weight = ctx.saved_tensors
    return delta @ weight, delta.t() @ input / 2 if ctx.needs_input_grad[1] else None, delta.mean(0)


def absolute(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
    input, weight = ctx.saved_tensors
    return delta @ weight.abs(), delta.t() @ input if ctx.needs_input_grad[1] else None, delta.sum(0)


def squared(each: _OuterProducts) -> Tensor:
    return each._delta[:, :, None] * each._input[:, None] ** 2


@pytest.mark.parametrize(
    ("experiment", "place", "name", "wrong", "failing"),
    [
        ("direction", Linear, "backward", staticmethod(halved), {4}),
        ("wiggles", Linear, "backward", staticmethod(halved), {5}),
        ("one_example", Linear, "backward", staticmethod(absolute), {7, 9}),
        ("averaging", _OuterProducts, "gradients", squared, {10}),
    ],
)
def test_a_claim_fails_where_the_equation_is_wrong(
    setup: Setup,
    experiment: str,
    place: type[Any],
    name: str,
    wrong: object,
    failing: set[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _ = setup.partly_trained, setup.trained  # by the right one
    monkeypatch.setattr(place, name, wrong)
    claims = EXPERIMENTS[experiment](setup).claims
    assert {claim.statement for claim in claims if not claim.holds} == failing


def test_the_curvature_is_that_of_the_hessian() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.mlp((3, 2, 2)).double(), torch.randn(5, 3).double(), torch.rand(5, 2).double()
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(value(model, start, inputs, targets), start)
    unit = gradient / gradient.norm()
    expected = unit @ hessian(lambda vector: value(model, vector, inputs, targets), start) @ unit
    found = _measure(model, Backprop(model, cost), inputs, targets, 3)
    assert found.gradient_norm == pytest.approx(gradient.norm().item(), rel=1e-9)
    assert found.curvature == pytest.approx(expected.item(), rel=1e-9)


def value(model: torch.nn.Module, vector: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """The cost of PyTorch's own layers with these parameters."""
    parts = _unflattened(vector, list(model.parameters()))
    parameters = dict(zip(dict(model.named_parameters()), parts, strict=True))
    outputs: Tensor = functional_call(nn.as_builtin(model), parameters, (inputs,))
    return (outputs - targets).square().sum() / len(inputs)


def _unflattened(vector: Tensor, like: list[torch.nn.Parameter]) -> list[Tensor]:
    parts = vector.split([parameter.numel() for parameter in like])
    return [part.view(parameter.shape) for part, parameter in zip(parts, like, strict=True)]


def test_the_curvatures_are_within_those_of_the_hessian() -> None:
    """After as many steps as dimensions, they are its extreme eigenvalues."""
    torch.manual_seed(0)
    model, inputs, targets = nn.mlp((3, 2, 2)).double(), torch.randn(5, 3).double(), torch.rand(5, 2).double()
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    eigenvalues = torch.linalg.eigvalsh(hessian(lambda vector: value(model, vector, inputs, targets), start))
    least, most = _curvatures(model, inputs, targets, steps=len(start), seed=0)
    assert least == pytest.approx(eigenvalues[0].item(), rel=1e-6)
    assert most == pytest.approx(eigenvalues[-1].item(), rel=1e-6)
    fewer = _curvatures(model, inputs, targets, steps=4, seed=0)
    assert eigenvalues[0] <= fewer[0] < fewer[1] <= eigenvalues[-1]


def test_tilted_directions_are_of_length_one_at_their_angle() -> None:
    torch.manual_seed(0)
    downhill, angles = torch.randn(50).double(), torch.tensor([0.0, 0.5, 2.0]).double()
    tilted = _tilted(downhill, torch.randn(3, 50).double(), angles)
    torch.testing.assert_close(tilted.norm(dim=1), torch.ones(3).double())
    torch.testing.assert_close(tilted @ downhill / downhill.norm(), angles.cos())


def test_a_path_worked_by_hand() -> None:
    places = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 3.0]])  # straight on, then to the left
    path = Descent(1.0, 100, places, torch.tensor([0.0, 1, 2, 3]), torch.tensor([4.0, 2.0, 3.0, 1.0]))
    assert path.straightness(2) == pytest.approx(0)  # after the first step: one straight on, one to the left
    assert path.steps_to(3.5) == 1
    assert path.steps_to(2.5) == 3  # where it was after 1, but not for good
    assert path.steps_to(5) == 0
    assert path.steps_to(0.5) is None


def test_the_quicker_descent_worked_by_hand() -> None:
    """Four steps of mini-batches, of 0.1 s each, reach the cost of one full step."""
    points = torch.zeros(5, 2)
    sgd = Descent(1.0, 100, points, torch.arange(5) / 10, torch.tensor([4.0, 3.0, 2.5, 2.25, 2.0]))
    for spent, holds in ((1.9, False), (2.1, True)):
        full_batch = Descent(1.0, 600, points[:2], torch.tensor([0.0, spent]), torch.tensor([4.0, 2.0]))
        claim = _speed_claim(sgd, full_batch)
        assert f"by 1 full steps in {spent} s, by 4 steps of mini-batches in 0.400 s" in claim.measured
        assert claim.holds is holds


def test_a_speedup_is_measured_by_the_clock(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading of the clock is a second later, so that every gradient takes one second."""
    seconds = iter(range(10**6))
    module = sys.modules["bp_torch.inspection.experiments.mini_batches"]  # whose name in the package is its function's
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(seconds)))
    monkeypatch.setattr(module, "SIZES", (100,))
    result = EXPERIMENTS["mini_batches"](setup)
    assert result.metrics["speedup"] == 1
    assert [claim.holds for claim in result.claims if "speedup" in claim.claim] == [False]


def test_a_descent_is_gradient_descent(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10))
    monkeypatch.setattr(
        sys.modules["bp_torch.inspection.experiments.mini_batches"].time, "perf_counter", lambda: next(seconds)
    )
    path = _descend(setup, len(setup.inputs), 2, 0.5)
    assert path.seconds.tolist() == [0, 1, 2], "each step takes one, from a reading of the clock to the next"
    builtin = nn.as_builtin(setup.network())
    optimizer = torch.optim.SGD(builtin.parameters(), lr=0.5)
    for place, height in zip(path.points, path.costs, strict=True):
        torch.testing.assert_close(place, torch.nn.utils.parameters_to_vector(builtin.parameters()).detach())
        assert height.item() == pytest.approx(cost(builtin(setup.inputs[:500]), setup.targets[:500]).item(), rel=1e-4)
        optimizer.zero_grad()
        ((builtin(setup.inputs) - setup.targets).square().sum() / len(setup.inputs)).backward()
        optimizer.step()


def test_training_takes_its_steps_at_a_falling_rate(setup: Setup) -> None:
    """With six steps an epoch, the seventh is in the second epoch."""
    model, builtin = setup.network(), nn.as_builtin(setup.network())
    train(model, setup.inputs, setup.targets, 7, schedule=14, seed=3)
    batches = Batches(setup.inputs, setup.targets, 100, seed=3)
    for step, (inputs, targets) in enumerate([*batches.epoch(0), next(batches.epoch(1))]):
        value = (builtin(inputs) - targets).square().sum() / 100
        gradients = torch.autograd.grad(value, list(builtin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(builtin.parameters(), gradients, strict=True):
                parameter -= 3 * (1 - step / 14) * gradient
    torch.testing.assert_close(model.state_dict(), builtin.state_dict())


def test_mini_batches_compared_with_the_full_gradient(setup: Setup) -> None:
    """All examples give the full gradient; the cosine of a mini-batch is that of independently computed vectors."""
    model = setup.partly_trained
    curve = _curve(setup, model)
    assert list(curve) == [1, 10, 100, 600]
    assert curve[600][:, 0].tolist() == pytest.approx([1] * len(curve[600]))
    assert curve[600][:, 1].tolist() == pytest.approx([1] * len(curve[600]))
    generator = torch.Generator().manual_seed(setup.seed)
    chosen = torch.randperm(600, generator=generator)[:1]
    builtin = nn.as_builtin(model)

    def automatic(places: Tensor) -> Tensor:
        value = (builtin(setup.inputs[places]) - setup.targets[places]).square().sum() / len(places)
        return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(builtin.parameters()))])

    single, full = automatic(chosen), automatic(torch.arange(600))
    assert curve[1][0, 0].item() == pytest.approx((single @ full / single.norm() / full.norm()).item(), rel=1e-3)
    assert curve[1][0, 1].item() == pytest.approx((single.norm() / full.norm()).item(), rel=1e-3)
