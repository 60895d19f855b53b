"""Unsupported models and invalid batches or gradients: a clear error, and no parameter is changed."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.engine import Backprop
from bp_torch.functional.activations import Sigmoid
from bp_torch.functional.function import Function, save
from bp_torch.inspection import per_example_norms
from bp_torch.nn import mlp

INPUTS, TARGETS = torch.rand(6, 5), torch.eye(3)[torch.arange(6) % 3]
CLASSES = torch.arange(6) % 3


def make_backprop(**options: Any) -> Backprop:
    torch.manual_seed(0)
    return Backprop(mlp((5, 4, 3)), F.squared_error, momentum=0.9, **options)


def assert_refused(
    backprop: Backprop, inputs: Any, targets: Any, error: type[Exception], message: str, learning_rate: float = 0.1
) -> None:
    """Assert that either step raises, and that parameters and the optimizers' state are unchanged."""
    steps, valid = (backprop.sgd_step, backprop.adamw_step), TARGETS if backprop.cost is F.squared_error else CLASSES
    for step in steps:
        step(INPUTS, valid, 0.1)
    before = [x.detach().clone() for x in (*backprop.model.parameters(), *backprop.state_dict().values())]
    for step in steps:
        with pytest.raises(error, match=message):
            step(inputs, targets, learning_rate)
    after = (*backprop.model.parameters(), *backprop.state_dict().values())
    assert all(map(torch.equal, before, after))


BAD_BATCHES: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "another width": (torch.rand(6, 4), TARGETS, RuntimeError, r"input \(6, 4\) and weight \(4, 5\) do not match"),
    "another dtype": (
        INPUTS.double(),
        TARGETS.double(),
        RuntimeError,
        "input is torch.float64 but weight is torch.float32",
    ),
    "half precision": (
        INPUTS.half(),
        TARGETS.half(),
        RuntimeError,
        "input is torch.float16 but weight is torch.float32",
    ),
    "integers": (INPUTS.long(), TARGETS, RuntimeError, "input is torch.int64"),
    "another device": (INPUTS.to("meta"), TARGETS.to("meta"), RuntimeError, "input is on meta but weight is on cpu"),
    "not a Tensor": ([[1.0] * 5], TARGETS, TypeError, "inputs must be Tensors, not list"),
    "more dimensions": (torch.rand(2, 6, 5), TARGETS, ValueError, r"input \(2, 6, 3\) and target \(6, 3\)"),
    "fewer targets": (INPUTS, TARGETS[:5], ValueError, r"input \(6, 3\) and target \(5, 3\)"),
    "classes for vectors": (INPUTS, CLASSES, NotImplementedError, "'target' .* torch.int64"),
    "no examples": (INPUTS[:0], TARGETS[:0], FloatingPointError, "the cost is not finite: nan"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_an_invalid_batch(name: str) -> None:
    assert_refused(make_backprop(), *BAD_BATCHES[name])


@pytest.mark.parametrize("wrong", [3, -1, 10**6])
def test_a_target_out_of_range(wrong: int) -> None:
    backprop = make_backprop()
    backprop.cost = nn.CrossEntropyLoss()
    targets = CLASSES.clone()
    targets[2] = wrong
    assert_refused(backprop, INPUTS, targets, IndexError, f"Target {wrong} is out of bounds")


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "gelu"])
def test_inputs_that_are_not_finite(number: float, activation: str) -> None:
    """Even if a saturated neuron hides them from the cost: 0 · ∞ would be added to the weights."""
    backprop = make_backprop()
    backprop.model = mlp((5, 4, 3), activation, output_activation="sigmoid")
    inputs = INPUTS.clone()
    inputs[1, 2] = number
    assert_refused(
        backprop, inputs, TARGETS, FloatingPointError, r"the output of module hidden1 \(Linear\) is not finite"
    )


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_targets_that_are_not_finite(number: float) -> None:
    targets = TARGETS.clone()
    targets[5, 0] = number
    assert_refused(make_backprop(), INPUTS, targets, FloatingPointError, "the cost is not finite")


