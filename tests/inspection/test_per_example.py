"""Per-example gradients, compared with autograd's gradient of the cost of one example at a time."""

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.catalogue import CATALOGUE
from bp_torch.engine import Tape
from bp_torch.engine.per_example import BY_ROW, linear_gradients, vmap_gradients
from bp_torch.functional.function import Function
from bp_torch.functional.linear import Linear
from bp_torch.inspection import (
    GradientNoise,
    NoiseScaleAverage,
    gradient_noise,
    per_example_gradients,
    per_example_norms,
    simple_noise_scale,
)

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "sigmoid": lambda: nn.mlp((5, 4, 3)),
    "relu": lambda: nn.mlp((5, 4, 4, 3), "relu"),
    "without a bias": lambda: torch.nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)),
}
networks = pytest.mark.parametrize("network", NETWORKS)


def drawn(network: str, examples: int = 7) -> tuple[torch.nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    return NETWORKS[network]().double(), torch.randn(examples, 5).double(), torch.rand(examples, 3).double()


def one_by_one(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """By PyTorch's own layers and cost."""
    builtin = nn.as_builtin(model)

    def cost(parameters: dict[str, Tensor], input: Tensor, target: Tensor) -> Tensor:
        outputs: Tensor = functional_call(builtin, parameters, (input,))
        return (outputs - target).square().sum()

    return vmap(grad(cost), in_dims=(None, 0, 0))(dict(builtin.named_parameters()), inputs, targets)  # type: ignore[no-any-return]


@networks
@pytest.mark.parametrize("examples", [0, 1, 7])
def test_each_is_the_gradient_of_its_own_cost(network: str, examples: int) -> None:
    model, inputs, targets = drawn(network, examples)
    found = per_example_gradients(model, F.squared_error, inputs, targets)
    expected = (
        one_by_one(model, inputs, targets)
        if examples
        else {n: p.new_zeros(0, *p.shape) for n, p in model.named_parameters()}
    )
    torch.testing.assert_close(found, expected)
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert not any(tensor.requires_grad for tensor in found.values())


@networks
def test_norms_of_per_example_gradients(network: str) -> None:
    model, inputs, targets = drawn(network)
    expected = {name: each.flatten(1).norm(dim=1) for name, each in one_by_one(model, inputs, targets).items()}
    torch.testing.assert_close(per_example_norms(model, F.squared_error, inputs, targets), expected)


@networks
def test_noise_of_per_example_gradients(network: str) -> None:
    model, inputs, targets = drawn(network)
    each = one_by_one(model, inputs, targets)
    noises = gradient_noise(model, F.squared_error, inputs, targets)
    assert list(noises) == list(each)
    for name, noise in noises.items():
        torch.testing.assert_close(noise.norms, each[name].flatten(1).norm(dim=1))
        torch.testing.assert_close(noise.mean, each[name].mean(0))
        torch.testing.assert_close(noise.variance, each[name].var(0))
        trace, signal = each[name].var(0).sum(), each[name].mean(0).square().sum()
        assert noise.signal_to_noise == pytest.approx((signal / trace).sqrt().item())
        assert noise.noise_scale == pytest.approx(scale_of(each[name]))
    whole = torch.cat([own.flatten(1) for own in each.values()], 1)
    assert simple_noise_scale(noises.values()) == pytest.approx(scale_of(whole))


def scale_of(each: Tensor) -> float:
    trace, signal = each.var(0).sum(), each.mean(0).square().sum()
    unbiased = (signal - trace / len(each)).item()
    return trace.item() / unbiased if unbiased > 0 else torch.inf


def test_the_mean_is_the_gradient_whatever_the_cost_weighs() -> None:
    """Class weights and ignored classes give examples unequal parts."""
    model, inputs, _ = drawn("relu")
    classes = torch.arange(7) % 3
    cost = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5, 2]).double(), ignore_index=2)
    expected = torch.autograd.grad(
        nn.as_builtin(cost)(nn.as_builtin(model)(inputs), classes), tuple(model.parameters())
    )
    found = per_example_gradients(model, cost, inputs, classes)
    torch.testing.assert_close(tuple(each.mean(0) for each in found.values()), expected)
    assert all(not each[classes == 2].any() for each in found.values())


