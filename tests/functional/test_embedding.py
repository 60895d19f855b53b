"""Embeddings in what the catalogue leaves out: gradients that are no derivatives, changes in place, and errors."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mode_checks import MODES, Pair, assert_same
from sample_call import SampleCall
from torch import Tensor
from torch.nn import functional as builtin

from bp_torch import functional, nn
from bp_torch.engine import Backprop

INDEX, FLAT = torch.tensor([[1, 0, 1], [3, 1, 0]]), torch.tensor([1, 0, 1, 3, 1])


def table(*shape: int) -> Tensor:
    return torch.randn(shape or (4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    "options",
    [{"padding_idx": 1}, {"padding_idx": -4}, {"scale_grad_by_freq": True}, {"padding_idx": 0, "max_norm": 1.2}],
    ids=str,
)
def test_options_in_every_mode(options: dict[str, Any]) -> None:
    """The second derivatives of PyTorch's own forget to scale by the frequency."""
    args = INDEX, table().requires_grad_()
    pair = Pair(*(SampleCall.make(function, args, options) for function in (functional.embedding, builtin.embedding)))
    modes = [mode for mode in MODES if mode.parameter is None]
    if "scale_grad_by_freq" in options:
        modes = [mode for mode in modes if mode.name != "double backward"]
    assert_same("embedding", [(mode, dtypes, pair) for mode in modes for dtypes in mode.dtypes])


def test_second_derivative_of_a_gradient_scaled_by_the_frequency() -> None:
    def gradient(upstream: Tensor) -> Tensor:
        weight = table().requires_grad_()
        output = functional.embedding(INDEX, weight, scale_grad_by_freq=True)
        return torch.autograd.grad(output, weight, upstream, create_graph=True)[0]

    assert torch.autograd.gradcheck(gradient, table(2, 3, 3).requires_grad_())


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_scale_by_the_frequency(mode: str) -> None:
    """As the sum or mean of `embedding`; PyTorch's own on a CPU reads the frequencies of other rows."""
    ours, theirs = table().requires_grad_(), table().requires_grad_()
    options: dict[str, Any] = {"padding_idx": 3, "scale_grad_by_freq": True}
    output = functional.embedding_bag(INDEX, ours, mode=mode, **options)
    rows = builtin.embedding(INDEX, theirs, **options)
    counted = rows * (INDEX != 3).unsqueeze(2)
    sums = counted.sum(1) if mode == "sum" else counted.sum(1) / (INDEX != 3).sum(1, keepdim=True)
    torch.testing.assert_close(output, sums)
    upstream = table(2, 3)
    expected = torch.autograd.grad(sums, theirs, upstream)
    torch.testing.assert_close(torch.autograd.grad(output, ours, upstream), expected)


@pytest.mark.parametrize("name", ["embedding", "embedding_bag"])
@pytest.mark.parametrize("norm_type", [2.0, 1.0])
def test_max_norm_changes_the_selected_rows_of_the_weight(name: str, norm_type: float) -> None:
    results = []
    for package in (functional, builtin):
        weight = (3 * table()).requires_grad_()
        output = getattr(package, name)(INDEX, weight, max_norm=1.0, norm_type=norm_type)
        results.append((weight.detach(), output.detach(), *torch.autograd.grad(output.square().sum(), weight)))
    torch.testing.assert_close(*results)
    weight = results[0][0]
    norms = torch.linalg.vector_norm(weight, norm_type, dim=1)
    assert (norms[[0, 1, 3]] <= 1).all()
    torch.testing.assert_close(weight[2], 3 * table()[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["embedding", "embedding_bag"])
def test_many_copies_are_summed_in_float32(name: str, dtype: torch.dtype) -> None:
    """In bfloat16, 256 + 1 is 256."""
    weight = torch.zeros(2, 1, dtype=dtype, requires_grad=True)
    index = torch.ones(1000, 1, dtype=torch.int64)
    getattr(functional, name)(index, weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0.0], [1000.0]]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize(
    ("index", "offsets", "options"),
    [
        (FLAT, [], {}),  # PyTorch's maximum ends the process
        (FLAT, [0], {"include_last_offset": True}),
        (FLAT[:0], [], {}),
        (FLAT[:0], [0, 0], {}),
        (FLAT, [0, 0, 5, 5], {}),
        (FLAT, [0, 5], {"include_last_offset": True}),
    ],
)
def test_bags_without_indices(index: Tensor, offsets: list[int], options: dict[str, Any], mode: str) -> None:
    weight = table().requires_grad_()
    starts = torch.tensor(offsets, dtype=torch.int64)
    output = functional.embedding_bag(index, weight, starts, mode=mode, **options)
    assert output.shape == (len(offsets) - bool(options), 3)
    ends = [*offsets[1:], len(index)] if not options else offsets[1:]
    empty = [start == end for start, end in zip(offsets, ends, strict=False)]
    assert not output[torch.tensor(empty, dtype=torch.bool)].any()
    (gradient,) = torch.autograd.grad(output.sum(), weight)
    assert gradient.any() == (not all(empty))


