"""The training loop: its results, and what it logs."""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from typing import Any, get_args

import pytest
import torch
from recording import parameters, train
from torch import Tensor

import bp_torch.functional as hand
from bp_torch.data import Dataset, Split, prepare
from bp_torch.engine import Backprop
from bp_torch.functional.activations import Sigmoid
from bp_torch.functional.linear import Linear
from bp_torch.functional.losses import SquaredError
from bp_torch.inspection import NoiseScaleAverage, gradient_noise, simple_noise_scale
from bp_torch.nn import ACTIVATIONS
from bp_torch.training import loop
from bp_torch.training.backends import COSTS
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.logging import monitor
from bp_torch.training.logging.events import (
    AgreementEvent,
    DistributionEvent,
    EpochEvent,
    ExplanationEvent,
    HealthEvent,
    NoiseEvent,
    PictureEvent,
    StepEvent,
)
from bp_torch.training.loop import Trainer


def test_training_reduces_the_cost(small_digits: Dataset) -> None:
    _, logger, summary = train(small_digits, epochs=10, batch_size=10, compare_every=0, backend="engine")
    assert summary["train_accuracy"] > 0.9
    assert summary["test_accuracy"] > 0.8
    costs = [event.train_cost for event in logger.of_type(EpochEvent)]
    assert costs[-1] < 0.3 * costs[0]