def test_the_noise_scale_is_right_on_average() -> None:
    """Mini-batches of 20 out of 2,000 examples, compared with tr Σ / |G|² of all of them."""
    model, inputs, targets = drawn("sigmoid", 2000)
    whole = torch.cat([each.flatten(1) for each in one_by_one(model, inputs, targets).values()], 1)
    scale = whole.var(0).sum() / whole.mean(0).square().sum()
    trace = signal = 0.0
    for chosen in torch.split(torch.randperm(2000), 20):
        for noise in gradient_noise(model, F.squared_error, inputs[chosen], targets[chosen]).values():
            own = noise.variance.sum().item()
            trace, signal = trace + own, signal + noise.mean.square().sum().item() - own / 20
    assert trace / signal == pytest.approx(scale.item(), rel=0.03)


def noise(trace: float, mean: float, examples: int = 2) -> GradientNoise:
    """A parameter of one component."""
    return GradientNoise(torch.ones(examples), torch.tensor([mean]), torch.tensor([trace]))


def test_the_average_divides_the_running_averages() -> None:
    """With the terms (4, 9 − 2), (8, 1 − 4) and (2, 4 − 1), the second of which alone has an infinite scale."""
    average, scales = NoiseScaleAverage(), list[float]()
    batches = [[noise(4.0, 3.0)], [noise(8.0, 1.0)], [noise(2.0, 2.0)]]
    assert [simple_noise_scale(batch) for batch in batches] == [4 / 7, torch.inf, 2 / 3]
    for batch in batches:
        average = average.add(batch, decay=0.5)
        scales.append(average.scale)
    assert scales == pytest.approx([4 / 7, (2 + 8) / (3.5 - 3), (1 + 4 + 2) / (1.75 - 1.5 + 3)])


def test_the_average_sums_over_parameters() -> None:
    assert NoiseScaleAverage().add([noise(4.0, 3.0), noise(8.0, 1.0)]).scale == (4 + 8) / (7 - 3)


def test_the_average_ignores_terms_that_are_not_finite() -> None:
    average = NoiseScaleAverage().add([noise(math.nan, 1.0, examples=1)])
    assert math.isnan(average.scale)
    average = average.add([noise(4.0, 3.0)])
    assert average.scale == 4 / 7
    for trace in (math.nan, math.inf):
        assert average.add([noise(trace, 1.0)]) == average


def test_the_average_is_infinite_while_noise_hides_the_gradient() -> None:
    average = NoiseScaleAverage().add([noise(8.0, 1.0)])
    assert average.scale == math.inf
    assert average.add([noise(4.0, 3.0)], decay=0.9).scale == pytest.approx((7.2 + 4) / (7 - 2.7))


def test_the_average_approaches_the_scale_of_all_examples() -> None:
    """Of mini-batches of 20 out of 2,000 examples, many of which have an infinite scale."""
    model, inputs, targets = drawn("sigmoid", 2000)
    targets = model(inputs).detach() + 0.1 * torch.randn(2000, 3).double() + 0.03
    whole = torch.cat([each.flatten(1) for each in one_by_one(model, inputs, targets).values()], 1)
    scale, average = whole.var(0).sum() / whole.mean(0).square().sum(), NoiseScaleAverage()
    noises = [
        gradient_noise(model, F.squared_error, inputs[chosen], targets[chosen]).values()
        for chosen in torch.split(torch.randperm(2000), 20)
    ]
    assert sum(math.isinf(simple_noise_scale(one)) for one in noises) > 10
    for one in noises:
        average = average.add(one, decay=1)
    assert average.scale == pytest.approx(scale.item(), rel=0.15)


