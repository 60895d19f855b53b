"""The engine against autograd through PyTorch's own layers, and against torch.optim."""

import copy
import pickle
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scale import Scale
from torch import Tensor
from unconstrained import unconstrained

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.catalogue import CATALOGUE, OpInfo
from bp_torch.engine import Backprop, Tape, backward
from bp_torch.functional.activations import Sigmoid
from bp_torch.functional.linear import Linear
from bp_torch.gradients.call import as_calls
from bp_torch.gradients.containers import float_tensors

DTYPES = [torch.float32, torch.float64]
LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.3),
    "elu": partial(nn.ELU, 0.5),
    "softplus": partial(nn.Softplus, 2, 5),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softmax": partial(nn.Softmax, 1),
    "log_softmax": partial(nn.LogSoftmax, 1),
    "linear": partial(nn.Linear, 6, 6, bias=False),
}
COSTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared_error": F.squared_error,
    "mse_loss": nn.MSELoss(),
    "l1_loss": nn.L1Loss(reduction="sum"),
    "smooth_l1_loss": nn.SmoothL1Loss(beta=0.3),
    "binary_cross_entropy_with_logits": nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0, dtype=torch.float64)),
    "cross_entropy": nn.CrossEntropyLoss(),
    "nll_loss": F.nll_loss,
}
OF_CLASSES = {"cross_entropy", "nll_loss"}


def chain(middle: torch.nn.Module, dtype: torch.dtype = torch.float64) -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(nn.Linear(5, 6), middle, torch.nn.Sequential(torch.nn.Identity(), nn.Linear(6, 3)))
    return layers.to(dtype)


