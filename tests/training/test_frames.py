"""Frames: their steps, and every number in them compared with torch.nn and autograd in float64."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.engine import Backprop
from bp_torch.training.logging.events import FrameEvent
from bp_torch.training.logging.traces import FrameCapture, frame_steps

PROBES, EXAMPLES = 3, 7
COSTS: dict[str, tuple[Any, Any]] = {
    "squared_error": (F.squared_error, lambda y, t: ((y - t) ** 2).sum(1)),
    "cross_entropy": (F.cross_entropy, lambda y, t: torch.nn.functional.cross_entropy(y, t, reduction="none")),
}
ACTIVATIONS = {name: kind for name, kind in nn.ACTIVATIONS.items() if name != "identity"}
NETWORKS: dict[str, Callable[[], torch.nn.Sequential]] = {
    **{name: lambda name=name: nn.mlp((6, 5, 4, 3), name) for name in ACTIVATIONS},  # type: ignore[misc]
    "one layer": lambda: nn.mlp((6, 3), output_activation="identity"),
    "GELU by tanh": lambda: torch.nn.Sequential(nn.Linear(6, 4), nn.GELU("tanh"), nn.Linear(4, 3)),
    "no activation": lambda: torch.nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3), nn.Tanh()),
    "without bias": lambda: torch.nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False)),
}


@given(st.integers(1, 10**6), st.integers(0, 300))
@example(10**12, 60)
@example(1, 2)
def test_frames_are_spread_from_the_first_step_to_the_last(steps: int, frames: int) -> None:
    chosen = sorted(frame_steps(steps, frames))
    assert len(chosen) == min(frames, steps)
    assert all(0 <= step < steps for step in chosen)
    if frames >= 2:
        assert (chosen[0], chosen[-1]) == (0, steps - 1)
    gaps = [after - before for before, after in pairwise(chosen)]
    assert all(after >= before - 1 for before, after in pairwise(gaps)), "gaps grow, up to rounding"


@pytest.mark.parametrize(
    ("steps", "frames", "expected"),
    [
        (1000, 0, []),
        (1000, 1, [0]),
        (1000, 2, [0, 999]),
        (1000, 4, [0, 9, 99, 999]),  # the 1st, 10th, 100th and 1000th
        (81, 5, [0, 2, 8, 26, 80]),
        (8, 6, [0, 1, 2, 3, 5, 7]),
        (3, 60, [0, 1, 2]),
        (1, 1, [0]),
    ],
)
def test_hand_computed_frame_steps(steps: int, frames: int, expected: list[int]) -> None:
    assert sorted(frame_steps(steps, frames)) == expected


class Captured:
    """A frame of a network in float64, with its examples: the probes, then the mini-batch."""

    def __init__(self, model: torch.nn.Module, cost: str) -> None:
        self.model, (hand, self.cost) = model.double(), COSTS[cost]
        labels = torch.arange(PROBES + EXAMPLES) % 3
        self.inputs = torch.randn(len(labels), 6).double()
        self.targets = labels if cost == "cross_entropy" else torch.eye(3).double()[labels]
        self.frames = FrameCapture(model, hand, self.inputs[:PROBES], self.targets[:PROBES])
        batch = self.inputs[PROBES:], self.targets[PROBES:]
        _, gradients = Backprop(model, hand).gradients(*batch)
        self.frame: FrameEvent = self.frames.capture(5, batch, 0.25, gradients)

    def expected(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each dense layer, by torch.nn and autograd: activations, slopes, and −∂Cₙ/∂activation of each example."""
        signal, layers = self.inputs, []
        for module in nn.as_builtin(self.model):  # type: ignore[attr-defined]
            before, signal = signal, module(signal)
            if isinstance(module, torch.nn.Linear):
                layers.append((signal, torch.ones_like(signal)))
            elif not isinstance(module, torch.nn.Identity):
                layers[-1] = signal, torch.autograd.grad(signal.sum(), before, retain_graph=True)[0]
        self.costs = self.cost(signal, self.targets)  # no example's cost depends on another's activations
        nudges = [-gradient for gradient in torch.autograd.grad(self.costs.sum(), [y for y, _ in layers])]
        return [(y.detach(), slopes, nudge) for (y, slopes), nudge in zip(layers, nudges, strict=True)]


@pytest.fixture(params=[(network, cost) for network in NETWORKS for cost in COSTS], ids="-".join)
def captured(request: pytest.FixtureRequest) -> Captured:
    network, cost = request.param
    torch.manual_seed(4)
    return Captured(NETWORKS[network](), cost)


def test_activations_slopes_nudges_and_costs_agree_with_autograd(captured: Captured) -> None:
    frame = [(layer.activations, layer.slopes, layer.nudges) for layer in captured.frame.layers]
    torch.testing.assert_close(frame, captured.expected())
    torch.testing.assert_close(captured.frame.costs, captured.costs.detach())


