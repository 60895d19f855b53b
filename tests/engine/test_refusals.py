"""What the engine cannot drive, or must not apply: a clear error, and nothing is changed."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.engine import Backprop
from bp_torch.functional.activations import Sigmoid
from bp_torch.functional.function import Function, save
from bp_torch.nn import mlp

INPUTS, WANTED = torch.rand(6, 5), torch.eye(3)[torch.arange(6) % 3]
CLASSES = torch.arange(6) % 3


def driver(**options: Any) -> Backprop:
    torch.manual_seed(0)
    return Backprop(mlp((5, 4, 3)), F.squared_error, momentum=0.9, **options)


def assert_refused(
    backprop: Backprop, inputs: Any, targets: Any, error: type[Exception], message: str, learning_rate: float = 0.1
) -> None:
    """With a message that says what is wrong, and neither parameters nor velocities touched."""
    backprop.sgd_step(INPUTS, WANTED if backprop.cost is F.squared_error else CLASSES, 0.1)
    before = {name: p.detach().clone() for name, p in backprop.model.named_parameters()}
    velocity = {name: v.clone() for name, v in backprop._velocity.items()}
    with pytest.raises(error, match=message):
        backprop.sgd_step(inputs, targets, learning_rate)
    assert all(torch.equal(p, before[name]) for name, p in backprop.model.named_parameters())
    assert all(torch.equal(v, velocity[name]) for name, v in backprop._velocity.items())


BAD_BATCHES: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "another width": (torch.rand(6, 4), WANTED, RuntimeError, r"input \(6, 4\) and weight \(4, 5\) do not fit"),
    "another dtype": (
        INPUTS.double(),
        WANTED.double(),
        RuntimeError,
        "input is torch.float64 but weight is torch.float32",
    ),
    "half precision": (
        INPUTS.half(),
        WANTED.half(),
        RuntimeError,
        "input is torch.float16 but weight is torch.float32",
    ),
    "integers": (INPUTS.long(), WANTED, RuntimeError, "input is torch.int64"),
    "another device": (INPUTS.to("meta"), WANTED.to("meta"), RuntimeError, "input is on meta but weight is on cpu"),
    "no Tensor": ([[1.0] * 5], WANTED, TypeError, "inputs must be a Tensor, not list"),
    "more dimensions": (
        torch.rand(2, 6, 5),
        WANTED,
        TypeError,
        r"layer 0 \(Linear\): it does more than .* \(2, 6, 5\)",
    ),
    "fewer targets": (INPUTS, WANTED[:5], ValueError, r"input \(6, 3\) and target \(5, 3\)"),
    "classes for vectors": (INPUTS, CLASSES, NotImplementedError, "'target' .* torch.int64"),
    "targets in float64": (INPUTS, WANTED.double(), TypeError, "cannot drive the cost"),
    "no examples": (INPUTS[:0], WANTED[:0], FloatingPointError, "the cost is not finite: nan"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_batch_that_does_not_fit(name: str) -> None:
    assert_refused(driver(), *BAD_BATCHES[name])


@pytest.mark.parametrize("wrong", [3, -1, 10**6])
def test_a_target_out_of_range(wrong: int) -> None:
    backprop = driver()
    backprop.cost = nn.CrossEntropyLoss()
    targets = CLASSES.clone()
    targets[2] = wrong
    assert_refused(backprop, INPUTS, targets, IndexError, f"Target {wrong} is out of bounds")


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "gelu"])
def test_inputs_that_are_not_finite(number: float, activation: str) -> None:
    """Also where a saturated neuron hides them: its cost is finite, and 0 · ∞ would be written into the weights."""
    backprop = driver()
    backprop.model = mlp((5, 4, 3), activation, output_activation="sigmoid")
    inputs = INPUTS.clone()
    inputs[1, 2] = number
    assert_refused(
        backprop, inputs, WANTED, FloatingPointError, r"what layer 0 \(Linear\) gives is not finite: -?(nan|inf)"
    )


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_targets_that_are_not_finite(number: float) -> None:
    targets = WANTED.clone()
    targets[5, 0] = number
    assert_refused(driver(), INPUTS, targets, FloatingPointError, "the cost is not finite")


def test_activations_that_overflow_and_are_squashed_again() -> None:
    """Infinite between two layers, and nowhere to be seen in the cost."""
    backprop = driver()
    backprop.model = torch.nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Sigmoid())
    with torch.no_grad():
        backprop.model[0].weight.fill_(3e38)  # type: ignore[operator]
        backprop.model[2].weight.fill_(1)  # type: ignore[operator]
    assert F.squared_error(backprop.model(INPUTS), WANTED).isfinite()
    before = [p.detach().clone() for p in backprop.model.parameters()]
    with pytest.raises(FloatingPointError, match=r"the sum of what layer 0 \(Linear\) gives is not finite: inf"):
        backprop.sgd_step(INPUTS, WANTED, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(backprop.model.parameters(), before, strict=True))


def test_a_gradient_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a backward that divides by 0, say; the layer above it would already have been changed."""
    backward = Sigmoid.backward
    backprop = driver()
    backprop.sgd_step(INPUTS, WANTED, 0.1)
    monkeypatch.setattr(Sigmoid, "backward", staticmethod(lambda ctx, g: backward(ctx, g) / (g.shape[1] - 4)))
    before = [p.detach().clone() for p in backprop.model.parameters()]
    with pytest.raises(FloatingPointError, match=r"the gradient that reaches layer 0 \(Linear\) is not finite"):
        backprop.sgd_step(INPUTS, WANTED, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(backprop.model.parameters(), before, strict=True))