def test_overflowing_activations_before_a_sigmoid() -> None:
    """They are infinite between two layers, while the cost is finite."""
    backprop = make_backprop()
    backprop.model = torch.nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Sigmoid())
    with torch.no_grad():
        backprop.model[0].weight.fill_(3e38)  # type: ignore[operator]
        backprop.model[2].weight.fill_(1)  # type: ignore[operator]
    assert F.squared_error(backprop.model(INPUTS), TARGETS).isfinite()
    before = [p.detach().clone() for p in backprop.model.parameters()]
    with pytest.raises(FloatingPointError, match=r"the output of module 0 \(Linear\) is not finite"):
        backprop.sgd_step(INPUTS, TARGETS, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(backprop.model.parameters(), before, strict=True))


def test_a_gradient_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a backward that divides by 0; no layer after it may be updated either."""
    backward = Sigmoid.backward
    backprop = make_backprop()
    backprop.sgd_step(INPUTS, TARGETS, 0.1)
    monkeypatch.setattr(Sigmoid, "backward", staticmethod(lambda ctx, g: backward(ctx, g) / (g.shape[1] - 4)))
    before = [p.detach().clone() for p in backprop.model.parameters()]
    with pytest.raises(
        FloatingPointError, match=r"the gradient of the output of module hidden1 \(Linear\) is not finite"
    ):
        backprop.sgd_step(INPUTS, TARGETS, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(backprop.model.parameters(), before, strict=True))


class Divide(Function):
    """y = x / w; `alter` changes its weight gradient."""

    alter = staticmethod(lambda gradient: gradient)

    @staticmethod
    def forward(input: Tensor, weight: Tensor) -> Tensor:
        return input / weight

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None]:
        input, weight = ctx.saved_tensors
        return grad_output / weight, Divide.alter((-grad_output * input / weight**2).sum(0))


class Divided(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), 2.0))

    def forward(self, input: Tensor) -> Tensor:
        return Divide.call(input, self.weight)


@pytest.mark.parametrize(
    ("alter", "error", "message"),
    [
        (lambda gradient: gradient / 0, FloatingPointError, "the gradient of '1.weight' is not finite"),
        (
            lambda gradient: gradient.sum(),
            RuntimeError,
            r"Divide.backward must return a gradient \(4,\), not \(\)",
        ),
        (lambda gradient: None, RuntimeError, r"Divide.backward must return a gradient \(4,\), not None"),
    ],
)
def test_an_invalid_gradient_of_a_custom_function(
    monkeypatch: pytest.MonkeyPatch, alter: Callable[[Tensor], Any], error: type[Exception], message: str
) -> None:
    """All gradients are computed before any parameter is changed."""
    backprop = make_backprop()
    backprop.model = torch.nn.Sequential(nn.Linear(5, 4), Divided(), nn.Linear(4, 3))
    backprop.sgd_step(INPUTS, TARGETS, 0.1)
    monkeypatch.setattr(Divide, "alter", staticmethod(alter))
    before = [p.detach().clone() for p in backprop.model.parameters()]
    with pytest.raises(error, match=message):
        backprop.sgd_step(INPUTS, TARGETS, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(backprop.model.parameters(), before, strict=True))


@pytest.mark.parametrize("learning_rate", [-0.1, torch.nan, torch.inf])
def test_an_invalid_learning_rate(learning_rate: float) -> None:
    assert_refused(make_backprop(), INPUTS, TARGETS, ValueError, "learning_rate must be a number from 0", learning_rate)


@pytest.mark.parametrize("options", [{"momentum": -1.0}, {"weight_decay": torch.nan}])
def test_invalid_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a number from 0 to"):
        Backprop(mlp((5, 3)), F.squared_error, **options)


def test_large_finite_numbers_are_applied() -> None:
    """Their sums overflow in the first check of finiteness, but they do not."""
    model = torch.nn.Sequential(nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.fill_(1e100)
    backprop = Backprop(model, nn.L1Loss())
    cost = backprop.sgd_step(torch.full((1, 1), 1e208, dtype=torch.float64), torch.zeros(1, 1).double(), 1e-3)
    assert cost + cost == torch.inf
    assert model[0].weight.item() == pytest.approx(-1e205)


class Residual(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, input: Tensor) -> Tensor:
        return input + self.inner(input)  # type: ignore[no-any-return]


class Decoder(torch.nn.Module):
    """Uses the transposed weight of another layer; PyTorch's `t` would lose this part of its gradient."""

    def __init__(self, encoder: torch.nn.Linear) -> None:
        super().__init__()
        self.encoder = [encoder]
        self.bias = torch.nn.Parameter(torch.zeros(5))

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.encoder[0].weight.t(), self.bias)


