"""Recurrent modules: what PyTorch's own samples, which have no batch, leave out."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from bp_torch import functional, nn
from bp_torch.engine import Backprop
from bp_torch.inspection import per_example_gradients

LAYERS = {
    "LSTM": {"proj_size": 2},
    "GRU": {"bias": False},
    "RNN": {"nonlinearity": "relu"},
}
layers = pytest.mark.parametrize("name", LAYERS)


def built(name: str, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return getattr(nn, name)(3, 4, num_layers=2, bidirectional=True, **LAYERS[name], **options).double()


def tensors_in(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [x for part in value or () for x in tensors_in(part)]


def initial(name: str, batch: int) -> Any:
    widths = {"LSTM": (2, 4)}.get(name, (4,))
    states = tuple(torch.randn(4, batch, width).double().requires_grad_() for width in widths)
    return states if name == "LSTM" else states[0]


def value_and_gradients(module: torch.nn.Module, input: Any, hx: Any) -> list[Tensor]:
    torch.manual_seed(1)  # of dropout
    outputs = [x for x in tensors_in(module(input, hx)) if x.is_floating_point()]
    leaves = [x for x in [*module.parameters(), *tensors_in((input, hx))] if x.requires_grad]
    cost = sum((x * torch.linspace(-1, 2, x.numel()).double().reshape(x.shape)).sum() for x in outputs)
    return [*outputs, *torch.autograd.grad(cost, leaves)]


@layers
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_batches(name: str, given: bool, batch_first: bool) -> None:
    """With dropout, which drops the same with the same seed."""
    module = built(name, batch_first=batch_first, dropout=0.4)
    input = torch.randn(*((5, 3) if batch_first else (3, 5)), 3).double().requires_grad_()
    hx = initial(name, 5) if given else None
    both = (value_and_gradients(each, input, hx) for each in (module, nn.as_builtin(module)))
    torch.testing.assert_close(*both)


@layers
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_packed_sequences(name: str, given: bool, ordered: bool) -> None:
    module, hx = built(name), initial(name, 4) if given else None
    lengths = (3, 3, 2, 1) if ordered else (2, 3, 1, 3)
    packed = pack_sequence([torch.randn(n, 3).double() for n in lengths], enforce_sorted=ordered)
    packed.data.requires_grad_()
    hand, builtin = (value_and_gradients(each, packed, hx) for each in (module, nn.as_builtin(module)))
    torch.testing.assert_close(hand, builtin)
    output, _ = module(packed)
    assert isinstance(output, PackedSequence)
    assert pad_packed_sequence(output)[1].tolist() == list(lengths)


@layers
def test_a_packed_batch_is_each_sequence_alone(name: str) -> None:
    module = built(name)
    input, lengths = torch.randn(4, 3, 3).double(), (4, 2, 1)
    output, state = module(pack_padded_sequence(input, lengths))
    padded, _ = pad_packed_sequence(output)
    for i, length in enumerate(lengths):
        alone, last = module(input[:length, i])
        torch.testing.assert_close(padded[:length, i], alone)
        torch.testing.assert_close([x[:, i] for x in tensors_in(state)], tensors_in(last))


@layers
def test_the_output_may_be_changed_in_place(name: str) -> None:
    output, state = built(name, batch_first=True)(torch.randn(5, 3, 3).double())
    for tensor in (output, *tensors_in(state)):
        tensor.mul_(2)


@pytest.mark.parametrize(
    ("input", "hx", "error"),
    [
        (torch.zeros(3), None, ValueError),
        (torch.zeros(3, 2, 2, 3), None, ValueError),
        (torch.zeros(3, 2, 2), None, RuntimeError),
        (torch.zeros(3, 2, 3).double(), None, ValueError),
        (torch.zeros(3, 2, 3), torch.zeros(1, 4), RuntimeError),
        (torch.zeros(3, 2, 3), torch.zeros(1, 3, 4), RuntimeError),
        (torch.zeros(3, 3), torch.zeros(1, 1, 4), RuntimeError),
    ],
)
def test_errors_are_of_pytorchs_types(input: Any, hx: Any, error: type[Exception]) -> None:
    for name in LAYERS:
        for package in (nn, torch.nn):
            states = (hx, hx) if name == "LSTM" and hx is not None else hx
            with pytest.raises(error):
                getattr(package, name)(3, 4)(input, states)


@pytest.mark.parametrize(
    ("input", "hx", "error"),
    [
        (torch.zeros(2, 2, 3), None, ValueError),
        (torch.zeros(2, 3), torch.zeros(1, 2, 4), ValueError),
        (torch.zeros(2, 3), torch.zeros(3, 4), RuntimeError),
        (torch.zeros(2, 2), None, RuntimeError),
    ],
)
def test_errors_of_cells_are_of_pytorchs_types(input: Any, hx: Any, error: type[Exception]) -> None:
    for name in LAYERS:
        for package in (nn, torch.nn):
            states = (hx, hx) if name == "LSTM" and hx is not None else hx
            with pytest.raises(error):
                getattr(package, f"{name}Cell")(3, 4)(input, states)


class LastStep(torch.nn.Module):
    """A classifier of sequences (N, T, 3), from the output of the last step."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.layer: Any = getattr(nn, name)(3, 4, batch_first=True)
        self.classes = nn.Linear(4, 2)

    def forward(self, input: Tensor) -> Tensor:
        output, _ = self.layer(input)
        return self.classes(functional.getitem(output, (slice(None), -1)))  # type: ignore[no-any-return]


@layers
def test_trained_without_autograd(name: str) -> None:
    model, input, target = LastStep(name), torch.randn(6, 5, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    cost, gradients = Backprop(model, functional.cross_entropy).gradients(input, target)
    expected = functional.cross_entropy(model(input), target)
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(cost, expected)
    torch.testing.assert_close(gradients, {name: p.grad for name, p in model.named_parameters()})


@layers
def test_per_example_gradients(name: str) -> None:
    model, input, target = LastStep(name).double(), torch.randn(4, 3, 3).double(), torch.tensor([0, 1, 1, 0])
    found = per_example_gradients(model, functional.cross_entropy, input, target)
    for i in range(len(input)):
        cost = functional.cross_entropy(model(input[i : i + 1]), target[i : i + 1])
        each = torch.autograd.grad(cost, list(model.parameters()))
        torch.testing.assert_close([x[i] for x in found.values()], list(each))