def test_the_nudges_of_the_mini_batch_average_to_minus_the_gradient(captured: Captured) -> None:
    cost = captured.cost(nn.as_builtin(captured.model)(captured.inputs[PROBES:]), captured.targets[PROBES:]).mean()
    parameters = dict(captured.model.named_parameters())
    expected = dict(zip(parameters, torch.autograd.grad(cost, tuple(parameters.values())), strict=True))
    before, averages = captured.inputs[PROBES:], {}
    for layer in captured.frame.layers:
        deltas = layer.slopes[PROBES:] * layer.nudges[PROBES:]
        weight, bias = layer.names
        averages[weight] = -deltas.T @ before / EXAMPLES
        if bias is not None:
            averages[bias] = -deltas.mean(0)
        before = layer.activations[PROBES:]
    torch.testing.assert_close(averages, expected)
    torch.testing.assert_close(captured.frame.gradients, expected)


def test_a_frame_contains_its_arguments() -> None:
    captured = Captured(nn.mlp((6, 4, 3)), "squared_error")
    frame = captured.frame
    assert (frame.step, frame.learning_rate, frame.comparisons) == (5, 0.25, ())
    assert torch.equal(frame.inputs, captured.inputs[PROBES:])
    assert frame.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]  # after three probes
    parameters = dict(captured.model.named_parameters())
    for layer, (weight, bias) in zip(
        frame.layers, (("hidden1.weight", "hidden1.bias"), ("output.weight", "output.bias")), strict=True
    ):
        assert layer.names == (weight, bias)
        assert torch.equal(layer.weight, parameters[weight])
        assert layer.bias is not None
        assert torch.equal(layer.bias, parameters[bias])


@pytest.mark.parametrize("cost", COSTS)
def test_the_network_event_describes_all_frames(cost: str) -> None:
    captured = Captured(nn.mlp((6, 5, 3), "leaky_relu"), cost)
    network = captured.frames.network(12, 100)
    assert (network.step, network.steps, network.cost, network.refusal) == (12, 100, cost, None)
    assert network.sizes == (6, 5, 3)
    assert network.functions == ("leakyrelu", "identity")
    assert network.names == (("hidden1.weight", "hidden1.bias"), ("output.weight", "output.bias"))
    assert torch.equal(network.inputs, captured.inputs[:PROBES])
    assert network.labels.tolist() == [0, 1, 2]


def test_a_cost_module_is_named_by_its_class() -> None:
    inputs, targets = torch.rand(2, 6), torch.rand(2, 3)
    assert FrameCapture(nn.mlp((6, 3)), nn.SquaredError(), inputs, targets).network(0, 1).cost == "SquaredError"


def test_frozen_parameters_have_no_name_but_all_values() -> None:
    model = nn.mlp((6, 5, 3)).double()
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    captured = Captured(model, "squared_error")
    assert [layer.names for layer in captured.frame.layers] == [(None, None), ("output.weight", None)]
    assert captured.frame.gradients.keys() == {"output.weight"}
    tensors = [tensor for layer in captured.frame.layers for tensor in (layer.weight, layer.bias)]
    torch.testing.assert_close(tensors, [p.detach() for p in model.parameters()])
    model.requires_grad_()  # for autograd
    frame = [(layer.activations, layer.slopes, layer.nudges) for layer in captured.frame.layers]
    torch.testing.assert_close(frame, captured.expected())


class Skip(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torch.nn.Sequential(nn.Sigmoid(), nn.Linear(6, 3)), r"must begin with a dense layer, not with 0 \(Sigmoid\)"),
        (torch.nn.Sequential(nn.Linear(6, 3), nn.Softmax(1)), r"module 1 \(Softmax\): only one elementwise activation"),
        (torch.nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Tanh()), r"module 2 \(Tanh\): only one elementwise"),
        (torch.nn.Sequential(Skip(6, 6), nn.Linear(6, 3)), r"module 0 \(Skip\) calls torch.Tensor.add"),
        (torch.nn.Sequential(torch.nn.Linear(6, 3)), r"module 0 \(Linear\) calls torch.nn"),
    ],
)
def test_a_network_that_is_not_a_sequence_of_dense_layers_is_refused(model: torch.nn.Module, message: str) -> None:
    inputs, targets = torch.rand(3, 6), torch.eye(3)
    frames = FrameCapture(model, F.squared_error, inputs, targets)
    network = frames.network(0, 9)
    assert network.refusal == frames.refusal
    assert re.search(message, str(network.refusal))
    assert (network.sizes, network.functions, network.names) == ((6,), (), ())
    with pytest.raises(TypeError, match=message):
        frames.capture(0, (inputs, targets), 0.1, {})
