"""Sensitivities compared with autograd, and wiggles compared with the cost of PyTorch's own layers."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.inspection import Sensitivity, sensitivities, wiggle


@pytest.fixture
def drawn() -> tuple[torch.nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.mlp((5, 4, 3)), torch.randn(7, 5), torch.rand(7, 3)


def value(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """By PyTorch's own layers."""
    return (nn.as_builtin(model)(inputs) - targets).square().sum() / len(inputs)


def test_all_are_ranked_by_autograds_size(drawn: tuple[torch.nn.Sequential, Tensor, Tensor]) -> None:
    model, *batch = drawn
    ranked = sensitivities(model, F.squared_error, *batch)
    gradients = torch.autograd.grad(value(model, *batch), list(model.parameters()))
    sizes = torch.cat([gradient.flatten() for gradient in gradients]).abs().sort(descending=True).values
    torch.testing.assert_close(torch.tensor([one.size for one in ranked]), sizes)
    named = dict(zip(dict(model.named_parameters()), gradients, strict=True))
    assert len({(one.name, one.index) for one in ranked}) == len(sizes) == 39
    for one in ranked:
        assert one.gradient == pytest.approx(named[one.name][one.index].item(), rel=1e-4, abs=1e-7)
        assert one.layer in ("hidden1", "output")


def test_sensitivities_as_text() -> None:
    most, other = Sensitivity("hidden1.weight", (3, 412), -3.2), Sensitivity("output.bias", (7,), 0.1)
    assert most.compare_to(other) == "hidden1.weight[3, 412]: 32.0 times as sensitive as output.bias[7]"
    assert most.compare_to(replace(other, gradient=0.0)).startswith("hidden1.weight[3, 412]: inf times")


@pytest.mark.parametrize("place", [0, 5, 20])
def test_a_wiggle_measures_the_cost(drawn: tuple[torch.nn.Sequential, Tensor, Tensor], place: int) -> None:
    model, *batch = drawn
    before = copy.deepcopy(model.state_dict())
    one = sensitivities(model, F.squared_error, *batch)[place]
    found = wiggle(model, F.squared_error, *batch, one, step=2.0**-6)
    wide, (inputs, targets) = copy.deepcopy(model).double(), (part.double() for part in batch)
    start = value(wide, inputs, targets).item()
    with torch.no_grad():
        wide.get_parameter(one.name)[one.index] += 2.0**-6
    assert found.measured == pytest.approx(value(wide, inputs, targets).item() - start, rel=1e-9)
    assert found.predicted == 2.0**-6 * one.gradient
    assert found.measured == pytest.approx(found.predicted, rel=0.05)
    assert found.order == pytest.approx(2, abs=0.05)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_wrong_gradient_is_of_order_one(drawn: tuple[torch.nn.Sequential, Tensor, Tensor]) -> None:
    model, *batch = drawn
    one = sensitivities(model, F.squared_error, *batch)[0]
    found = wiggle(model, F.squared_error, *batch, replace(one, gradient=1.1 * one.gradient))
    assert found.order == pytest.approx(1, abs=0.05)


def test_a_wiggle_of_a_classifier() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.mlp((5, 4, 3), "tanh"), torch.randn(7, 5), torch.randint(3, (7,))
    most = sensitivities(model, F.cross_entropy, inputs, targets)[0]
    assert wiggle(model, F.cross_entropy, inputs, targets, most).order == pytest.approx(2, abs=0.05)


def test_nan_comes_first() -> None:
    model = nn.mlp((3, 4))
    with torch.no_grad():
        model[0].weight[1, 0] = torch.nan
    ranked = [one.size for one in sensitivities(model, F.squared_error, torch.rand(2, 3), torch.rand(2, 4))]
    assert [math.isnan(size) for size in ranked] == [True] * 4 + [False] * 12
    assert ranked[4:] == sorted(ranked[4:], reverse=True)