def batch(examples: int, dtype: torch.dtype = torch.float64, *, classes: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(examples, 5, generator=generator, dtype=dtype)
    chosen = torch.randint(3, (examples,), generator=generator)
    return inputs, chosen if classes else torch.rand(examples, 3, generator=generator, dtype=dtype)


def by_autograd(
    model: torch.nn.Module, cost: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    value = cost(model(inputs), targets)
    return value.detach(), dict(zip(trainable, torch.autograd.grad(value, tuple(trainable.values())), strict=True))


def assert_same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("examples", [0, 1, 7])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_autograds(name: str, examples: int, dtype: torch.dtype) -> None:
    """For every function that maps one Tensor to another, through PyTorch's own layers."""
    model = chain(LAYERS[name](), dtype)
    inputs, targets = batch(examples, dtype)
    expected = by_autograd(nn.as_builtin(model), CATALOGUE["squared_error"].reference, inputs, targets)
    actual = Backprop(model, F.squared_error).gradients(inputs, targets)
    assert_same(actual, expected)
    assert list(actual[1]) == list(expected[1])


@pytest.mark.parametrize("name", LAYERS)
def test_traced_outputs_and_gradients_are_autograds(name: str) -> None:
    """From the inputs on, through PyTorch's own layers."""
    model = chain(LAYERS[name]())
    inputs, targets = batch(7)
    signals = [inputs.clone().requires_grad_()]
    for layer in nn.as_builtin(model).modules():
        if not list(layer.children()) and not isinstance(layer, torch.nn.Identity):
            signals.append(layer(signals[-1]))
    expected = CATALOGUE["squared_error"].reference(signals[-1], targets)
    cost, tape = Backprop(model, F.squared_error).trace(inputs.requires_grad_(), targets)
    with torch.no_grad():
        gradients = backward(tape, cost)
    traced = [inputs, *(call.output for call in tape if call.module)]
    assert_same([signal.detach() for signal in traced], [signal.detach() for signal in signals])
    assert_same([gradients[signal] for signal in traced], list(torch.autograd.grad(expected, signals)))
    assert [call.module for call in tape] == ["0 (Linear)", tape[1].module, "2.1 (Linear)", ""]
    assert not any(gradient.requires_grad for gradient in gradients.values())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("examples", [1, 7])
@pytest.mark.parametrize("name", COSTS)
def test_gradients_of_every_cost_are_autograds(name: str, examples: int, dtype: torch.dtype) -> None:
    model, cost = chain(nn.Tanh(), dtype), COSTS[name]
    inputs, targets = batch(examples, dtype, classes=name in OF_CLASSES)
    reference = nn.as_builtin(cost) if isinstance(cost, torch.nn.Module) else CATALOGUE[name].reference
    expected = by_autograd(nn.as_builtin(model), reference, inputs, targets)
    assert_same(Backprop(model, cost).gradients(inputs, targets), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_with_label_smoothing_and_class_weights_are_autograds(reduction: str) -> None:
    model = chain(nn.Tanh())
    weights = torch.tensor([0.5, 1, 3], dtype=torch.float64)
    inputs, classes = batch(7, classes=True)
    _, probabilities = batch(7)
    for options, targets in [
        ({"label_smoothing": 0.1}, classes),
        ({"weight": weights, "ignore_index": 1}, classes),
        ({"weight": weights}, probabilities),
    ]:
        cost = nn.CrossEntropyLoss(reduction=reduction, **options)  # type: ignore[arg-type]
        expected = by_autograd(nn.as_builtin(model), nn.as_builtin(cost), inputs, targets)
        assert_same(Backprop(model, cost).gradients(inputs, targets), expected)


@pytest.mark.filterwarnings(
    "ignore:.*broadcast",
    "ignore:.*'mean' divides",
    "ignore:Using a target size",
    "ignore:.*upsample` is deprecated",
)
@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_every_function_of_the_catalogue_is_recorded(entry: OpInfo) -> None:
    """The tape's gradients at its first samples are autograd's through PyTorch's own function."""
    calls = [call for call in as_calls(entry.function, entry.samples) if call.value().numel()][:6]
    for constrained in calls:
        call = unconstrained(constrained)
        upstream = torch.linspace(-1, 2, call.value().numel(), dtype=call.value().dtype).reshape(call.value().shape)
        leaves = [input.clone().requires_grad_() for input in call.inputs]
        recorded = call.at(leaves)
        with Tape() as tape:
            output = recorded.result()
            if isinstance(output, tuple):
                output = F.cat([F.reshape(part, (-1,)) for part in float_tensors(output)])
            cost = F.sum(F.mul(output, upstream))
        with torch.no_grad():
            gradients = backward(tape, cost)
        expected = call.of(entry.reference).vjp(upstream).values()
        for position, leaf, gradient in zip(call.names, leaves, expected, strict=True):
            both = gradients.get(leaf, torch.zeros_like(leaf)), gradient
            if project := constrained.structure.projections.get(position):  # they agree along the constraint
                _, pull_back = torch.func.vjp(project, constrained.args[position])
                both = tuple(pull_back(each)[0] for each in both)
            torch.testing.assert_close(*both, equal_nan=True)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    activation=st.sampled_from(sorted(nn.ACTIVATIONS)),
    examples=st.integers(0, 9),
    seed=st.integers(0, 2**31),
)
def test_gradients_of_any_network_are_autograds(sizes: list[int], activation: str, examples: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.mlp(sizes, activation).double()
    inputs = torch.randn(examples, sizes[0], dtype=torch.float64)
    targets = torch.rand(examples, sizes[-1], dtype=torch.float64)
    expected = by_autograd(nn.as_builtin(model), CATALOGUE["squared_error"].reference, inputs, targets)
    assert_same(Backprop(model, F.squared_error).gradients(inputs, targets), expected)


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -1, 2, 1, 1, 3.0], dtype=torch.float64))

    def forward(self, input: Tensor) -> Tensor:
        return Sigmoid.call(Scale.call(input, self.weight))


def shared() -> torch.nn.Sequential:
    layer = nn.Linear(6, 6)
    return torch.nn.Sequential(layer, nn.Tanh(), layer)


def half_frozen() -> torch.nn.Sequential:
    layers = torch.nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    layers[0].requires_grad_(False)
    layers[2].bias.requires_grad_(False)
    return layers


MIDDLES: dict[str, Callable[[], torch.nn.Module]] = {
    "custom": Scaled,
    "a shared layer": shared,
    "half frozen": half_frozen,
}


SGD, ADAMW = (torch.optim.SGD, Backprop.sgd_step), (torch.optim.AdamW, Backprop.adamw_step)


