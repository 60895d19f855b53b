"""The experiments' measures, against numbers from elsewhere; and each claim fails where the equations are wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian
from torch.func import functional_call

from bp_torch import nn
from bp_torch.data import Batches, Dataset, Split, load
from bp_torch.data.digits import draw
from bp_torch.engine import Backprop
from bp_torch.functional.linear import Linear
from bp_torch.inspection.experiments import EXPERIMENTS, Subject
from bp_torch.inspection.experiments.convergence import _curvatures, _look
from bp_torch.inspection.experiments.direction import _tilted
from bp_torch.inspection.experiments.finding import Finding
from bp_torch.inspection.experiments.mini_batches import _curve
from bp_torch.inspection.experiments.paths import Descent, _walk
from bp_torch.inspection.experiments.subject import cost, learn


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Six hundred drawn digits to learn from, two hundred to be tested on."""
    train, test = torch.arange(600) % 10, torch.arange(200) % 10
    return Subject(
        Dataset("digits", Split(draw(train, seed=1), train), Split(draw(test, seed=2), test), ""), quick=True
    )


@pytest.fixture(scope="module")
def findings(subject: Subject) -> dict[str, Finding]:
    return {name: EXPERIMENTS[name](subject) for name in ("direction", "wiggles", "one_example", "averaging")}


def test_every_statement_from_4_to_15_is_measured() -> None:
    """Of all drawn digits, where three do not hold: what a gradient that vanishes is like, and where it has."""
    subject = Subject(load("digits", ""), quick=True)
    claims = [claim for one in EXPERIMENTS.values() for claim in one(subject).claims]
    assert {claim.statement for claim in claims} == set(range(4, 16))
    assert [claim.claim for claim in claims if not claim.holds] == [
        "while it learns, the gradient of 100 examples approximates that of all 20,000 well, within 45°",
        "after learning, the gradient of 100 examples approximates that of all 20,000 well, within 45°",
        "where they end is a local minimum: no direction curves downwards",
    ]
    assert {claim.statement for claim in claims if claim.of == "equation"} == {4, 5, 6, 7, 9, 10}


def test_what_does_not_depend_on_the_data_holds(findings: dict[str, Finding]) -> None:
    assert {claim.claim: claim.holds for one in findings.values() for claim in one.claims if not claim.holds} == {}
    assert findings["wiggles"].merits["measured_ratio"] == pytest.approx(32, rel=0.1)
    assert findings["direction"].merits["decrease_along_gradient"] == pytest.approx(1, abs=0.01)


def averaged_bias(ctx: Any, wishes: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
    needs_input, needs_weight, needs_bias = ctx.needs_input_grad
    return (
        wishes @ weight if needs_input else None,
        wishes.t() @ input / 2 if needs_weight else None,
        wishes.mean(0) if needs_bias else None,
    )


def absolute(ctx: Any, wishes: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
    needs_input, needs_weight, needs_bias = ctx.needs_input_grad
    return (
        wishes @ weight.abs() if needs_input else None,
        wishes.t() @ input if needs_weight else None,
        wishes.sum(0) if needs_bias else None,
    )


@pytest.mark.parametrize(
    ("experiment", "name", "wrong", "failing"),
    [
        ("direction", "by_avenue", averaged_bias, {4}),
        ("wiggles", "by_avenue", averaged_bias, {5}),
        ("one_example", "by_avenue", absolute, {7, 9}),
        (
            "averaging",
            "per_example",
            lambda ctx, grad: (grad[:, :, None] * ctx.saved_tensors[0][:, None] ** 2, grad),
            {10},
        ),
    ],
)
def test_a_claim_fails_where_the_equation_is_wrong(
    subject: Subject,
    experiment: str,
    name: str,
    wrong: Callable[..., Any],
    failing: set[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _ = subject.learning, subject.taught  # who have learned by the right one
    monkeypatch.setattr(Linear, name, staticmethod(wrong))
    claims = EXPERIMENTS[experiment](subject).claims
    assert {claim.statement for claim in claims if not claim.holds} == failing


def test_the_curvature_is_that_of_the_hessian() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.mlp((3, 2, 2)).double(), torch.randn(5, 3).double(), torch.rand(5, 2).double()
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(value(model, start, inputs, targets), start)
    unit = gradient / gradient.norm()
    expected = unit @ hessian(lambda vector: value(model, vector, inputs, targets), start) @ unit
    found = _look(model, Backprop(model, cost), inputs, targets, 3)
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


def test_the_curvatures_bound_the_hessians_from_within() -> None:
    """After as many steps as there are dimensions they are its eigenvalues."""
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


def test_a_walk_is_gradient_descent(subject: Subject) -> None:
    path = _walk(subject, len(subject.inputs), 2, 0.5)
    builtin = nn.as_builtin(subject.network())
    optimizer = torch.optim.SGD(builtin.parameters(), lr=0.5)
    for place, height in zip(path.places, path.costs, strict=True):
        torch.testing.assert_close(place, torch.nn.utils.parameters_to_vector(builtin.parameters()).detach())
        assert height.item() == pytest.approx(
            cost(builtin(subject.inputs[:500]), subject.targets[:500]).item(), rel=1e-4
        )
        optimizer.zero_grad()
        ((builtin(subject.inputs) - subject.targets).square().sum() / len(subject.inputs)).backward()
        optimizer.step()


def test_learning_stops_after_its_steps_at_a_rate_that_falls(subject: Subject) -> None:
    """Six steps an epoch: the seventh is of the second."""
    model, builtin = subject.network(), nn.as_builtin(subject.network())
    learn(model, subject.inputs, subject.targets, 7, of=14, seed=3)
    batches = Batches(subject.inputs, subject.targets, 100, seed=3)
    for step, (inputs, targets) in enumerate([*batches.epoch(0), next(batches.epoch(1))]):
        value = (builtin(inputs) - targets).square().sum() / 100
        gradients = torch.autograd.grad(value, list(builtin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(builtin.parameters(), gradients, strict=True):
                parameter -= 3 * (1 - step / 14) * gradient
    torch.testing.assert_close(model.state_dict(), builtin.state_dict())


def test_mini_batches_beside_the_full_gradient(subject: Subject) -> None:
    """All examples give the full gradient; and a mini-batch's cosine is one of vectors computed elsewhere."""
    model = subject.learning
    curve = _curve(subject, model)
    assert list(curve) == [1, 10, 100, 600]
    assert curve[600].cosines == pytest.approx([1] * len(curve[600].cosines))
    assert curve[600].norm_ratios == pytest.approx([1] * len(curve[600].norm_ratios))
    generator = torch.Generator().manual_seed(subject.seed)
    chosen = torch.randperm(600, generator=generator)[:1]
    builtin = nn.as_builtin(model)

    def automatic(places: Tensor) -> Tensor:
        value = (builtin(subject.inputs[places]) - subject.targets[places]).square().sum() / len(places)
        return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(builtin.parameters()))])

    single, full = automatic(chosen), automatic(torch.arange(600))
    assert curve[1].cosines[0] == pytest.approx((single @ full / single.norm() / full.norm()).item(), rel=1e-3)
    assert curve[1].norm_ratios[0] == pytest.approx((single.norm() / full.norm()).item(), rel=1e-3)