def test_the_trajectory_is_that_of_plain_sgd(small_digits: Dataset) -> None:
    """Compare with a loop on torch.nn that shares only the initial weights and the mini-batches."""
    trainer, _, _ = train(small_digits, epochs=2, learning_rate=0.7)
    fresh = Trainer(TrainConfig(epochs=2, learning_rate=0.7), small_digits)
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 16), torch.nn.Sigmoid(),
        torch.nn.Linear(16, 16), torch.nn.Sigmoid(),
        torch.nn.Linear(16, 10), torch.nn.Sigmoid(),
    )  # fmt: skip
    model.load_state_dict(dict(zip(model.state_dict(), parameters(fresh), strict=True)))
    step = 0
    for epoch in range(2):
        for inputs, targets in fresh.batches.epoch(epoch):
            model.zero_grad()
            ((model(inputs) - targets) ** 2).sum(1).mean().backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.7 * (1 - step / 20) * p.grad
            step += 1
    torch.testing.assert_close(parameters(trainer), [p.detach() for p in model.parameters()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", get_args(Backend))
def test_comparing_and_logging_do_not_change_the_trajectory(small_digits: Dataset, backend: str) -> None:
    without, _, _ = train(small_digits, backend=backend, epochs=2, compare_every=0)
    logged, _, _ = train(small_digits, backend=backend, epochs=2, compare_every=1, frames=60)
    assert all(torch.equal(a, b) for a, b in zip(parameters(without), parameters(logged), strict=True))


def test_only_the_same_seed_gives_the_same_weights(small_digits: Dataset) -> None:
    first, again, other = (parameters(train(small_digits, compare_every=0, seed=seed)[0]) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("cost", COSTS)
def test_all_backends_have_the_same_first_200_costs(small_digits: Dataset, cost: str) -> None:
    """Up to rounding in float32."""
    runs = [TrainConfig(backend=backend, cost=cost, batch_size=50, epochs=10) for backend in get_args(Backend)]
    trainers = [Trainer(config, small_digits) for config in runs]
    costs: list[list[float]] = [
        [t.backend.sgd_step(*b, 0.5).item() for epoch in range(10) for b in t.batches.epoch(epoch)] for t in trainers
    ]
    assert len(costs[0]) == 200
    for functions, engine, builtin in zip(*costs, strict=True):
        assert (functions, engine) == pytest.approx((builtin, builtin), rel=1e-5)
    of_functions, of_engine, of_builtin = (trainer.backend for trainer in trainers)
    assert type(of_functions.model[0]).__module__.startswith("bp_torch")  # type: ignore[index]
    assert type(of_builtin.model[0]).__module__.startswith("torch")  # type: ignore[index]
    assert type(of_engine) is Backprop


KINDS = [(cost, batch_size) for batch_size in (1, 7, 100) for cost in COSTS]


@pytest.mark.parametrize(("activation", "kind"), [*zip(ACTIVATIONS, cycle(KINDS))], ids=str)
def test_every_gradient_agrees(small_digits: Dataset, activation: str, kind: tuple[str, int]) -> None:
    """No false alarm, even where gradients nearly vanish and PyTorch's are dominated by rounding.

    The cases include each activation, each cost with each mini-batch size, and each backend.
    """
    cost, batch_size = kind
    backend, epochs, compare_every = {1: ("functions", 1, 7), 7: ("builtin", 2, 2), 100: ("engine", 32, 2)}[batch_size]
    dataset = replace(small_digits, train=Split(*(tensor[:300] for tensor in small_digits.train)))
    _, logger, summary = train(
        dataset, activation=activation, cost=cost, batch_size=batch_size, backend=backend, learning_rate=0.2,
        epochs=epochs, compare_every=compare_every,
    )  # fmt: skip
    failed = [str(c) for event in logger.of_type(AgreementEvent) for c in event.comparisons if not c.passed]
    assert not failed, "\n".join(failed)
    assert summary["gradient_checks"] == summary["gradient_checks_passed"] >= 250
    names = [comparison.name for comparison in logger.of_type(AgreementEvent)[0].comparisons]
    assert names == [f"{layer}.{kind}" for layer in ("hidden1", "hidden2", "output") for kind in ("weight", "bias")]


def scaled(backward: Callable[..., Any], factor: float) -> Callable[..., Any]:
    def wrong(ctx: Any, grad_output: Tensor) -> Any:
        gradients = backward(ctx, grad_output)
        if isinstance(gradients, tuple):
            return tuple(None if g is None else g * factor for g in gradients)
        return gradients * factor

    return wrong


@pytest.mark.parametrize("function", [Linear, Sigmoid, SquaredError])
@pytest.mark.parametrize("backend", get_args(Backend))
def test_a_wrong_backward_is_reported(
    small_digits: Dataset, monkeypatch: pytest.MonkeyPatch, function: type, backend: str
) -> None:
    monkeypatch.setattr(function, "backward", staticmethod(scaled(function.backward, 1.0001)))
    _, logger, summary = train(small_digits, epochs=1, batch_size=500, backend=backend)
    assert summary["gradient_checks_passed"] < summary["gradient_checks"]
    failed = 0
    for event in logger.of_type(AgreementEvent):
        failed += sum(not comparison.passed for comparison in event.comparisons)
        assert event.failed == failed
    assert summary["gradient_checks"] - summary["gradient_checks_passed"] == failed > 0


def test_noise_scales_are_running_averages(small_digits: Dataset) -> None:
    _, logger, _ = train(small_digits)
    averages: dict[str, NoiseScaleAverage] = {}
    for event in logger.of_type(NoiseEvent):
        for name, one in {"": event.parameters.values(), **{n: [p] for n, p in event.parameters.items()}}.items():
            averages[name] = averages.get(name, NoiseScaleAverage()).add(one)
        assert {"": event.scale, **event.scales} == {name: average.scale for name, average in averages.items()}
    assert event.scale != simple_noise_scale(event.parameters.values())


def test_logged_events(small_digits: Dataset) -> None:
    trainer, logger, summary = train(small_digits, epochs=20, batch_size=300, compare_every=7)
    steps = 20 * 4  # three mini-batches of 300 and one of 100
    assert trainer.steps == trainer.step == summary["steps"] == steps
    assert logger.steps(AgreementEvent) == logger.steps(NoiseEvent) == list(range(0, steps, 7))
    assert logger.of_type(AgreementEvent)[0].taylor_order == pytest.approx(2, abs=0.05)
    noise = logger.of_type(NoiseEvent)[0]
    assert list(noise.parameters) == [name for name, _ in trainer.model.named_parameters()]
    again = Trainer(trainer.config, small_digits)
    inputs, targets = next(again.batches.epoch(0))
    expected = gradient_noise(again.model, hand.squared_error, inputs, targets)
    for name, parameter in noise.parameters.items():
        torch.testing.assert_close(parameter.variance, expected[name].variance)
        assert parameter.norms.shape == (300,)
    assert noise.scale == pytest.approx(simple_noise_scale(expected.values()))
    assert logger.steps(EpochEvent) == list(range(3, steps, 4))
    assert [step // 4 + 1 for step in logger.steps(DistributionEvent)] == [1, 2, 4, 8, 16, 20]
    assert [step // 4 + 1 for step in logger.steps(PictureEvent)] == [1, 8, 20]
    assert logger.steps(ExplanationEvent) == [0, 3, 31, 79]
    label = small_digits.test.labels
    for number, explanation in enumerate(
        logger.of_type(ExplanationEvent)[-1].explanations
    ):  # first test digit of each class
        digit = small_digits.test.images[label == number][:1]
        torch.testing.assert_close(explanation.outputs, trainer.model(prepare(digit).flatten(1))[0].detach())
        assert explanation.target.argmax() == number
        assert explanation.difference < 1e-4
    (first,) = logger.of_type(StepEvent)
    assert first.learning_rate == trainer.config.learning_rate
    (health,) = logger.of_type(HealthEvent)
    total = sum(part.gradient_norm**2 for part in health.parameters.values())
    assert health.gradient_norm == pytest.approx(total**0.5)
    activations = logger.of_type(DistributionEvent)[-1].activations
    assert list(activations) == ["hidden1", "hidden2", "output"]
    inputs = prepare(small_digits.test.images).flatten(1)
    torch.testing.assert_close(activations["hidden2"], trainer.model[:4](inputs).detach())
    assert summary["examples_per_second"] == pytest.approx(20_000 / summary["seconds"])


@pytest.mark.parametrize("option", [{}, {"momentum": 0.9, "weight_decay": 0.1}, {"optimizer": "adamw"}])
def test_update_ratios_are_those_of_the_step_taken(small_digits: Dataset, option: dict[str, Any]) -> None:
    config = {"epochs": 1, "batch_size": 1000, "compare_every": 0, "learning_rate": 0.01, **option}
    before = parameters(Trainer(TrainConfig(**config), small_digits))
    trainer, logger, _ = train(small_digits, **config)
    (health,) = logger.of_type(HealthEvent)
    ratios = [((new - old).norm() / old.norm()).item() for new, old in zip(parameters(trainer), before, strict=True)]
    assert [part.update_ratio for part in health.parameters.values()] == pytest.approx(ratios)


def test_no_hidden_layer_and_no_comparisons(small_digits: Dataset) -> None:
    _, logger, _ = train(small_digits, epochs=1, hidden=(), compare_every=0)
    assert len(logger.of_type(ExplanationEvent)) == 2
    assert logger.steps(NoiseEvent) == logger.steps(ExplanationEvent)


def test_the_sizes_of_the_network_follow_the_data_set() -> None:
    """Images of 4 by 6 pixels in three classes; one bright column marks the class."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.randint(40, (60, 4, 6), dtype=torch.uint8)
    images[torch.arange(60), labels] += 200
    split = Split(images, labels)
    dataset = Dataset("stripes", split, split, "stripes", classes=3)
    for cost in COSTS:
        trainer, _, summary = train(dataset, hidden=(5,), cost=cost, batch_size=10, epochs=60, compare_every=50)
        assert [tuple(p.shape) for p in trainer.model.parameters()] == [(5, 24), (5,), (3, 5), (3,)]
        assert summary["train_accuracy"] == 1
        assert summary["gradient_checks"] == summary["gradient_checks_passed"] > 0


class Clock:
    """A replacement for the module time whose clock is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_the_speed_of_training_excludes_evaluation(small_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a second, logging another one, and an evaluation a minute."""
    clock = Clock()

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any) -> Any:
            clock.now += seconds
            return function(*arguments)

        return slow

    for module in (loop, monitor):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(monitor.Monitor, "_measure", taking(30, monitor.Monitor._measure))
    monkeypatch.setattr(Backprop, "sgd_step", taking(1, Backprop.sgd_step))
    monkeypatch.setattr(monitor.Monitor, "log", taking(1, monitor.Monitor.log))
    _, logger, summary = train(small_digits, epochs=30, backend="engine", compare_every=0)
    assert [event.examples_per_second for event in logger.of_type(StepEvent)[1:]] == pytest.approx([10_000 / 101] * 2)
    assert summary["examples_per_second"] == pytest.approx(30_000 / (303 + 30 * 60))  # includes evaluation


def test_the_reference_gradient_is_that_of_torch_nn(small_digits: Dataset) -> None:
    """In float64, at the weights of the step."""
    trainer, _, _ = train(small_digits, epochs=1)
    layers = [torch.nn.Linear(784, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 10)]
    model = torch.nn.Sequential(*(module for layer in layers for module in (layer, torch.nn.Sigmoid()))).double()
    model.load_state_dict(dict(zip(model.state_dict(), parameters(trainer), strict=True)))
    inputs, targets = next(trainer.batches.epoch(5))
    cost = ((model(inputs.double()) - targets) ** 2).sum(1).mean()
    expected = torch.autograd.grad(cost, tuple(model.parameters()))
    builtin, truth = trainer.monitor._reference.reference((inputs, targets))
    torch.testing.assert_close(tuple(truth.values()), expected)
    assert {gradient.dtype for gradient in builtin.values()} == {torch.float32}


def test_the_worst_digits_are_misclassified_and_sorted(small_digits: Dataset) -> None:
    _, logger, _ = train(small_digits, epochs=1)
    event = logger.of_type(PictureEvent)[-1]
    scores = event.worst_outputs.gather(1, event.worst_labels.unsqueeze(1)).squeeze(1)
    assert (event.worst_outputs.argmax(1) != event.worst_labels).all()
    assert torch.equal(scores, scores.sort().values)
    assert event.worst_images.shape == (12, 28, 28)
    assert event.worst_images.dtype == torch.uint8


def test_hand_computed_gradients() -> None:
    """A network with two inputs, one hidden neuron and one output.

    x = (1, 2), w = (0.5, -0.25), b = 0: the hidden weighted sum is 0, its activation 1/2. With v = 2 and c = -1 the
    output's weighted sum is 0 and its activation 1/2. The target is 1, so C = 1/4, and backwards
    ∂C/∂y = 2 (1/2 - 1) = -1; times σ' = 1/4: -1/4 for c; times 1/2: -1/8 for v; times v: -1/2 for the hidden
    activation; times σ' = 1/4: -1/8 for b; times x: (-1/8, -1/4) for w.
    """
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    w, b = torch.tensor([[0.5, -0.25]], requires_grad=True), torch.zeros(1, requires_grad=True)
    v, c = torch.tensor([[2.0]], requires_grad=True), torch.tensor([-1.0], requires_grad=True)
    hidden = hand.sigmoid(hand.linear(x, w, b))
    cost = hand.squared_error(hand.sigmoid(hand.linear(hidden, v, c)), torch.ones(1, 1))
    assert cost.item() == 0.25
    gradients = torch.autograd.grad(cost, (c, v, b, w, x))
    expected = [[-1 / 4], [[-1 / 8]], [-1 / 8], [[-1 / 8, -1 / 4]], [[-1 / 16, 1 / 32]]]
    for gradient, value in zip(gradients, expected, strict=True):
        assert torch.equal(gradient, torch.tensor(value))
