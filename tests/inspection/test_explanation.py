"""The nudges of one example, compared with numbers worked by hand, and with autograd through PyTorch's own layers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.functional.activations import Sigmoid
from bp_torch.functional.linear import Linear
from bp_torch.inspection import Explanation, explain
from bp_torch.inspection.drawing import draw_explanation
from bp_torch.inspection.tables import explanation_tables

COSTS: dict[str, tuple[Any, Any]] = {
    "squared_error": (F.squared_error, lambda y, t: torch.nn.functional.mse_loss(y, t, reduction="sum")),
    "mse_loss": (F.mse_loss, torch.nn.functional.mse_loss),
    "binary": (F.binary_cross_entropy_with_logits, torch.nn.functional.binary_cross_entropy_with_logits),
    "cross_entropy": (F.cross_entropy, torch.nn.functional.cross_entropy),
}
NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    **{name: lambda name=name: nn.mlp((6, 5, 4, 3), name) for name in nn.ACTIVATIONS if name != "identity"},  # type: ignore[misc]
    "without a bias": lambda: torch.nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3, bias=False)),
    "one layer": lambda: nn.mlp((6, 3)),
    "nested": lambda: torch.nn.Sequential(nn.mlp((6, 4)), torch.nn.Identity(), nn.mlp((4, 3)), nn.Softmax(1)),
}


@pytest.fixture
def by_hand() -> torch.nn.Sequential:
    """Two inputs, two rectified neurons, two linear outputs."""
    model = nn.mlp((2, 2, 2), "relu")
    values = ([[1.0, -1.0], [2.0, 0.0]], [0.0, -1.0], [[2.0, 1.0], [-1.0, 3.0]], [0.0, 1.0])
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    return model


def test_every_number_of_a_network_worked_by_hand(by_hand: torch.nn.Sequential) -> None:
    explanation = explain(by_hand, F.squared_error, torch.tensor([1.0, 0.5]), [1.0, 4.0])
    first, last = explanation.layers
    assert explanation.cost == 1.25  # (2 − 1)² + (3.5 − 4)²
    assert explanation.image.tolist() == [1, 0.5]
    assert explanation.target.tolist() == [1, 4]
    assert first.weighted_inputs.tolist() == first.activations.tolist() == [0.5, 1]
    assert last.inputs.tolist() == [0.5, 1]
    assert last.weighted_inputs.tolist() == explanation.outputs.tolist() == [2, 3.5]
    assert explanation.output_nudges.tolist() == [-2, 1]  # twice the distance from the target
    assert last.weighted_input_nudges.tolist() == [-2, 1]
    assert last.weight_nudges.tolist() == [[-1, -2], [0.5, 1]]  # in proportion to the activations 0.5 and 1
    assert last.bias_nudges is not None
    assert last.bias_nudges.tolist() == [-2, 1]
    assert last.contributions.tolist() == [[-4, -2], [-1, 3]]  # in proportion to the weights
    assert last.input_nudges.tolist() == first.nudges.tolist() == [-5, 1]  # their sum
    assert first.weight_nudges.tolist() == [[-5, -2.5], [1, 0.5]]
    assert first.contributions.tolist() == [[-5, 5], [2, 0]]
    assert explanation.pixel_nudges.tolist() == [-3, 5]
    assert explanation.difference == 0
    assert [layer.names for layer in explanation.layers] == [
        ("hidden1.weight", "hidden1.bias"),
        ("output.weight", "output.bias"),
    ]


def test_the_three_avenues_of_one_neuron(by_hand: torch.nn.Sequential) -> None:
    explanation = explain(by_hand, F.squared_error, torch.tensor([1.0, 0.5]), [1.0, 4.0])
    avenues = explanation.layers[-1].neuron_nudges(1)
    assert (avenues.bias, avenues.weights.tolist(), avenues.inputs.tolist()) == (1, [0.5, 1], [-1, 3])


def automatic(model: torch.nn.Module, cost: Any, image: Tensor, target: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Minus autograd's gradients of all activations, pixels first, and of all parameters."""
    builtin = nn.as_builtin(model)
    signals = [image[None].clone().requires_grad_()]
    for layer in builtin.modules():
        if not list(layer.children()) and not isinstance(layer, torch.nn.Identity):
            signals.append(layer(signals[-1]))
    value = cost(signals[-1], torch.eye(3, dtype=image.dtype)[target : target + 1])
    parameters = dict(builtin.named_parameters())
    gradients = torch.autograd.grad(value, [*signals, *parameters.values()])
    nudges = [-gradient for gradient in gradients]
    return [nudge[0] for nudge in nudges[: len(signals)]], dict(zip(parameters, nudges[len(signals) :], strict=True))


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_nudge_is_autograds(network: str, cost: str) -> None:
    torch.manual_seed(1)
    model, image = NETWORKS[network]().double(), torch.rand(6).double()
    hand, builtin = COSTS[cost]
    explanation = explain(model, hand, image, 2)
    signals, parameters = automatic(model, builtin, image, 2)
    torch.testing.assert_close(explanation.pixel_nudges, signals[0])
    torch.testing.assert_close(explanation.output_nudges, signals[-1])
    found = {}
    for layer in explanation.layers:
        assert any(torch.allclose(layer.nudges, signal) for signal in signals if signal.shape == layer.nudges.shape)
        torch.testing.assert_close(layer.contributions.sum(0), layer.input_nudges)
        weight, bias = layer.names
        found |= {weight: layer.weight_nudges} | ({} if bias is None else {bias: layer.bias_nudges})
    torch.testing.assert_close(found, parameters)
    for before, layer in zip(explanation.layers, explanation.layers[1:], strict=False):
        torch.testing.assert_close(layer.input_nudges, before.nudges)
    assert explanation.difference < 1e-13