class Divide(Function):
    """y = x / w, whose own backward divides by w too, and of which `wrong` says how it goes wrong."""

    wrong = staticmethod(lambda gradient: gradient)

    @staticmethod
    def forward(input: Tensor, weight: Tensor) -> Tensor:
        return input / weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None]:
        input, weight = ctx.saved_tensors
        return grad_output / weight, Divide.wrong((-grad_output * input / weight**2).sum(0))


class Divided(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), 2.0))

    def forward(self, input: Tensor) -> Tensor:
        return Divide.call(input, self.weight)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda gradient: gradient / 0, FloatingPointError, "the gradient of '1.weight' is not finite"),
        (
            lambda gradient: gradient.sum(),
            RuntimeError,
            r"layer 1 \(Divided\) gives no gradient of the shape of '1.weight'",
        ),
        (lambda gradient: None, RuntimeError, r"layer 1 \(Divided\) gives no gradient of the shape of '1.weight'"),
    ],
)
def test_a_gradient_of_ones_own_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Tensor], Any], error: type[Exception], message: str
) -> None:
    """It is computed before anything is changed, the layer above included."""
    backprop = driver()
    backprop.model = torch.nn.Sequential(nn.Linear(5, 4), Divided(), nn.Linear(4, 3))
    backprop.sgd_step(INPUTS, WANTED, 0.1)
    monkeypatch.setattr(Divide, "wrong", staticmethod(wrong))
    before = [p.detach().clone() for p in backprop.model.parameters()]
    with pytest.raises(error, match=message):
        backprop.sgd_step(INPUTS, WANTED, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(backprop.model.parameters(), before, strict=True))


@pytest.mark.parametrize("learning_rate", [-0.1, torch.nan, torch.inf])
def test_a_learning_rate_that_is_none(learning_rate: float) -> None:
    assert_refused(driver(), INPUTS, WANTED, ValueError, "learning_rate must be a number from 0", learning_rate)


@pytest.mark.parametrize("options", [{"momentum": -1.0}, {"weight_decay": torch.nan}])
def test_options_that_are_none(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a number from 0 to"):
        Backprop(mlp((5, 3)), F.squared_error, **options)


def test_large_numbers_that_are_finite_are_applied() -> None:
    """Whose sums, but not they themselves, are too large for the quick look."""
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
    """Shares its weight, transposed, with a layer that learns it: its own part of that gradient would be lost."""

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


class FrozenNormalised(nn.Linear):
    def __init__(self) -> None:
        super().__init__(5, 5)
        self.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight / self.weight.norm(), self.bias)


class NotOfItsInput(torch.nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(2 * input)


class Normalised(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight / self.weight.norm(), self.bias)


UNDRIVEN: dict[str, tuple[Callable[[], torch.nn.Module], str]] = {
    "PyTorch's own": (lambda: torch.nn.Linear(5, 5), r"layer 1.0 \(Linear\): it applies no hand-written function"),
    "dropout": (lambda: torch.nn.Dropout(0.5), r"layer 1.0 \(Dropout\): it applies no hand-written function"),
    "residual": (Residual, r"layer 1.0 \(Residual\): it does more than apply hand-written functions"),
    "not of its input": (NotOfItsInput, r"layer 1.0 \(NotOfItsInput\): it does more"),
    "tied to another": (tied, r"layer 1.0.1 \(Decoder\): it computes what it gives a function beside its input"),
    "gated by its input": (Gated, r"layer 1.0 \(Gated\): it computes what it gives"),
    "frozen, and normalised": (FrozenNormalised, r"layer 1.0 \(FrozenNormalised\): it computes what it gives"),
    "in place": (lambda: nn.ReLU(inplace=True), r"layer 1.0 \(ReLU\): it does more"),
    "a weight made of a parameter": (lambda: Normalised(5, 5), r"layer 1.0 \(Normalised\): it computes what it gives"),
}


@pytest.mark.parametrize("name", UNDRIVEN)
def test_a_layer_that_cannot_be_driven_is_named(name: str) -> None:
    layer, message = UNDRIVEN[name]
    model = torch.nn.Sequential(nn.Sigmoid(), torch.nn.Sequential(layer()), nn.Linear(5, 3))
    for attempt in (
        Backprop(model, F.squared_error).gradients,
        lambda x, t: Backprop(model, F.squared_error).sgd_step(x, t, 1),
    ):
        with pytest.raises(TypeError, match=message):
            attempt(INPUTS, WANTED)


def test_what_has_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter that needs a gradient"):
        Backprop(nn.Sigmoid(), F.squared_error).gradients(INPUTS, INPUTS)


COSTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], type[Exception], str]] = {
    "PyTorch's own": (torch.nn.MSELoss(), TypeError, "cannot drive the cost: it applies no hand-written function"),
    "halved": (lambda y, t: F.squared_error(y, t) / 2, TypeError, "cannot drive the cost: it does more"),
    "of each": (lambda y, t: F.mse_loss(y, t, reduction="none"), ValueError, r"must be one number, not \(6, 3\)"),
    "weighted": (nn.BCEWithLogitsLoss(weight=torch.rand(3)), TypeError, "cannot drive the cost: it does more"),
}