def tied() -> torch.nn.Module:
    encoder = nn.Linear(5, 5)
    return torch.nn.Sequential(encoder, Decoder(encoder))


class Gated(torch.nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return Divide.call(input, torch.exp(input))


class Normalised(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight / self.weight.norm(), self.bias)


class Doubling(torch.nn.Module):
    """Changes the output of a hand-written function in place."""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(F.tanh(input).mul_(2))


class Unrecorded(torch.autograd.Function):
    """A torch.autograd.Function, which no tape records."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        return input.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:  # type: ignore[override]
        return grad_output


class Foreign(torch.nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(Unrecorded.apply(input))


class Assigning(torch.nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        output = torch.zeros(6, 5)
        output[:, :2] = F.sigmoid(input)[:, :2]
        return F.tanh(output)


class Mapped(torch.nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(torch.vmap(F.sigmoid)(input))


UNSUPPORTED: dict[str, tuple[Callable[[], torch.nn.Module], str]] = {
    "PyTorch's own": (lambda: torch.nn.Linear(5, 5), r"1\.0 \(Linear\) calls torch\.nn\.functional\.linear,"),
    "dropout": (lambda: torch.nn.Dropout(0.5), r"1\.0 \(Dropout\) calls torch\.nn\.functional\.dropout,"),
    "an operator": (Residual, r"1\.0 \(Residual\) calls torch\.Tensor\.add, .*; use bp_torch\.functional\.add"),
    "on a weight": (lambda: Normalised(5, 5), r"1\.0 \(Normalised\) calls torch\.Tensor\.\S*div\S*,"),
    "on a shared weight": (tied, r"1\.0\.1 \(Decoder\) calls torch\.Tensor\.t,"),
    "on a second path": (Gated, r"1\.0 \(Gated\) calls torch\.exp, .*; use bp_torch\.functional\.exp"),
    "in place": (lambda: nn.ReLU(inplace=True), r"1\.0 \(ReLU\) calls .*copy_, .* no in-place"),
    "in place, on an output": (Doubling, r"1\.0 \(Doubling\) calls torch\.Tensor\.mul_, .*functional\.mul"),
    "in place, on a slice": (Assigning, r"1\.0 \(Assigning\) calls torch\.Tensor\.__setitem__,"),
    "under vmap": (Mapped, r"1\.0 \(Mapped\) receives the result of VmappedSigmoid,"),
    "autograd.Function": (Foreign, r"1\.0 \(Foreign\) receives the result of Unrecorded, .* and use Unrecorded\.call"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_operation_that_is_not_hand_written_is_named(name: str) -> None:
    """With the module that calls it. Parameters are unchanged, and no hook is left."""
    layer, message = UNSUPPORTED[name]
    torch.manual_seed(0)
    model = torch.nn.Sequential(nn.Linear(5, 5), torch.nn.Sequential(layer()), nn.Linear(5, 3))
    before = [p.detach().clone() for p in model.parameters()]
    for attempt in (
        Backprop(model, F.squared_error).gradients,
        Backprop(model, F.squared_error).trace,
        lambda x, t: Backprop(model, F.squared_error).sgd_step(x, t, 1),
    ):
        with pytest.raises(TypeError, match=message):
            attempt(INPUTS, TARGETS)
    assert all(map(torch.equal, model.parameters(), before))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert F.sigmoid(model[0].weight).grad_fn is not None, "no tape is left active"


def test_constants_may_be_computed_by_any_operation() -> None:
    """Before the first parameter, from constants, detached, or not differentiable."""

    class Masked(torch.nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            return F.mul(input, (input.detach() > 0.1) * torch.linspace(0, 1, 4) + input.detach().mean())

    model = torch.nn.Sequential(torch.nn.Tanh(), nn.Linear(5, 4), Masked(), nn.Linear(4, 3))
    cost, gradients = Backprop(model, F.squared_error).gradients(INPUTS, TARGETS)
    value = F.squared_error(model(INPUTS), TARGETS)
    torch.testing.assert_close(
        (cost, *gradients.values()), (value.detach(), *torch.autograd.grad(value, list(model.parameters())))
    )


def test_a_refused_step_changes_running_statistics_once() -> None:
    model = torch.nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    with pytest.raises(FloatingPointError):
        Backprop(model, F.mse_loss).sgd_step(torch.randn(4, 2), torch.full((4, 1), torch.inf), 0.1)
    assert model[0].num_batches_tracked == 1  # as after a forward pass without a step


def test_an_in_place_change_of_a_saved_tensor() -> None:
    class Changing(torch.nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            output = F.tanh(input)
            with torch.no_grad():
                output.mul_(2)
            return output

    model = torch.nn.Sequential(nn.Linear(5, 3), Changing())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        Backprop(model, F.squared_error).sgd_step(INPUTS, TARGETS, 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        F.squared_error(model(INPUTS), TARGETS).backward()  # type: ignore[no-untyped-call]


class Hooked(torch.nn.Module):
    """Registers a gradient hook on an output, before or after another call receives it."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        self.late = late

    def forward(self, input: Tensor) -> Tensor:
        first = F.tanh(input)
        last = F.tanh(first)
        (first if self.late else last).register_hook(lambda gradient: 2 * gradient)  # type: ignore[no-untyped-call]
        return last


HOOKED = {"a parameter": "module 0 (Linear)", "an output": "the cost", "an output, late": "Tanh"}


@pytest.mark.parametrize("of", HOOKED)
def test_a_hook_on_a_gradient(of: str) -> None:
    """Autograd would call it; the engine must not ignore it silently."""
    model = torch.nn.Sequential(nn.Linear(5, 3))
    if of == "a parameter":
        model[0].bias.register_hook(torch.zeros_like)  # type: ignore[operator]
    else:
        model.append(Hooked(late=of == "an output, late"))
    backprop = Backprop(model, F.squared_error)
    for attempt in (backprop.gradients, partial(backprop.sgd_step, learning_rate=0.1), partial(norms, model)):
        with pytest.raises(
            RuntimeError, match=re.escape(f"{HOOKED[of]} uses a Tensor with a gradient hook, which only")
        ):
            attempt(INPUTS, TARGETS)


def norms(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return per_example_norms(model, F.squared_error, inputs, targets)


def test_a_post_accumulate_hook() -> None:
    model = nn.Linear(5, 3)
    model.bias.register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(RuntimeError, match=r"module \(Linear\) uses a Tensor with a gradient hook"):
        Backprop(model, F.squared_error).sgd_step(INPUTS, TARGETS, 0.1)


def test_a_model_wrapped_for_autograd() -> None:
    with pytest.raises(TypeError, match="model must be the module itself, not a OptimizedModule"):
        Backprop(torch.compile(nn.Linear(5, 3)), F.squared_error)  # type: ignore[arg-type]


def test_a_module_that_rejects_hooks_leaves_no_tape_active() -> None:
    class Closed(torch.nn.Module):
        def register_forward_pre_hook(self, *arguments: Any, **options: Any) -> Any:
            raise RuntimeError("not supported")

    model = torch.nn.Sequential(nn.Linear(5, 3), Closed())
    with pytest.raises(RuntimeError, match="not supported"):
        Backprop(model, F.squared_error).trace(INPUTS, TARGETS)
    assert F.sigmoid(model[0].weight).grad_fn is not None
    assert not model[0]._forward_hooks


def test_a_learning_rate_beyond_float16() -> None:
    model = torch.nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).half()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="learning_rate must be at most 65504"):
        Backprop(model, F.squared_error).sgd_step(INPUTS.half(), TARGETS.half(), 1e5)
    assert all(map(torch.equal, model.parameters(), before))