@pytest.mark.parametrize("network", NETWORKS)
def test_activations_are_the_models(network: str) -> None:
    torch.manual_seed(1)
    model, image = NETWORKS[network](), torch.rand(6)
    explanation = explain(model, F.squared_error, image, 0)
    torch.testing.assert_close(explanation.outputs, nn.as_builtin(model)(image[None])[0].detach())
    for layer in explanation.layers:
        weighted = torch.nn.functional.linear(layer.inputs, layer.weight, layer.bias)
        torch.testing.assert_close(layer.weighted_inputs, weighted.detach())


def test_a_cost_of_classes() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(1)).double()
    image = torch.rand(6).double()
    found, expected = explain(model, F.nll_loss, image, 1), explain(model[:1], F.cross_entropy, image, 1)
    torch.testing.assert_close(found.pixel_nudges, expected.pixel_nudges)
    assert found.target.tolist() == [0, 1, 0]


def test_a_cost_of_classes_takes_no_vector() -> None:
    model = torch.nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(1))
    with pytest.raises((RuntimeError, ValueError), match="nll_loss"):
        explain(model, F.nll_loss, torch.rand(6), [0.5, 0.5, 0])


def same(one: Explanation, other: Explanation) -> bool:
    return one.cost == other.cost and torch.equal(one.pixel_nudges, other.pixel_nudges)


def test_an_image_in_any_form() -> None:
    model = nn.mlp((6, 3))
    image = torch.tensor([[0, 51, 102], [153, 204, 255]], dtype=torch.uint8)
    expected = explain(model, F.squared_error, image.flatten() / 255, 2)
    for form in (image, image / 255, image.double() / 255):
        assert same(explain(model, F.squared_error, form, 2), expected)
    for target in (torch.tensor(2), torch.tensor([0.0, 0, 1]), [0, 0, 1], (0.0, 0.0, 1.0)):
        assert same(explain(model, F.squared_error, image, target), expected)


