"""The tape's gradients of different graphs are autograd's through PyTorch's own operations, to 1e-12."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.engine import Backprop, Tape, backward
from bp_torch.functional.activations import Sigmoid
from bp_torch.functional.function import Function


class Residual(torch.nn.Module):
    """Two blocks x + f(x) between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.blocks = torch.nn.ModuleList(torch.nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(2))

    def forward(self, x: Tensor, ops: Any = F) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = ops.add(x, block(x))
        return self.last(x)  # type: ignore[no-any-return]


class Shared(torch.nn.Module):
    """One layer called three times, and its weight used again, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, ops: Any = F) -> Tensor:
        for _ in range(3):
            x = ops.tanh(self.layer(x))
        return self.last(ops.matmul(x, ops.t(self.layer.weight)))  # type: ignore[no-any-return]


class TwoInputs(torch.nn.Module):
    """Two inputs, combined by a product and a concatenation, and a custom parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(8, 3)
        self.scale = torch.nn.Parameter(torch.tensor([0.5, 1.0, -1.0, 2.0]))

    def forward(self, x: Tensor, y: Tensor, ops: Any = F) -> Tensor:
        left, right = self.left(x), ops.mul(self.right(y), self.scale)
        return self.last(ops.cat((ops.mul(left, right), ops.sub(left, right)), 1))  # type: ignore[no-any-return]


class Attention(torch.nn.Module):
    """Attention with one head on (N, T, C) activations, and a mean over the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.last = (nn.Linear(n, m) for n, m in ((6, 4), (6, 4), (6, 4), (4, 3)))

    def forward(self, x: Tensor, ops: Any = F) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        scores = ops.softmax(ops.mul(ops.matmul(query, ops.transpose(key, 1, 2)), 0.5), dim=-1)
        return self.last(ops.mean(ops.matmul(scores, value), 1))  # type: ignore[no-any-return]


class TwoOutputs(torch.nn.Module):
    """A list of two outputs; the second depends on the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor, ops: Any = F) -> list[Tensor]:
        first = self.first(x)
        return [first, self.second(ops.sigmoid(first))]


class Generated(torch.nn.Module):
    """Layers whose inputs are a parameter and a view of it; a step must not read already updated values."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.generator = torch.nn.Parameter(torch.rand(3, 4)), nn.Linear(4, 6)

    def forward(self, x: Tensor, ops: Any = F) -> Tensor:
        weight = ops.add(self.generator(self.codes), self.generator(ops.reshape(self.codes.detach(), (3, 4))))
        return ops.matmul(x, ops.t(weight))  # type: ignore[no-any-return]


def of_two(cost: Callable[[Tensor, Tensor], Tensor], ops: Any) -> Callable[[list[Tensor], Tensor], Tensor]:
    return lambda outputs, targets: ops.add(cost(outputs[0], targets), cost(outputs[1], targets))


def builtin_cost(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(-1).mean()


MODELS: dict[str, tuple[type[torch.nn.Module], tuple[tuple[int, ...], ...]]] = {
    "residual": (Residual, ((7, 6),)),
    "a shared layer": (Shared, ((7, 6),)),
    "two inputs": (TwoInputs, ((7, 6), (7, 6))),
    "(N, T, C)": (Attention, ((7, 5, 6),)),
    "two outputs": (TwoOutputs, ((7, 6),)),
    "a generated weight": (Generated, ((7, 6),)),
}


class Builtin(torch.nn.Module):
    """The same model with PyTorch's own layers and operations."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = nn.as_builtin(model)

    def forward(self, *inputs: Tensor) -> Any:
        return self.model(*inputs, ops=torch)


def case(name: str) -> tuple[torch.nn.Module, Any, Any, tuple[Tensor, ...], Tensor]:
    torch.manual_seed(0)
    model_class, shapes = MODELS[name]
    two = name == "two outputs"
    cost = of_two(F.squared_error, F) if two else F.squared_error
    reference = of_two(builtin_cost, torch) if two else builtin_cost
    inputs = tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return model_class().double(), cost, reference, inputs, torch.rand(7, 3, dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_any_graph_are_autograds(name: str) -> None:
    model, cost, reference, inputs, targets = case(name)
    value = reference(Builtin(model)(*inputs), targets)
    expected = torch.autograd.grad(value, list(model.parameters()))
    actual, gradients = Backprop(model, cost).gradients(inputs if inputs[1:] else inputs[0], targets)
    torch.testing.assert_close(actual, value.detach(), rtol=1e-12, atol=1e-12)
    assert list(gradients) == [parameter for parameter, _ in model.named_parameters()]
    torch.testing.assert_close(list(gradients.values()), list(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.1}])
@pytest.mark.parametrize("name", MODELS)
def test_steps_of_any_graph_are_those_of_torch_sgd(name: str, options: dict[str, float]) -> None:
    model, cost, reference, inputs, targets = case(name)
    other, *_ = case(name)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, **options)  # type: ignore[arg-type]
    backprop = Backprop(model, cost, **options)
    for _ in range(3):
        optimizer.zero_grad()
        reference(Builtin(other)(*inputs), targets).backward()
        optimizer.step()
        backprop.sgd_step(inputs, targets, 0.1)
    torch.testing.assert_close(list(model.parameters()), list(other.parameters()), rtol=1e-11, atol=1e-11)