START = torch.tensor([0, 2])
ERRORS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    "a bool index": ("embedding", (torch.tensor([True]), table()), {}, "indices"),
    "a weight of three axes": ("embedding", (INDEX, table(2, 2, 2)), {}, "2-D"),
    "a list for the weight": ("embedding", (INDEX, [[1.0]]), {}, "'weight'"),
    "renormalised out of range": ("embedding", (INDEX, table(2, 3)), {"max_norm": 1.0}, r"index 3 .*\(1, 0\)"),
    "a bag's index": ("embedding_bag", (INDEX, table(3, 2)), {}, r"index 3 at position \(1, 0\) .*3 rows"),
    "a bag's maximum": ("embedding_bag", (FLAT - 1, table(), START), {"mode": "max"}, r"index -1 at position \(1,\)"),
    "offsets for two axes": ("embedding_bag", (INDEX, table(), START), {}, r"offsets .*\(2,\)"),
    "no offsets": ("embedding_bag", (FLAT, table()), {}, "offsets .*None"),
    "offsets of two axes": ("embedding_bag", (FLAT, table(), INDEX), {}, r"offsets .*\(2, 3\)"),
    "an offset too far": ("embedding_bag", (FLAT, table(), torch.tensor([0, 9])), {}, "offsets"),
    "a late first offset": ("embedding_bag", (FLAT, table(), torch.tensor([1, 2])), {}, "offsets"),
    "an input of three axes": ("embedding_bag", (INDEX.unsqueeze(0), table()), {}, r"\(1, 2, 3\)"),
    "a weight of one axis": ("embedding_bag", (INDEX, table(4)), {}, r"\(4,\)"),
    "an unknown mode": ("embedding_bag", (INDEX, table()), {"mode": "prod"}, "'prod'"),
    "a maximum by frequency": ("embedding_bag", (INDEX, table()), {"mode": "max", "scale_grad_by_freq": True}, "max"),
    "padding outside": ("embedding_bag", (INDEX, table()), {"padding_idx": 4}, "padding_idx"),
    "padding far outside": ("embedding_bag", (INDEX, table()), {"padding_idx": -5}, "padding_idx"),
    "factors of a mean": ("embedding_bag", (INDEX, table()), {"per_sample_weights": table(2, 3)}, "mode='sum'"),
    "factors of another shape": (
        "embedding_bag",
        (INDEX, table()),
        {"per_sample_weights": table(3), "mode": "sum"},
        r"\(3,\)",
    ),
    "factors of another dtype": (
        "embedding_bag",
        (INDEX, table()),
        {"per_sample_weights": table(2, 3).float(), "mode": "sum"},
        "per_sample_weights",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_of_pytorchs_types(case: str) -> None:
    name, args, options, message = ERRORS[case]
    ours, theirs = (error_of(getattr(package, name), args, options) for package in (functional, builtin))
    assert type(ours) is type(theirs), f"{ours!r}, PyTorch's {theirs!r}"
    assert re.search(message, str(ours)), ours


def error_of(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Exception | None:
    try:
        function(*args, **options)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("name", ["embedding", "embedding_bag"])
def test_sparse_gradients_are_refused(name: str) -> None:
    with pytest.raises(NotImplementedError, match="sparse=True"):
        getattr(functional, name)(INDEX, table(), sparse=True)


def test_from_pretrained_gives_the_hand_written_module() -> None:
    for kind in (nn.Embedding, nn.EmbeddingBag):
        module = kind.from_pretrained(table(), freeze=False, padding_idx=1)
        assert type(module) is kind
        torch.testing.assert_close(module(INDEX), nn.as_builtin(module)(INDEX))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"scale_grad_by_freq": True}], ids=str)
def test_steps_of_sgd_are_pytorchs(options: dict[str, Any], momentum: float) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(nn.Embedding(5, 3, **options), nn.Flatten(), nn.Linear(9, 3)).double()
    twin = nn.as_builtin(copy.deepcopy(model))
    engine = Backprop(model, functional.mse_loss, momentum=momentum)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5, momentum=momentum)
    for index in (INDEX, INDEX.flip(1)):
        engine.sgd_step(index, table(2, 3), 0.5)
        optimizer.zero_grad()
        builtin.mse_loss(twin(index), table(2, 3)).backward()
        optimizer.step()
        torch.testing.assert_close([*model.parameters()], [*twin.parameters()])
