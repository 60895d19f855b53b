import time
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from kept import trained, weights
from torch import Tensor

import bp_torch.functional as hand
from bp_torch.data import Dataset, prepare
from bp_torch.engine import Backprop
from bp_torch.functional.activations import Sigmoid
from bp_torch.functional.linear import Linear
from bp_torch.functional.losses import SquaredError
from bp_torch.inspection import gradient_noise, simple_noise_scale
from bp_torch.training.config import Activation, Backend, Cost, TrainConfig
from bp_torch.training.loop import Trainer
from bp_torch.training.observer import Batch, Observer
from bp_torch.training.records import (
    AgreementRecord,
    DistributionRecord,
    EmbeddingRecord,
    EpochRecord,
    ExplanationRecord,
    HealthRecord,
    NoiseRecord,
    PictureRecord,
    StepRecord,
)


def test_it_learns(small_digits: Dataset) -> None:
    _, kept, summary = trained(small_digits, epochs=20, batch_size=10)
    assert summary["train_accuracy"] > 0.9
    assert summary["test_accuracy"] > 0.8
    costs = [record.train_cost for record in kept.of(EpochRecord)]
    assert costs[-1] < 0.3 * costs[0]


def test_the_trajectory_is_plain_sgd(small_digits: Dataset) -> None:
    """Against a loop written here with torch.nn and nothing of ours but the first weights and the shuffles."""
    trainer, _, _ = trained(small_digits, epochs=2, learning_rate=0.7)
    fresh = Trainer(TrainConfig(epochs=2, learning_rate=0.7), small_digits)
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 16), torch.nn.Sigmoid(),
        torch.nn.Linear(16, 16), torch.nn.Sigmoid(),
        torch.nn.Linear(16, 10), torch.nn.Sigmoid(),
    )  # fmt: skip
    model.load_state_dict(fresh.learner.model.state_dict())
    step = 0
    for epoch in range(2):
        for inputs, targets in fresh.batches.epoch(epoch):
            model.zero_grad()
            ((model(inputs) - targets) ** 2).sum(1).mean().backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.7 * (1 - step / 20) * p.grad
            step += 1
    torch.testing.assert_close(weights(trainer), [p.detach() for p in model.parameters()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("looks", [{"compare_every": 0}, {"compare_every": 1}, {"frames": 60}])
@pytest.mark.parametrize("backend", get_args(Backend))
def test_looking_leaves_the_trajectory_untouched(small_digits: Dataset, looks: dict[str, int], backend: str) -> None:
    usual, other = (trained(small_digits, backend=backend, **options)[0] for options in ({}, looks))
    assert all(torch.equal(a, b) for a, b in zip(weights(usual), weights(other), strict=True))


def test_a_seed_repeats_bit_for_bit_and_another_does_not(small_digits: Dataset) -> None:
    first, again, other = (weights(trained(small_digits, seed=seed)[0]) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_backends_agree_to_rounding(small_digits: Dataset) -> None:
    functions, engine, builtin = (trained(small_digits, backend=backend)[0] for backend in get_args(Backend))
    torch.testing.assert_close(weights(functions), weights(builtin), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(engine), weights(builtin), rtol=1e-4, atol=1e-6)
    assert type(functions.learner.model[0]).__module__.startswith("bp_torch")
    assert type(builtin.learner.model[0]).__module__.startswith("torch")
    assert type(engine.learner.driver) is Backprop


@pytest.mark.parametrize("cost", get_args(Cost))
def test_the_first_two_hundred_costs_are_alike_under_every_backend(small_digits: Dataset, cost: str) -> None:
    """Step by step, to the rounding of float32."""
    runs = [TrainConfig(backend=backend, cost=cost, batch_size=50, epochs=10) for backend in get_args(Backend)]  # type: ignore[arg-type]
    trainers = [Trainer(config, small_digits) for config in runs]
    costs: list[list[float]] = [
        [t.learner.driver.sgd_step(*b, 0.5).item() for epoch in range(10) for b in t.batches.epoch(epoch)]
        for t in trainers
    ]
    assert len(costs[0]) == 200
    for functions, engine, builtin in zip(*costs, strict=True):
        assert (functions, engine) == pytest.approx((builtin, builtin), rel=1e-5)


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("cost", get_args(Cost))
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_every_gradient_agrees(small_digits: Dataset, activation: str, cost: str, batch_size: int) -> None:
    """No false alarm, whatever is trained: also where gradients nearly vanish and PyTorch's own are half noise."""
    backend = {1: "functions", 7: "builtin", 100: "engine"}[batch_size]
    _, kept, summary = trained(
        small_digits, activation=activation, cost=cost, batch_size=batch_size, backend=backend, learning_rate=0.2,
        epochs=max(1, batch_size // 10), compare_every={1: 20, 7: 3, 100: 2}[batch_size],
    )  # fmt: skip
    failed = [str(c) for record in kept.of(AgreementRecord) for c in record.comparisons if not c.passed]
    assert not failed, "\n".join(failed)
    assert summary["gradient_checks"] == summary["gradient_checks_passed"] >= 280
    names = [comparison.name for comparison in kept.of(AgreementRecord)[0].comparisons]
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]


def scaled(backward: Callable[..., Any], factor: float) -> Callable[..., Any]:
    def wrong(ctx: Any, grad_output: Tensor) -> Any:
        gradients = backward(ctx, grad_output)
        if isinstance(gradients, tuple):
            return tuple(None if g is None else g * factor for g in gradients)
        return gradients * factor

    return wrong


@pytest.mark.parametrize("function", [Linear, Sigmoid, SquaredError])
@pytest.mark.parametrize("backend", get_args(Backend))
def test_a_wrong_backward_is_found(
    small_digits: Dataset, monkeypatch: pytest.MonkeyPatch, function: type, backend: str
) -> None:
    monkeypatch.setattr(function, "backward", staticmethod(scaled(function.backward, 1.0001)))
    _, kept, summary = trained(small_digits, epochs=1, backend=backend)
    assert summary["gradient_checks_passed"] < summary["gradient_checks"]
    assert any(not c.passed for record in kept.of(AgreementRecord) for c in record.comparisons)


def test_what_is_recorded(small_digits: Dataset) -> None:
    trainer, kept, summary = trained(small_digits, epochs=20, batch_size=300, compare_every=7)
    steps = 20 * 4  # a thousand examples make three mini-batches of 300 and a short one
    assert trainer.steps == trainer.step == summary["steps"] == steps
    assert [record.step for record in kept.of(AgreementRecord)] == list(range(0, steps, 7))
    noise = kept.of(NoiseRecord)
    assert [record.step for record in noise] == list(range(0, steps, 7))
    assert list(noise[0].parameters) == [name for name, _ in trainer.learner.hand.named_parameters()]
    again = Trainer(trainer.config, small_digits)
    inputs, targets = next(again.batches.epoch(0))
    expected = gradient_noise(again.learner.hand, hand.squared_error, inputs, targets)
    assert noise[0].scale == pytest.approx(simple_noise_scale(expected.values()))
    for name, parameter in noise[0].parameters.items():
        torch.testing.assert_close(parameter.variance, expected[name].variance)
        assert parameter.norms.shape == (300,)
    assert [record.step for record in kept.of(EpochRecord)] == list(range(3, steps, 4))
    assert [record.step // 4 + 1 for record in kept.of(DistributionRecord)] == [1, 2, 4, 8, 16, 20]
    assert [record.step // 4 + 1 for record in kept.of(PictureRecord)] == [1, 8, 20]
    explained = kept.of(ExplanationRecord)
    assert [record.step for record in explained] == [0, 3, 31, 79]
    assert [record.step for record in kept.of(EmbeddingRecord)] == [0, 3, 31, 79]
    label = small_digits.test.labels
    for number, explanation in enumerate(explained[-1].explanations):  # of the first test digit of each class
        digit = small_digits.test.images[label == number][:1]
        torch.testing.assert_close(explanation.outputs, trainer.learner.model(prepare(digit))[0].detach())
        assert explanation.target.argmax() == number
        assert explanation.difference < 1e-4
    embedding = kept.of(EmbeddingRecord)[-1]
    inputs = prepare(small_digits.test.images)
    torch.testing.assert_close(embedding.activations, trainer.learner.model[:4](inputs).detach())
    assert embedding.layer == "3.Sigmoid"
    assert torch.equal(embedding.answers, trainer.learner.model(inputs).argmax(1))
    assert torch.equal(embedding.labels, label)
    assert torch.equal(embedding.images, small_digits.test.images)
    (first,) = kept.of(StepRecord)
    assert first.learning_rate == trainer.config.learning_rate
    (health,) = kept.of(HealthRecord)
    total = sum(part.gradient_norm**2 for part in health.parameters.values())
    assert health.gradient_norm == pytest.approx(total**0.5)
    distribution = kept.of(DistributionRecord)[-1]
    assert list(distribution.activations) == [
        "0.Linear", "1.Sigmoid", "2.Linear", "3.Sigmoid", "4.Linear", "5.Sigmoid"
    ]  # fmt: skip
    assert summary["examples_per_second"] == pytest.approx(20_000 / summary["seconds"])


def test_without_a_hidden_layer_or_comparisons(small_digits: Dataset) -> None:
    _, kept, _ = trained(small_digits, epochs=1, hidden=(), compare_every=0)
    assert len(kept.of(ExplanationRecord)) == 2
    assert not kept.of(EmbeddingRecord)
    assert [record.step for record in kept.of(NoiseRecord)] == [record.step for record in kept.of(ExplanationRecord)]


def test_the_speed_is_that_of_training(small_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Observer._measure

    def slowly(observer: Observer, examples: Batch) -> tuple[float, float, Tensor]:
        time.sleep(0.05)
        return measure(observer, examples)

    monkeypatch.setattr(Observer, "_measure", slowly)
    _, kept, summary = trained(small_digits, epochs=30)
    assert all(record.examples_per_second > 0 for record in kept.of(StepRecord)[1:])
    assert kept.of(StepRecord)[-1].examples_per_second > summary["examples_per_second"]  # which counts evaluation in


def test_the_judge_is_pytorch_at_the_weights_of_the_step(small_digits: Dataset) -> None:
    """The float64 gradient that all is measured by, against one taken here with torch.nn alone."""
    trainer, _, _ = trained(small_digits)
    layers = [torch.nn.Linear(784, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 10)]
    model = torch.nn.Sequential(*(module for layer in layers for module in (layer, torch.nn.Sigmoid()))).double()
    model.load_state_dict(trainer.learner.hand.state_dict())
    inputs, targets = next(trainer.batches.epoch(5))
    cost = ((model(inputs.double()) - targets) ** 2).sum(1).mean()
    expected = dict(
        zip(dict(model.named_parameters()), torch.autograd.grad(cost, tuple(model.parameters())), strict=True)
    )
    builtin, truth = trainer.learner._judge(dict(trainer.learner.hand.named_parameters()), inputs, targets)
    torch.testing.assert_close(truth, expected)
    assert {gradient.dtype for gradient in builtin.values()} == {torch.float32}


def test_the_worst_digits_are_wrong_and_sorted(small_digits: Dataset) -> None:
    _, kept, _ = trained(small_digits, epochs=1)
    record = kept.of(PictureRecord)[-1]
    given = record.worst_outputs.gather(1, record.worst_labels.unsqueeze(1)).squeeze(1)
    assert (record.worst_outputs.argmax(1) != record.worst_labels).all()
    assert torch.equal(given, given.sort().values)
    assert record.worst_images.shape == (12, 28, 28)
    assert record.worst_images.dtype == torch.uint8


def test_a_hand_worked_example() -> None:
    """Two inputs, one hidden neuron, one output, all by pen and paper.

    x = (1, 2), w = (0.5, -0.25), b = 0: the hidden weighted sum is 0, its activation 1/2. With v = 2 and c = -1 the
    output's weighted sum is 0 and its activation 1/2. Wanted: 1, so C = 1/4, and backwards
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