@pytest.mark.parametrize("name", MIDDLES)
@pytest.mark.parametrize(
    ("optimizer_and_step", "options"),
    [
        (SGD, {}),
        (SGD, {"momentum": 0.9}),
        (SGD, {"weight_decay": 0.1}),
        (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (ADAMW, {"weight_decay": 0.0}),
        (ADAMW, {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}),
    ],
)
@pytest.mark.parametrize("frozen_first", [False, True])
def test_steps_are_those_of_torch_optim(
    name: str, optimizer_and_step: Any, options: dict[str, Any], frozen_first: bool
) -> None:
    kind, step = optimizer_and_step
    models = []
    for _ in range(2):
        model = chain(MIDDLES[name]())
        model[0].requires_grad_(not frozen_first)
        models.append(model)
    optimizer = kind((p for p in models[1].parameters() if p.requires_grad), lr=0.5, **options)
    backprop = Backprop(models[0], F.squared_error, **options)
    for examples in (7, 7, 1, 3):
        inputs, targets = batch(examples)
        optimizer.zero_grad()
        cost = F.squared_error(models[1](inputs), targets)
        cost.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert_same(step(backprop, inputs, targets, 0.5), cost.detach())
        assert_same(dict(models[0].named_parameters()), dict(models[1].named_parameters()))


@pytest.mark.parametrize("name", MIDDLES)
def test_gradients_of_unusual_chains_are_autograds(name: str) -> None:
    model = chain(MIDDLES[name]())
    assert_same(Backprop(model, F.squared_error).gradients(*batch(7)), by_autograd(model, F.squared_error, *batch(7)))


def test_the_engine_calls_the_backward_that_autograd_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong equation gives the same wrong gradients in both."""
    backward = Sigmoid.backward
    monkeypatch.setattr(Sigmoid, "backward", staticmethod(lambda ctx, g: 1.5 * backward(ctx, g)))
    model = chain(nn.Sigmoid())
    _, by_hand = Backprop(model, F.squared_error).gradients(*batch(7))
    assert_same(by_hand, by_autograd(model, F.squared_error, *batch(7))[1])
    correct = by_autograd(nn.as_builtin(model), F.squared_error, *batch(7))[1]
    assert not torch.allclose(by_hand["0.weight"], correct["0.weight"])


def test_only_needed_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gradient of the inputs or before the first trainable layer is computed, and no graph is built."""
    needs: list[tuple[bool, ...]] = []
    backward = Linear.backward

    def spy(ctx: Any, grad_output: Tensor) -> Any:
        needs.append(ctx.needs_input_grad)
        return backward(ctx, grad_output)

    monkeypatch.setattr(Linear, "backward", staticmethod(spy))
    model = chain(nn.Tanh())
    backprop = Backprop(model, F.squared_error)
    cost = backprop.sgd_step(*batch(7), 0.1)
    assert needs == [(True, False, False)]  # `accumulate` computes the gradients of weight and bias
    gradients = backprop.gradients(*batch(7))[1]
    assert needs[1:] == [(True, True, True), (False, True, True)]
    assert not cost.requires_grad
    assert not any(gradient.requires_grad for gradient in gradients.values())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_step_invalidates_autograds_graph() -> None:
    model = chain(nn.Tanh())
    inputs, targets = batch(7)
    cost = F.squared_error(model(inputs), targets)
    Backprop(model, F.squared_error).sgd_step(inputs, targets, 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        cost.backward()  # type: ignore[no-untyped-call]


def test_a_converted_model() -> None:
    model = chain(nn.Tanh(), torch.float32)
    backprop = Backprop(model, F.squared_error, momentum=0.9)
    backprop.sgd_step(*batch(7, torch.float32), 0.1)
    model.double()
    backprop.sgd_step(*batch(7), 0.1)
    assert_same(backprop.gradients(*batch(7)), by_autograd(model, F.squared_error, *batch(7)))


@pytest.mark.parametrize("step", [Backprop.sgd_step, Backprop.adamw_step])
def test_a_restored_state_continues_as_before(step: Callable[..., Tensor]) -> None:
    """In another Backprop, with a copy of the model."""
    model = chain(nn.Tanh())
    backprop = Backprop(model, F.squared_error, momentum=0.9)
    for _ in range(3):
        step(backprop, *batch(7), 0.1)
    copied = copy.deepcopy(model)
    another = Backprop(copied, F.squared_error, momentum=0.9)
    without_state = Backprop(copy.deepcopy(model), F.squared_error, momentum=0.9)
    another.load_state_dict(backprop.state_dict())
    for one in (backprop, another, without_state):
        step(one, *batch(7), 0.1)
    assert all(map(torch.equal, model.parameters(), copied.parameters()))
    assert not torch.equal(next(iter(copied.parameters())), next(iter(without_state.model.parameters())))
    step(backprop, *batch(7), 0.1)
    states = zip(backprop.state_dict().values(), another.state_dict().values(), strict=True)
    assert not any(torch.equal(one, other) for one, other in states), "the states are copies"


def test_a_state_of_another_model_is_rejected() -> None:
    model = chain(nn.Tanh())
    assert Backprop(model, F.squared_error).state_dict() == {}
    for state in ({"unknown": torch.ones(3)}, {"0.weight": torch.ones(1)}):
        with pytest.raises(ValueError, match=r"there is no state .* of shape"):
            Backprop(model, F.squared_error, momentum=0.9).load_state_dict(state)
    with pytest.raises(ValueError, match=r"there is no state '0\.weight' of shape"):
        Backprop(model, F.squared_error).load_state_dict({"0.weight": model[0].weight.detach()})


def with_new_parameters(model: torch.nn.Sequential) -> None:
    model.load_state_dict({name: 2 * p for name, p in model.state_dict().items()}, assign=True)


def with_another_layer(model: torch.nn.Sequential) -> None:
    model[1] = nn.GELU()


def unfrozen(model: torch.nn.Sequential) -> None:
    model[0].requires_grad_(True)


def converted_twice(model: torch.nn.Sequential) -> None:
    model.float().double()


def with_a_bias(model: Any) -> None:
    model[2][2].bias = torch.nn.Parameter(torch.ones(3).double())


def with_a_longer_end(model: Any) -> None:
    model[2][1].append(nn.Tanh())


def transposed(model: Any) -> None:
    model[2][0].weight.data = model[2][0].weight.data.t()


def with_another_mask(model: Any) -> None:
    model[2][3].mask = 3 * torch.ones(3).double()


def in_evaluation(model: torch.nn.Sequential) -> None:
    model.eval()


def with_another_slope(model: Any) -> None:
    model[1].negative_slope = 0.9


class Masked(torch.nn.Module):
    """Its output depends on a buffer, and on the training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([1.0, 2.0, 0.0]).double())

    def forward(self, input: Tensor) -> Tensor:
        return Scale.call(input, self.mask) if self.training else Sigmoid.call(input)


def unusual() -> torch.nn.Sequential:
    """A model with an empty container, a layer without bias, a square weight and a buffer."""
    end = torch.nn.Sequential(nn.Linear(3, 3), torch.nn.Sequential(), nn.Linear(3, 3, bias=False), Masked())
    return torch.nn.Sequential(nn.Linear(5, 3), nn.LeakyReLU(), end).double()


@pytest.mark.parametrize(
    "change",
    [with_a_bias, with_a_longer_end, transposed, with_another_mask, in_evaluation, with_another_slope],
)
def test_changes_of_a_model_take_effect(change: Callable[[torch.nn.Sequential], None]) -> None:
    torch.manual_seed(0)
    model = unusual()
    backprop = Backprop(model, F.squared_error)
    backprop.sgd_step(*batch(7), 0.1)
    change(model)
    assert_same(backprop.gradients(*batch(7)), by_autograd(model, F.squared_error, *batch(7)))


def test_the_model_may_be_replaced() -> None:
    backprop = Backprop(chain(nn.Tanh()), F.squared_error)
    backprop.sgd_step(*batch(7), 0.1)
    backprop.model = other = chain(nn.GELU())
    assert_same(backprop.gradients(*batch(7)), by_autograd(other, F.squared_error, *batch(7)))


class Reversed(torch.nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        for layer in reversed(list(self)):
            input = layer(input)
        return input


def with_a_hook() -> torch.nn.Module:
    layers = torch.nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    layers.register_forward_pre_hook(lambda module, inputs: (F.sigmoid(inputs[0]),))
    return layers


def with_a_custom_forward() -> torch.nn.Module:
    layers = torch.nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    layers.forward = lambda input: layers[1](input)  # type: ignore[method-assign]
    layers[0].requires_grad_(False)
    return layers


@pytest.mark.parametrize("middle", [lambda: Reversed(nn.Linear(6, 6), nn.Tanh()), with_a_hook, with_a_custom_forward])
def test_containers_with_custom_forwards_and_hooks(middle: Callable[[], torch.nn.Module]) -> None:
    model = chain(middle())
    assert_same(Backprop(model, F.squared_error).gradients(*batch(7)), by_autograd(model, F.squared_error, *batch(7)))


@pytest.mark.parametrize("optimizer_and_step", [SGD, ADAMW])
def test_the_state_is_kept_while_its_parameter_is_frozen(optimizer_and_step: Any) -> None:
    kind, step = optimizer_and_step
    models = [chain(nn.Tanh()) for _ in range(2)]
    optimizer = kind(
        models[1].parameters(), lr=0.5, weight_decay=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {})
    )
    backprop = Backprop(models[0], F.squared_error, momentum=0.9, weight_decay=0.1)
    for trainable in (True, True, False, False, True, True):
        for model in models:
            model[0].requires_grad_(trainable)
        step(backprop, *batch(7), 0.5)
        optimizer.zero_grad()
        F.squared_error(models[1](batch(7)[0]), batch(7)[1]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert_same(dict(models[0].named_parameters()), dict(models[1].named_parameters()))


def test_copies_and_pickles() -> None:
    backprop = Backprop(chain(nn.Tanh()), F.squared_error, momentum=0.9)
    backprop.adamw_step(*batch(7), 0.1)
    backprop.sgd_step(*batch(7), 0.1)
    for other in (copy.deepcopy(backprop), pickle.loads(pickle.dumps(backprop))):
        assert other.sgd_step(*batch(7), 0.1) > 0
        assert not torch.equal(other.model[0].weight, backprop.model[0].weight)


@pytest.mark.parametrize("change", [with_new_parameters, with_another_layer, unfrozen, converted_twice])
def test_changed_parameters_and_layers_take_effect(change: Callable[[torch.nn.Sequential], None]) -> None:
    """Only the current parameters are trained."""
    model = chain(nn.Tanh())
    model[0].requires_grad_(change is not unfrozen)
    backprop = Backprop(model, F.squared_error, momentum=0.9)
    backprop.sgd_step(*batch(7), 0.1)
    change(model)
    assert_same(backprop.gradients(*batch(7)), by_autograd(model, F.squared_error, *batch(7)))
    before = [p.detach().clone() for p in model.parameters()]
    backprop.sgd_step(*batch(7), 0.1)
    assert all(not torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


class Waiting(torch.nn.Module):
    """A layer in which threads wait for each other in the first call."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier: threading.Barrier | None = barrier

    def forward(self, input: Tensor) -> Tensor:
        barrier, self.barrier = self.barrier, None
        if barrier is not None:
            barrier.wait(timeout=30)
        return F.tanh(input)


def test_threads_do_not_interfere() -> None:
    """Each thread has its own tape, even if all record at the same time."""
    results: list[dict[str, Tensor]] = []
    barrier = threading.Barrier(3)

    def train(middle: str) -> None:
        model = chain(torch.nn.Sequential(Waiting(barrier), LAYERS[middle]()))
        backprop = Backprop(model, F.squared_error)
        for _ in range(50):
            _, gradients = backprop.gradients(*batch(7))
        assert_same(gradients, by_autograd(model, F.squared_error, *batch(7))[1])
        results.append(gradients)

    threads = [threading.Thread(target=train, args=(name,)) for name in ("tanh", "gelu", "relu")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3


@pytest.mark.parametrize("inside", [False, True])
def test_tensors_of_inference_mode(inside: bool) -> None:
    """They have no version counter to detect in-place changes."""
    model = chain(nn.Tanh())
    expected = by_autograd(model, F.squared_error, *batch(7))
    with torch.inference_mode():
        inputs, targets = batch(7)
    with torch.inference_mode(inside):
        backprop = Backprop(model, F.squared_error, momentum=0.9)
        assert_same(backprop.gradients(inputs, targets), expected)
        backprop.sgd_step(inputs, targets, 0.1)
        backprop.adamw_step(inputs, targets, 0.1)
    assert not any(tensor.is_inference() for tensor in backprop.state_dict().values())
