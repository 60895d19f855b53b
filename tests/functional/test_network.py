"""The lecture's network in PyTorch's ways of running a model."""

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

import bp_torch.functional as F
from bp_torch.nn import mlp


@pytest.fixture
def network() -> tuple[torch.nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    return mlp((784, 16, 16, 10)), torch.rand(20, 784), torch.eye(10)[torch.randint(10, (20,))]


def gradients(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(F.squared_error(model(inputs), targets), tuple(model.parameters()))


def test_per_example_gradients_average_to_the_gradient(network: tuple[torch.nn.Sequential, Tensor, Tensor]) -> None:
    """As in the lecture: compute the gradient of every training example, and average."""
    model, inputs, targets = network

    def cost(parameters: dict[str, Tensor], input: Tensor, target: Tensor) -> Tensor:
        return F.squared_error(functional_call(model, parameters, (input,)), target)

    each = vmap(grad(cost), in_dims=(None, 0, 0))(dict(model.named_parameters()), inputs, targets)
    for examples, gradient in zip(each.values(), gradients(*network), strict=True):
        assert examples.shape == (20, *gradient.shape)
        torch.testing.assert_close(examples.mean(0), gradient, rtol=1e-5, atol=1e-7)


def test_compiled_by_inductor(network: tuple[torch.nn.Sequential, Tensor, Tensor]) -> None:
    model, inputs, targets = network
    compiled = torch.compile(lambda: F.squared_error(model(inputs), targets), fullgraph=True)
    torch.testing.assert_close(
        torch.autograd.grad(compiled(), tuple(model.parameters())), gradients(*network), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed(network: tuple[torch.nn.Sequential, Tensor, Tensor], reentrant: bool) -> None:
    model, inputs, targets = network
    output = checkpoint(model, inputs.clone().requires_grad_(), use_reentrant=reentrant)
    F.squared_error(output, targets).backward()  # type: ignore[no-untyped-call]
    for parameter, gradient in zip(model.parameters(), gradients(*network), strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_exported(network: tuple[torch.nn.Sequential, Tensor, Tensor]) -> None:
    model, inputs, _ = network
    torch.testing.assert_close(torch.export.export(model, (inputs,)).module()(inputs), model(inputs))


def test_a_retained_graph_gives_the_same_twice(network: tuple[torch.nn.Sequential, Tensor, Tensor]) -> None:
    model, inputs, targets = network
    cost = F.squared_error(model(inputs), targets)
    first = torch.autograd.grad(cost, tuple(model.parameters()), retain_graph=True)
    second = torch.autograd.grad(cost, tuple(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_changing_a_saved_input_in_place_is_noticed() -> None:
    """A saved Tensor that was modified raises an error instead of giving a wrong gradient."""
    x, w = torch.randn(3, 4), torch.randn(2, 4, requires_grad=True)
    output = F.linear(x, w)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()  # type: ignore[no-untyped-call]