def test_an_expanded_parameter() -> None:
    model = nn.Linear(5, 3)
    model.weight = torch.nn.Parameter(torch.rand(1, 5).expand(3, 5))
    with pytest.raises(ValueError, match="'weight' is expanded"):
        Backprop(model, F.squared_error)


def test_a_model_without_parameters_is_rejected() -> None:
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        Backprop(nn.Sigmoid(), F.squared_error).gradients(INPUTS, INPUTS)


COSTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], type[Exception], str]] = {
    "PyTorch's own": (torch.nn.MSELoss(), TypeError, r"the cost calls torch\.nn\.functional\.mse_loss, which is not"),
    "halved": (lambda y, t: F.squared_error(y, t) / 2, TypeError, r"the cost calls torch\.Tensor\.div"),
    "an operator": (lambda y, t: F.squared_error(2 * y, t), TypeError, r"the cost calls torch\.Tensor\.r?mul"),
    "not a Tensor": (lambda y, t: 1.0, TypeError, "the cost must be a Tensor, not float"),
    "unreduced": (lambda y, t: F.mse_loss(y, t, reduction="none"), ValueError, r"must be a scalar, not \(6, 3\)"),
}


def test_a_cost_with_several_terms() -> None:
    """Uses the outputs twice, or a parameter of the model, as weight penalties do."""
    model = mlp((5, 4, 3))
    weight = model[2].weight
    for cost in (
        lambda y, t: F.squared_error(y, F.mul(y, 0.5)),
        lambda y, t: F.add(F.squared_error(y, t), F.sum(F.square(weight))),
    ):
        value = cost(model(INPUTS), TARGETS)
        gradients = Backprop(model, cost).gradients(INPUTS, TARGETS)[1].values()
        torch.testing.assert_close(tuple(gradients), torch.autograd.grad(value, list(model.parameters())))


