"""The lecture's table and its Hebbian remark, compared with numbers worked by hand and with autograd."""

import copy

import pytest
import torch

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.engine import Backprop
from bp_torch.inspection import explain, hebbian, sensitivities
from bp_torch.inspection.experiments.gradient import example_nudges


def test_each_column_is_one_examples_nudges_and_the_last_what_sgd_applies() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.mlp((5, 4, 3)).double(), torch.randn(6, 5).double(), torch.rand(6, 3).double()
    rows = sensitivities(model, F.squared_error, inputs, targets)[::5]
    nudges = example_nudges(model, inputs, targets, rows)
    builtin = nn.as_builtin(model)
    for example in range(6):
        value = (builtin(inputs[example]) - targets[example]).square().sum()
        gradients = dict(
            zip(dict(model.named_parameters()), torch.autograd.grad(value, list(builtin.parameters())), strict=True)
        )
        expected = torch.stack([-gradients[row.name][row.index] for row in rows])
        torch.testing.assert_close(nudges[:, example], expected)
    moved = copy.deepcopy(model)
    Backprop(moved, F.squared_error).sgd_step(inputs, targets, 0.5)
    steps = [(moved.get_parameter(row.name) - model.get_parameter(row.name))[row.index] / 0.5 for row in rows]
    torch.testing.assert_close(nudges.mean(1), torch.stack(steps).detach())


def test_the_hebbian_remark_worked_by_hand() -> None:
    """Without a slope, a weight is strengthened by activation times nudge."""
    model = nn.mlp((2, 2), "relu")
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        model[0].bias.zero_()
    one = explain(model, F.squared_error, torch.tensor([0.25, 1.0]), [1.25, 0.5])  # nudges 2 and −1
    found = hebbian([one], count=2)
    assert found.correlation == pytest.approx(1)
    assert [tuple(connection) for connection in found.strongest] == [(0, 1, 2.0, 1.0, 2.0), (0, 0, 0.5, 0.25, 2.0)]


def test_slopes_lower_the_correlation_and_examples_are_averaged() -> None:
    torch.manual_seed(0)
    model = nn.mlp((6, 4, 3)).double()
    explained = [explain(model, F.squared_error, torch.rand(6) * 6 - 3, label) for label in (0, 1, 2, 2)]
    layers = [explanation.layers[0] for explanation in explained]
    increases = sum(layer.weight_nudges for layer in layers) / 4
    products = sum(torch.outer(layer.nudges, layer.inputs) for layer in layers) / 4
    expected = torch.corrcoef(torch.stack([increases.flatten(), products.flatten()]))[0, 1]
    found = hebbian(explained, layer=0, count=100)
    assert found.correlation == pytest.approx(expected.item())
    assert 0.5 < found.correlation < 1
    assert len(found.strongest) == 24
    assert [one.increase for one in found.strongest] == sorted(increases.flatten().tolist(), reverse=True)


def test_no_examples() -> None:
    with pytest.raises(ValueError, match="explanations must not be empty"):
        hebbian([])
