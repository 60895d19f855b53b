"""The same tests on a GPU."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bp_torch.functional as F
from bp_torch.data import load
from bp_torch.engine import Backprop
from bp_torch.inspection import gradient_noise, per_example_gradients
from bp_torch.nn import mlp
from bp_torch.training.config import TrainConfig
from bp_torch.training.loop import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_and_steps_are_those_of_autograd(activation: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = mlp((20, 16, 10), activation).to("cuda", dtype)
    inputs, targets = torch.rand(100, 20, device="cuda", dtype=dtype), torch.rand(100, 10, device="cuda", dtype=dtype)
    cost = F.squared_error(model(inputs), targets)
    expected = torch.autograd.grad(cost, tuple(model.parameters()))
    backprop = Backprop(model, F.squared_error)
    gradients = backprop.gradients(inputs, targets)[1]
    torch.testing.assert_close(tuple(gradients.values()), expected)
    updated = [p.detach() - 0.1 * gradient for p, gradient in zip(model.parameters(), expected, strict=True)]
    backprop.sgd_step(inputs, targets, 0.1)
    torch.testing.assert_close([p.detach() for p in model.parameters()], updated)


def test_an_invalid_batch_changes_nothing() -> None:
    model = mlp((5, 3)).cuda()
    before = [p.detach().clone() for p in model.parameters()]
    backprop = Backprop(model, F.squared_error)
    with pytest.raises(RuntimeError, match="input is on cpu but weight is on cuda"):
        backprop.sgd_step(torch.rand(4, 5), torch.rand(4, 3), 0.1)
    with pytest.raises(FloatingPointError, match="is not finite"):
        backprop.sgd_step(torch.full((4, 5), torch.nan, device="cuda"), torch.rand(4, 3, device="cuda"), 0.1)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


def test_per_example_gradients() -> None:
    model, inputs, targets = mlp((5, 4, 3)).cuda(), torch.rand(8, 5, device="cuda"), torch.rand(8, 3, device="cuda")
    each = per_example_gradients(model, F.squared_error, inputs, targets)
    noise = gradient_noise(model, F.squared_error, inputs, targets)
    for name, gradients in each.items():
        torch.testing.assert_close(noise[name].variance, gradients.double().var(0), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("backend", ["functions", "engine", "builtin"])
def test_training_runs_and_agrees(backend: str) -> None:
    digits = load("digits", Path("data"))
    few = replace(digits, train=type(digits.train)(digits.train.images[:1000], digits.train.labels[:1000]))
    summary = Trainer(TrainConfig(backend=backend, device="cuda", epochs=2, compare_every=5), few).run()  # type: ignore[arg-type]
    assert summary["gradient_checks_passed"] == summary["gradient_checks"] > 0