def test_the_cost_may_be_replaced() -> None:
    backprop = Backprop(mlp((5, 4, 3)), F.squared_error)
    backprop.gradients(INPUTS, TARGETS)
    backprop.cost = torch.nn.MSELoss()
    with pytest.raises(TypeError, match="the cost calls"):
        backprop.gradients(INPUTS, TARGETS)
    backprop.cost = nn.MSELoss(reduction="sum")
    cost, _ = backprop.gradients(INPUTS, TARGETS)
    torch.testing.assert_close(cost, (backprop.model(INPUTS).detach() - TARGETS).square().sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_autograd(dtype: torch.dtype) -> None:
    model = mlp((5, 4, 3)).to(dtype)
    value = F.squared_error(model(INPUTS.to(dtype)), TARGETS.to(dtype))
    _, gradients = Backprop(model, F.squared_error).gradients(INPUTS.to(dtype), TARGETS.to(dtype))
    assert all(map(torch.equal, gradients.values(), torch.autograd.grad(value, list(model.parameters()))))


def test_autocast_is_that_of_autograd() -> None:
    model = mlp((5, 4, 3))
    with torch.autocast("cpu"):
        _, gradients = Backprop(model, F.squared_error).gradients(INPUTS, TARGETS)
        value = F.squared_error(model(INPUTS), TARGETS)
    assert all(map(torch.equal, gradients.values(), torch.autograd.grad(value, list(model.parameters()))))


def test_a_model_that_is_not_a_module() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not list"):
        Backprop([nn.Linear(5, 3)], F.squared_error)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"weight_decay": 1e38}])
def test_a_learning_rate_beyond_float32_changes_nothing(options: dict[str, float]) -> None:
    backprop = Backprop(mlp((5, 3)), F.squared_error, **options)
    backprop.sgd_step(INPUTS, TARGETS, 0.0)
    before = [p.detach().clone() for p in backprop.model.parameters()]
    with pytest.raises(ValueError, match=r"learning_rate must be a number from 0 to 3.4e\+38"):
        backprop.sgd_step(INPUTS, TARGETS, 1e39)
    assert all(torch.equal(p, was) for p, was in zip(backprop.model.parameters(), before, strict=True))


def test_outputs_of_a_frozen_layer_are_checked() -> None:
    """They overflow, while a sigmoid keeps the cost finite."""
    model = torch.nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Sigmoid())
    with torch.no_grad():
        model[0].weight.fill_(3e38)
        model[2].weight.fill_(1)
    model[0].requires_grad_(False)
    with pytest.raises(FloatingPointError, match=r"the output of module 0 \(Linear\) is not finite"):
        Backprop(model, F.squared_error).sgd_step(INPUTS, TARGETS, 0.1)


@pytest.mark.parametrize("name", COSTS)
def test_an_invalid_cost(name: str) -> None:
    cost, error, message = COSTS[name]
    model = mlp((5, 4, 3))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(error, match=message):
        Backprop(model, cost).sgd_step(INPUTS, TARGETS, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


def test_a_gradient_of_the_wrong_shape_changes_nothing() -> None:
    """The shape is checked before any layer is updated."""

    class WrongShape(Function):
        @staticmethod
        def forward(input: Tensor) -> Tensor:
            return input.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            save(ctx, output)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            return grad_output.sum(1)

    class Layer(torch.nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            return WrongShape.call(input)

    model = torch.nn.Sequential(nn.Linear(5, 4), Layer(), nn.Linear(4, 3))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=re.escape("WrongShape.backward must return a gradient (6, 4), not (6,)")):
        Backprop(model, F.squared_error).sgd_step(INPUTS, TARGETS, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))