def test_a_tiny_spread_is_not_lost_in_rounding() -> None:
    """Of twenty equal examples: in float32 the difference of two large sums would be rounding noise."""
    model, inputs, targets = drawn("sigmoid", 1)
    noises = gradient_noise(model.float(), F.squared_error, inputs.float().repeat(20, 1), targets.float().repeat(20, 1))
    for noise in noises.values():
        assert noise.variance.sum() < 1e-12 * noise.mean.square().sum()
        assert noise.signal_to_noise > 1e6


def test_a_single_example_has_no_spread() -> None:
    noise = gradient_noise(*drawn("sigmoid")[:1], F.squared_error, *(t[:1] for t in drawn("sigmoid")[1:]))[
        "hidden1.weight"
    ]
    assert noise.variance.isnan().all()
    assert str(noise.noise_scale) == str(noise.signal_to_noise) == "nan"


def test_no_examples_have_no_noise() -> None:
    noise = gradient_noise(*drawn("sigmoid", 0)[:1], F.squared_error, *drawn("sigmoid", 0)[1:])
    assert str(simple_noise_scale(noise.values())) == "nan"
    assert all(n.norms.shape == (0,) and not n.mean.any() for n in noise.values())


def test_no_examples_have_no_gradients_by_vmap() -> None:
    model = Embedded().double()
    found = per_example_gradients(model, F.squared_error, torch.rand(0, 5).double(), torch.rand(0, 3).double())
    assert {name: each.shape for name, each in found.items()} == {
        name: (0, *parameter.shape) for name, parameter in model.named_parameters()
    }


def test_inputs_that_need_gradients_make_no_graph() -> None:
    model, inputs, targets = drawn("relu")
    found = per_example_gradients(model, F.squared_error, inputs.requires_grad_(), targets)
    assert not any(gradients.requires_grad for gradients in found.values())


class Scaled(torch.nn.Module):
    """A parameter that is broadcast, in functions without a rule of their own; and one that all examples get alike."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.start = torch.nn.Parameter(torch.rand(5)), torch.nn.Parameter(torch.rand(1, 2))
        self.last = nn.Linear(7, 3)

    def forward(self, input: Tensor, ops: Any = F) -> Tensor:
        scaled = ops.tanh(ops.mul(input, ops.exp(self.scale)))
        start = F.expand(self.start, (len(input), 2)) if ops is F else self.start.expand(len(input), 2)
        return self.last(ops.cat((start, scaled), 1))  # type: ignore[no-any-return]


class Sequence(torch.nn.Module):
    """Rows of each example: (N, T, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, input: Tensor, ops: Any = F) -> Tensor:
        hidden = ops.tanh(self.first(ops.reshape(input, (-1, 4, 5))))
        return self.last(ops.mean(hidden, 1))  # type: ignore[no-any-return]


class Recurrent(torch.nn.Module):
    """A recurrent layer on rows of each example, (N, T, C)."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(8, 3)

    def forward(self, input: Tensor) -> Tensor:
        states, _ = self.layer(F.reshape(input, (-1, 4, 5)))
        return self.last(F.reshape(states, (-1, 8)))  # type: ignore[no-any-return]


class Attending(torch.nn.Module):
    """A transformer's layer on rows of each example, (N, T, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(5, 1, 4, dropout=0.0, batch_first=True)
        self.last = nn.Linear(20, 3)

    def forward(self, input: Tensor) -> Tensor:
        rows = self.layer(F.reshape(input, (-1, 4, 5)))
        return self.last(F.reshape(rows, (-1, 20)))  # type: ignore[no-any-return]


RECURRENT: dict[str, Callable[[], torch.nn.Module]] = {
    "rnn": lambda: Recurrent(nn.RNN(5, 2, batch_first=True)),
    "gru": lambda: Recurrent(nn.GRU(5, 1, bidirectional=True, batch_first=True)),
    "gru without a bias": lambda: Recurrent(nn.GRU(5, 2, bias=False, batch_first=True)),
    "lstm": lambda: Recurrent(nn.LSTM(5, 3, num_layers=2, proj_size=2, batch_first=True)),
}