def test_a_cost_of_more_than_the_outputs() -> None:
    """Whose other gradient would be lost."""
    model = mlp((5, 4, 3))
    weight = model[2].weight
    costs: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda y, t: F.squared_error(y, 0.5 * y),
        lambda y, t: F.squared_error(F.linear(y, weight @ weight.t()), t),
    ]
    for cost in costs:
        driver = Backprop(model, F.squared_error)
        driver.sgd_step(INPUTS, WANTED, 0.1)
        driver.cost = cost
        with pytest.raises(TypeError, match="it is of more that learns than the outputs"):
            driver.sgd_step(INPUTS, WANTED, 0.1)


def test_a_cost_may_be_exchanged() -> None:
    driver = Backprop(mlp((5, 4, 3)), F.squared_error)
    driver.gradients(INPUTS, WANTED)
    driver.cost = torch.nn.MSELoss()
    with pytest.raises(TypeError, match="cannot drive the cost"):
        driver.gradients(INPUTS, WANTED)
    driver.cost = nn.MSELoss(reduction="sum")
    cost, _ = driver.gradients(INPUTS, WANTED)
    torch.testing.assert_close(cost, (driver.model(INPUTS).detach() - WANTED).square().sum())


def test_autocast_and_half_precision_are_named() -> None:
    driver = Backprop(mlp((5, 4, 3)), F.squared_error)
    with torch.autocast("cpu"), pytest.raises(TypeError, match="autocast is on: turn it off"):
        driver.gradients(INPUTS, WANTED)
    with pytest.raises(TypeError, match="half precision is widened inside: use float32"):
        Backprop(mlp((5, 4, 3)).half(), F.squared_error).gradients(INPUTS.half(), WANTED.half())
    with pytest.raises(TypeError, match=r"\(6, 3\) torch.float32 beside targets \(6, 3\) torch.float64"):
        driver.gradients(INPUTS, WANTED.double())


def test_no_model_at_all() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not list"):
        Backprop([nn.Linear(5, 3)], F.squared_error)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"weight_decay": 1e38}])
def test_a_learning_rate_beyond_float32_changes_nothing(options: dict[str, float]) -> None:
    driver = Backprop(mlp((5, 3)), F.squared_error, **options)
    driver.sgd_step(INPUTS, WANTED, 0.0)
    before = [p.detach().clone() for p in driver.model.parameters()]
    with pytest.raises(ValueError, match=r"learning_rate must be a number from 0 to 3.4e\+38"):
        driver.sgd_step(INPUTS, WANTED, 1e39)
    assert all(torch.equal(p, was) for p, was in zip(driver.model.parameters(), before, strict=True))


def test_what_a_frozen_layer_gives_is_looked_at_too() -> None:
    """It overflows, the next layer learns of it, and the last squashes it."""
    model = torch.nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Sigmoid())
    with torch.no_grad():
        model[0].weight.fill_(3e38)
        model[2].weight.fill_(1)
    model[0].requires_grad_(False)
    with pytest.raises(FloatingPointError, match=r"what layer 2 \(Linear\) gives is not finite: inf"):
        Backprop(model, F.squared_error).sgd_step(INPUTS, WANTED, 0.1)


@pytest.mark.parametrize("name", COSTS)
def test_a_cost_that_does_not_fit(name: str) -> None:
    cost, error, message = COSTS[name]
    model = mlp((5, 4, 3))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(error, match=message):
        Backprop(model, cost).sgd_step(INPUTS, WANTED, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


def test_what_comes_from_a_wrong_shape_changes_nothing() -> None:
    """A backward that returns a gradient of another shape is found out before the layers above it are changed."""

    class Careless(Function):
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
            return Careless.call(input)

    model = torch.nn.Sequential(nn.Linear(5, 4), Layer(), nn.Linear(4, 3))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=re.escape("layer 0 (Linear) gave (6, 4) but is asked for (6,)")):
        Backprop(model, F.squared_error).sgd_step(INPUTS, WANTED, 0.1)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))