def test_frozen_parameters_are_explained_too() -> None:
    model, image = nn.mlp((6, 4, 3)), torch.rand(6)
    expected = explain(model, F.squared_error, image, 0)
    for frozen in ("hidden1.weight", "hidden1.bias", "output.weight", "output.bias"):
        model.get_parameter(frozen).requires_grad_(False)
        assert same(explain(model, F.squared_error, image, 0), expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_an_explanation_does_not_change_with_the_model() -> None:
    model = nn.mlp((6, 3))
    explanation = explain(model, F.squared_error, torch.rand(6), 0)
    before = explanation.layers[0].weight.clone()
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(explanation.layers[0].weight, before)


def test_a_gradient_that_is_nan_shows_in_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Linear.backward

    def wrong(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_input, grad_weight, grad_bias = right(ctx, grad_output)
        return grad_input, None if grad_weight is None else grad_weight * torch.nan, grad_bias

    monkeypatch.setattr(Linear, "backward", staticmethod(wrong))
    assert math.isnan(explain(nn.mlp((6, 4, 3)), F.squared_error, torch.rand(6), 0).difference)


def test_a_layer_used_twice_agrees_with_autograd() -> None:
    layer = nn.Linear(4, 4)
    model = torch.nn.Sequential(layer, nn.Tanh(), layer).double()
    assert explain(model, F.squared_error, torch.rand(4), 0).difference < 1e-13


def test_the_model_is_not_changed() -> None:
    model, image = nn.mlp((6, 4, 3)), torch.rand(6)
    before = [image.clone(), *(parameter.detach().clone() for parameter in model.parameters())]
    explain(model, F.squared_error, image, 1)
    assert all(map(torch.equal, before, [image, *model.parameters()]))
    assert all(parameter.grad is None for parameter in model.parameters())


def linear(
    *, weight: Callable[[Tensor], Tensor] = lambda it: it, bias: Callable[[Tensor], Tensor]
) -> Callable[..., Any]:
    """The backward of `Linear` with changed weights, or changed gradients of biases."""

    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
        input, matrix = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            delta @ weight(matrix) if needs_input else None,
            delta.t() @ input if needs_weight else None,
            bias(delta) if needs_bias else None,
        )

    return backward


WRONG: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "the sigmoid's slope is forgotten": (Sigmoid, "backward", lambda ctx, grad_output: grad_output),
    "biases get the mean of all": (Linear, "backward", linear(bias=lambda it: it.mean().expand(it.shape[1]))),
    "gradients by absolute weights": (Linear, "backward", linear(weight=torch.abs, bias=lambda it: it.sum(0))),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_equation_shows_in_the_difference(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, name, equation = WRONG[wrong]
    torch.manual_seed(0)
    model, image = nn.mlp((6, 4, 3)), torch.rand(6)
    assert explain(model, F.squared_error, image, 1).difference < 1e-5
    monkeypatch.setattr(function, name, staticmethod(equation))
    assert explain(model, F.squared_error, image, 1).difference > 0.01


@pytest.mark.parametrize(
    ("image", "target", "error", "said"),
    [
        (torch.rand(5), 0, ValueError, r"image has 5 pixels, \(5,\), but the model takes 6"),
        (torch.rand(2, 6), 0, ValueError, r"image has 12 pixels, \(2, 6\), but the model takes 6"),
        ([0.0] * 6, 0, TypeError, "image must be a Tensor, not list"),
        (
            torch.arange(6),
            0,
            TypeError,
            "image must be uint8, or floats in the range of the model, not torch.int64",
        ),
        (torch.full((6,), torch.nan), 0, ValueError, "image has pixels that are not finite"),
        (torch.rand(6), 3, ValueError, "target must be a class from 0 to 2, got 3"),
        (torch.rand(6), -1, ValueError, "target must be a class from 0 to 2, got -1"),
        (torch.rand(6), [0.0, math.inf, 1.0], ValueError, "target has numbers that are not finite"),
        (torch.rand(6), 1.5, TypeError, "target must be a class index or a vector, not float"),
        (torch.rand(6), [0.0, 1.0], ValueError, r"target has shape \(2,\), but the outputs are \(3,\)"),
        (torch.rand(6), torch.eye(3), ValueError, r"target has shape \(3, 3\), but the outputs are \(3,\)"),
    ],
)
def test_bad_calls(image: Any, target: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        explain(nn.mlp((6, 4, 3)), F.squared_error, image, target)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (torch.nn.Linear(6, 3), "module .Linear. calls torch.nn.functional.linear"),
        (
            torch.nn.Sequential(torch.nn.Conv1d(1, 1, 1), nn.Linear(6, 3)),
            "module 0 .Conv1d. calls torch.nn",
        ),
        (torch.nn.Sequential(nn.Sigmoid(), nn.Linear(6, 3)), "must begin with a dense layer, not with 0 .Sigmoid."),
        (torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)), "not a chain of dense layers: Expected 3D"),
        (torch.nn.Sequential(nn.Sigmoid()), "chain of dense layers, not Sequential without any"),
        (F.relu, "chain of dense layers, not function"),
    ],
)
def test_models_that_are_not_dense_chains(model: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        explain(model, F.squared_error, torch.rand(6), 0)


@pytest.mark.parametrize("output", [-1, 3])
def test_an_output_that_does_not_exist(output: int) -> None:
    explanation = explain(nn.mlp((6, 4, 3)), F.squared_error, torch.rand(6), 1)
    assert [explanation.chosen(one) for one in (None, 0, 2)] == [1, 0, 2]
    for show in (draw_explanation, explanation_tables):
        with pytest.raises(ValueError, match=f"output must be from 0 to 2, got {output}"):
            show(explanation, output)