class Embedded(torch.nn.Module):
    """A table whose rows the inputs choose, by operations of PyTorch; and a parameter that is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.scale = torch.nn.Parameter(torch.rand(4, 6)), torch.nn.Parameter(torch.tensor(0.5))
        self.last = nn.Linear(6, 3)

    def forward(self, input: Tensor) -> Tensor:
        chosen = input[:, :2].abs().long().clamp(max=3)
        return self.last(F.mean(F.mul(F.getitem(self.table, chosen), self.scale), 1))  # type: ignore[no-any-return]


def shared() -> torch.nn.Module:
    layer = nn.Linear(5, 5)
    return torch.nn.Sequential(layer, nn.Sigmoid(), layer, nn.Linear(5, 3))


@pytest.mark.parametrize("kind", [Scaled, Sequence, Embedded, shared, Attending, *RECURRENT.values()])
def test_any_graph_has_them(kind: Callable[[], torch.nn.Module]) -> None:
    """By the rule where there is one, by vmap elsewhere: against autograd, one example at a time."""
    torch.manual_seed(0)
    model = kind().double()
    width = 5 if kind in (Scaled, Embedded, shared) else 20
    inputs, targets = torch.randn(7, width).double(), torch.rand(7, 3).double()
    costs = [F.squared_error(model(x[None]), t[None]) for x, t in zip(inputs, targets, strict=True)]
    each = zip(*(torch.autograd.grad(cost, list(model.parameters())) for cost in costs), strict=True)
    expected = {name: torch.stack(own) for (name, _), own in zip(model.named_parameters(), each, strict=True)}
    torch.testing.assert_close(per_example_gradients(model, F.squared_error, inputs, targets), expected)
    norms = {name: own.reshape(7, -1).norm(dim=1) for name, own in expected.items()}
    torch.testing.assert_close(per_example_norms(model, F.squared_error, inputs, targets), norms)
    for name, noise in gradient_noise(model, F.squared_error, inputs, targets).items():
        torch.testing.assert_close(noise.mean, expected[name].mean(0))
        torch.testing.assert_close(noise.variance, expected[name].var(0))


class Changed(Scaled):
    """In place, what all examples share."""

    def forward(self, input: Tensor, ops: Any = F) -> Tensor:
        scale = ops.exp(self.scale)
        with torch.no_grad():
            scale.mul_(2)
        return ops.mul(input, scale)  # type: ignore[no-any-return]


def test_an_in_place_change_that_autograd_would_notice() -> None:
    with pytest.raises(RuntimeError, match=r"Exp\.backward needs was modified by an inplace operation"):
        per_example_gradients(Changed(), F.squared_error, torch.rand(7, 5), torch.rand(7, 5))


@pytest.mark.parametrize("shape", [(7, 5), (7, 4, 5)])
def test_a_rule_gives_what_vmap_gives(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 3).double()
    with Tape() as tape:
        output = layer(torch.randn(shape).double())
    (call,) = tape
    upstream = torch.randn(output.shape).double()
    quick, general = linear_gradients(call.ctx, upstream), vmap_gradients(Linear, call.ctx, upstream)
    assert quick is not None
    for found, expected in zip(quick[1:], general[1:], strict=True):
        for statistic in ("gradients", "norms", "sums_of_squares", "total"):
            torch.testing.assert_close(getattr(found, statistic)(), getattr(expected, statistic)())


CONVOLUTIONAL: list[Callable[[], torch.nn.Module]] = [
    lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
    lambda: nn.Conv2d(2, 4, 3, bias=False),
    lambda: torch.nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.MaxPool2d(2), nn.ConvTranspose2d(3, 2, 2, 2)),
    lambda: torch.nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 2, 2), nn.GroupNorm(1, 2)),
]


@pytest.mark.parametrize("make", CONVOLUTIONAL)
def test_kernels(make: Callable[[], torch.nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a few examples at a time."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(make(), nn.Flatten()).double()
    inputs = torch.randn(7, 2, 8, 7).double()
    targets = torch.rand_like(model(inputs))
    each = one_by_one(torch.nn.Sequential(*model), inputs.unsqueeze(1), targets.unsqueeze(1))
    for components in (2**21, 1000):
        monkeypatch.setattr(sys.modules["bp_torch.engine.per_example"], "MAX_COMPONENTS", components)
        torch.testing.assert_close(per_example_gradients(model, F.squared_error, inputs, targets), each)
        norms = {name: own.flatten(1).norm(dim=1) for name, own in each.items()}
        torch.testing.assert_close(per_example_norms(model, F.squared_error, inputs, targets), norms)
        for name, one in gradient_noise(model, F.squared_error, inputs, targets).items():
            torch.testing.assert_close((one.mean, one.variance), (each[name].mean(0), each[name].var(0)))


WORDS = torch.tensor([[1, 0, 1], [3, 1, 0], [4, 4, 4], [1, 2, 3]])
EMBEDDINGS: dict[str, tuple[Callable[[], torch.nn.Module], Tensor]] = {
    "words": (lambda: nn.Embedding(6, 2), WORDS),
    "with padding": (lambda: nn.Embedding(6, 2, padding_idx=4), WORDS),
    "of one word each": (lambda: torch.nn.Sequential(nn.Embedding(6, 5), nn.Unflatten(1, (5, 1))), WORDS[:, 0].int()),
    "of four axes": (lambda: nn.Embedding(6, 2), WORDS.reshape(2, 2, 3)),
    "bags": (lambda: torch.nn.Sequential(nn.EmbeddingBag(6, 5, padding_idx=1), nn.Unflatten(1, (5, 1))), WORDS),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of PyTorch's bags under vmap
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings(name: str) -> None:
    """Some examples select a row several times."""
    torch.manual_seed(0)
    make, words = EMBEDDINGS[name]
    model = torch.nn.Sequential(make(), nn.Flatten()).double()
    targets = torch.rand_like(model(words))
    each = one_by_one(torch.nn.Sequential(*model), words.unsqueeze(1), targets.unsqueeze(1))
    torch.testing.assert_close(per_example_gradients(model, F.squared_error, words, targets), each)
    norms = {name: own.flatten(1).norm(dim=1) for name, own in each.items()}
    torch.testing.assert_close(per_example_norms(model, F.squared_error, words, targets), norms)
    for name, one in gradient_noise(model, F.squared_error, words, targets).items():
        torch.testing.assert_close((one.mean, one.variance), (each[name].mean(0), each[name].var(0)))


@pytest.mark.parametrize("name", ["linear", "conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "tanh"])
def test_rows_that_are_not_tested_are_independent(name: str) -> None:
    """Each function of `BY_ROW`: what comes back to row 0 depends on row 0 of the upstream gradient alone."""
    sample = next(s for s in CATALOGUE[name].samples if s.args[0].dim() == (4 if name.endswith("2d") else 2))
    rows = torch.randn(3, *sample.args[0].shape[1:]).double().requires_grad_()
    with Tape() as tape:
        CATALOGUE[name].function(rows, *sample.args[1:], **sample.options)
    assert issubclass(tape[0].function, BY_ROW)
    upstream = torch.randn(tape[0].output.shape).double()
    ((_, whole),) = tape[0].backward(upstream)
    upstream[1:] = 0
    ((_, first),) = tape[0].backward(upstream)
    assert first[0].any()
    assert torch.equal(first[0], whole[0])
    assert not first[1:].any()


@pytest.mark.parametrize("shape", [(3, 5), (5,)])
def test_where_it_has_no_rule_linear_is_left_to_vmap(shape: tuple[int, ...]) -> None:
    """The input is a parameter, or a single row."""
    weight, input = torch.rand(3, 5, requires_grad=True), torch.rand(shape, requires_grad=len(shape) == 2)
    with Tape() as tape:
        output = F.linear(input, weight)
    assert linear_gradients(tape[0].ctx, torch.ones_like(output)) is None


MEETINGS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "added up": (lambda x: F.matmul(torch.ones(5, 5), x), "Matmul"),
    "over all": (lambda x: F.mean(x), "Mean"),
    "their mean subtracted": (lambda x: F.sub(x, F.mean(x, 0)), "Sub"),
    "a mean of each, broadcast along the examples": (lambda x: F.sub(x, F.mean(x, -1)), "Sub"),
    "each with each": (lambda x: F.mul(F.sum(x, 1), F.sum(x, 1, True)), "Mul"),
    "attention": (lambda x: F.matmul(F.softmax(F.matmul(x, F.t(x)), -1), x), "Matmul"),
    "one another's weights": (lambda x: F.linear(x, x), "Linear"),
    "turned": (lambda x: F.transpose(x, 0, 1), "Transpose"),
    "shifted": (lambda x: F.cat((F.getitem(x, slice(1, None)), F.getitem(x, slice(0, 1)))), "Cat"),
    "exchanged": (lambda x: F.getitem(x, torch.tensor([0, 3, 2, 1, 4])), "GetItem"),
    "the last twice": (lambda x: F.getitem(x, torch.tensor([4, 1, 2, 3, 4])), "GetItem"),
    "the first twice": (lambda x: F.getitem(x, torch.tensor([0, 1, 2, 3, 0])), "GetItem"),
    "normalised": (lambda x: F.softmax(x, 0), "Softmax"),
    "the largest": (lambda x: F.expand(F.amax(x, 0, True), (5, 5)), "Expand"),
    "counted as one axis": (lambda x: F.reshape(F.tanh(F.reshape(x, (25,))), (5, 5)), "Reshape"),
}


class Layer(torch.nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, input: Tensor) -> Tensor:
        return self.function(input)


@pytest.mark.parametrize("name", MEETINGS)
def test_examples_that_meet_are_refused(name: str) -> None:
    """Of five examples with five features, so that axes cannot be identified by their length."""
    function, where = MEETINGS[name]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), nn.Linear(5, 5), Layer(function))
    cost = (lambda y, t: y) if name == "over all" else F.squared_error
    for statistic in (per_example_gradients, per_example_norms, gradient_noise):
        with pytest.raises(TypeError, match=rf"module 2 \(Layer\): {where} mixes or reorders examples, so"):
            statistic(model, cost, torch.rand(5, 5), torch.rand(5, 5))


def test_numbers_that_are_not_finite_are_no_meeting() -> None:
    """0 · ∞ in a row says nothing of the others."""
    layers = nn.Linear(5, 4, bias=False), Layer(lambda x: F.log(F.abs(x))), nn.Tanh(), nn.Linear(4, 3)
    model, inputs, targets = (
        torch.nn.Sequential(*layers).double(),
        torch.randn(7, 5).double(),
        torch.rand(7, 3).double(),
    )
    inputs[2] = 0
    found = per_example_gradients(model, F.squared_error, inputs, targets)["0.weight"]
    assert found.isfinite().flatten(1).all(1).tolist() == [True, True, False, True, True, True, True]


class Negative(Function):
    """Computed where PyTorch does not see it."""

    @staticmethod
    def forward(input: Tensor) -> Tensor:
        return torch.from_numpy(-input.numpy())

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return -grad_output


def test_a_function_may_leave_pytorch() -> None:
    model = torch.nn.Sequential(nn.Linear(5, 3), Layer(Negative.call)).double()
    inputs, targets = torch.rand(7, 5).double(), torch.rand(7, 3).double()
    found = per_example_gradients(model, F.squared_error, inputs, targets)
    torch.testing.assert_close(found["0.bias"], 2 * (model(inputs) - targets).neg())


class WithCriterion(torch.nn.Module):
    """The cost is a module of the model's, and so is a head that the cost calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.criterion = nn.Linear(5, 4), nn.Linear(4, 3), nn.MSELoss()

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(self.first(input))

    def cost(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.criterion(self.head(F.mul(outputs, 2)), targets)  # type: ignore[no-any-return]


def test_the_cost_may_call_modules_of_the_model() -> None:
    model = WithCriterion().requires_grad_(False).double()
    model.first.requires_grad_(True)
    inputs, targets = torch.rand(7, 5).double(), torch.rand(7, 3).double()
    found = per_example_gradients(model, model.cost, inputs, targets)
    for n, (x, t) in enumerate(zip(inputs, targets, strict=True)):
        expected = torch.autograd.grad(model.cost(model(x[None]), t[None]), [*model.first.parameters()])
        torch.testing.assert_close([each[n] for each in found.values()], [*expected])


def copied(to: Tensor, rows: Tensor) -> None:
    to[:, :2].copy_(rows)


def assigned(to: Tensor, rows: Tensor) -> None:
    to[:, :2] = rows


class Padded(torch.nn.Module):
    """Rows are written into a buffer; what has another Tensor's dtype, device or shape does not come from that."""

    def __init__(self, write: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.first, self.shift = nn.Linear(6, 4), torch.nn.Parameter(torch.rand(4))
        self.mask, self.write = torch.tensor([True, False, True, True]), write

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        wide = torch.zeros(len(left), 6, dtype=left.dtype)
        self.write(wide, left)
        with torch.no_grad():
            self.shift.copy_(right.mean())
        shift = F.mul(F.mul(self.shift, self.mask.to(left)), self.mask.type_as(right))
        shift = F.mul(F.mul(shift, right.new_ones(4)), torch.ones_like(left[0, 0]))
        return F.add(self.first(wide), shift)


@pytest.mark.parametrize("write", [copied, assigned])
def test_rows_are_followed_where_they_are_written(write: Callable[[Tensor, Tensor], None]) -> None:
    """Of several inputs."""
    model = Padded(write).double()
    inputs, targets = (torch.rand(7, 2).double(), torch.rand(7, 3).double()), torch.rand(7, 4).double()
    found = per_example_gradients(model, F.squared_error, inputs, targets)
    expected = 2 * (model(*inputs) - targets).detach()
    torch.testing.assert_close(found["first.bias"], expected)
    torch.testing.assert_close(found["shift"], expected * model.mask)


def test_a_frozen_parameter_has_none() -> None:
    model = nn.mlp((5, 4, 3))
    model[2].weight.requires_grad_(False)
    found = per_example_gradients(model, F.squared_error, torch.rand(7, 5), torch.rand(7, 3))
    assert list(found) == ["hidden1.weight", "hidden1.bias", "output.bias"]


class Prototypes(torch.nn.Module):
    """Products with a matrix of parameters first, so that the inputs are the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = torch.nn.Parameter(torch.rand(7, 5))

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(self.prototypes, input)


def test_the_first_input_of_linear_may_be_a_parameter() -> None:
    """Row n of the output is of prototype n."""
    model = Prototypes().double()
    inputs, targets = torch.rand(7, 5).double(), torch.rand(7, 7).double()
    found = per_example_gradients(model, F.squared_error, inputs, targets)["prototypes"]
    expected = torch.zeros(7, 7, 5).double()
    expected[range(7), range(7)] = 2 * (model(inputs) - targets).detach() @ inputs
    torch.testing.assert_close(found, expected)
    for statistic in (per_example_norms, gradient_noise):
        statistic(model, F.squared_error, inputs, targets)


def test_noise_is_in_float64_without_a_rule_too() -> None:
    """Of a bias that is added by `add`, which rounds a gradient to the bias's dtype."""

    class Biased(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(3))

        def forward(self, input: Tensor) -> Tensor:
            return F.add(input, self.bias)

    inputs, targets = torch.zeros(64, 3), torch.randn(64, 3) + 1e4
    noise = gradient_noise(Biased(), F.squared_error, inputs, targets)["bias"]
    torch.testing.assert_close(noise.variance, (2 * targets.double()).var(0))


def test_a_cost_of_a_parameter_is_refused() -> None:
    model = nn.mlp((5, 3))

    def cost(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.add(F.squared_error(outputs, targets), F.sum(model[0].weight))

    with pytest.raises(TypeError, match="the cost must be a sum over examples, but it uses a parameter"):
        per_example_gradients(model, cost, torch.rand(7, 5), torch.rand(7, 3))