def test_each_backward_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if an output is used three times."""
    calls = []
    backward_ = Sigmoid.backward
    monkeypatch.setattr(Sigmoid, "backward", staticmethod(lambda ctx, g: (calls.append(g), backward_(ctx, g))[1]))
    weight = torch.ones(2, requires_grad=True)
    with Tape() as tape:
        y = F.sigmoid(weight)
        cost = F.sum(F.mul(F.add(y, y), y))
    gradient = backward(tape, cost)[weight]
    assert len(calls) == 1
    expected = torch.autograd.grad((2 * torch.sigmoid(weight) ** 2).sum(), weight)[0]
    torch.testing.assert_close(gradient, expected)


def test_calls_that_do_not_affect_the_cost_have_no_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    with Tape() as tape:
        F.exp(weight)
        cost = F.sum(F.sigmoid(weight))
    assert set(backward(tape, cost)) == {weight, cost, tape[1].output}


class ReverseGradient(Function):
    """Returns its input object, with a negated gradient."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return input

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return -grad_output


def test_an_output_that_is_the_input_has_a_separate_gradient() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    with Tape() as tape:
        cost = F.sum(F.add(F.mul(ReverseGradient.call(weight), 3), weight))
    assert backward(tape, cost)[weight].item() == -3 + 1


class Largest(Function):
    """Uses every method of autograd's ctx that `setup_context` may call."""

    @staticmethod
    def forward(input: Tensor, index: bool) -> Tensor:
        return input.argmax(1).double() if index else input.amax(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)
        ctx.set_materialize_grads(False)
        if inputs[1]:
            ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        input, output = ctx.saved_tensors
        return (input == output.unsqueeze(1)) * grad_output.unsqueeze(1), None


def test_outputs_without_a_gradient() -> None:
    """Marked as not differentiable, or of an integer dtype."""
    weight = torch.tensor([[1.0, 3.0], [2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    with Tape() as tape:
        index = Largest.call(weight, True)
        rounded = F.sum(F.unsqueeze(weight, 2), 2, dtype=torch.int64)
        cost = F.sum(F.mul(F.mul(Largest.call(weight, False), index), F.getitem(rounded, (slice(None), 0))))
    assert not index.requires_grad
    assert not rounded.requires_grad
    assert backward(tape, cost)[weight].tolist() == [[0, 1], [0, 0]]


def test_a_gradient_may_be_changed_in_place() -> None:
    bias = torch.tensor(3.0, requires_grad=True)
    with Tape() as tape:
        cost = F.add(bias, 1.0)
    backward(tape, cost)[bias].mul_(5)
    assert backward(tape, cost)[bias].item() == 1


def test_a_transform_may_compute_a_constant() -> None:
    """Calls inside of `torch.func` transforms are not recorded."""
    weight, inputs = torch.rand(3, 4, requires_grad=True), torch.rand(5, 4)
    with Tape() as tape:
        cost = F.sum(F.linear(torch.func.grad(lambda x: F.sum(F.square(x)))(inputs), weight))
    torch.testing.assert_close(backward(tape, cost)[weight], (2 * inputs).sum(0).expand(3, 4))


def test_tapes_can_be_nested() -> None:
    weight = torch.ones(2, requires_grad=True)
    with Tape() as outer:
        F.exp(weight)
        with Tape() as inner:
            F.sigmoid(weight)
        F.tanh(weight)
    assert [call.function.__name__ for call in outer] == ["Exp", "Tanh"]
    assert [call.function.__name__ for call in inner] == ["Sigmoid"]
    assert F.tanh(weight).grad_fn is not None


class Student(torch.nn.Module):
    """Uses a teacher that is not a submodule, and a layer under no_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.teacher = [nn.Linear(6, 5)]

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.add(self.first(x), self.teacher[0](x))
        with torch.no_grad():
            gate = F.sigmoid(self.first(x))
        return self.last(F.mul(hidden, gate))  # type: ignore[no-any-return]


def test_only_the_models_parameters_are_updated_and_no_grad_is_respected() -> None:
    torch.manual_seed(0)
    model, inputs, targets = Student(), torch.randn(7, 6), torch.rand(7, 3)
    teacher = [p.detach().clone() for p in model.teacher[0].parameters()]
    value = F.squared_error(model(inputs), targets)
    expected = torch.autograd.grad(value, list(model.parameters()))
    backprop = Backprop(model, F.squared_error)
    torch.testing.assert_close(list(backprop.gradients(inputs, targets)[1].values()), list(expected))
    updated = [p.detach() - 0.1 * gradient for p, gradient in zip(model.parameters(), expected, strict=True)]
    backprop.sgd_step(inputs, targets, 0.1)
    torch.testing.assert_close([p.detach() for p in model.parameters()], updated)
    assert all(map(torch.equal, teacher, model.teacher[0].parameters()))
