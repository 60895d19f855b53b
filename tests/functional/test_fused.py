"""What fused functions are for: no large intermediates; and the blocks of linear_cross_entropy."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as builtin
from torch.utils._python_dispatch import TorchDispatchMode

from bp_torch import functional


class Shapes(TorchDispatchMode):
    """Records the shape of each Tensor that an operation returns, but of expanded ones, which take no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.nbytes <= result.untyped_storage().nbytes():
            self.seen.add(tuple(result.shape))
        return result


def shapes_of(function: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> set[tuple[int, ...]]:
    with Shapes() as shapes:
        torch.autograd.grad(function().sum(), inputs)
    return shapes.seen


def drawn(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


def test_the_logits_are_never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["bp_torch.functional.linear_cross_entropy"], "MAX_LOGITS", 3 * 11)
    x, w = drawn((7, 5), (11, 5))
    target = torch.arange(7)
    seen = shapes_of(lambda: functional.linear_cross_entropy(x, w, target), (x, w))
    assert {(3, 11), (1, 11)} <= seen
    assert (7, 11) not in seen
    assert (7, 11) in shapes_of(lambda: builtin.linear_cross_entropy(x, w, target), (x, w))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_blocks_of_rows(rows: int) -> None:
    """Also where the last one is shorter, and for second derivatives."""
    results = []
    for package, options in ((functional, torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows)), (builtin, None)):
        inputs = drawn((7, 5), (4, 5), (4,))
        x, w, b = inputs
        target = torch.tensor([0, 3, 1, 1, -100, 2, 3])
        loss = package.linear_cross_entropy(
            x, w, target, linear_bias=b, weight=torch.arange(1.0, 5).double(), label_smoothing=0.1, options=options
        )
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        results.append((loss, *first, *second))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("target", [[], [-100, -100]])
def test_nothing_counts(target: list[int], reduction: str) -> None:
    results = []
    for package in (functional, builtin):
        x, w = drawn((len(target), 3), (4, 3))
        loss = package.linear_cross_entropy(x, w, torch.tensor(target, dtype=torch.int64), reduction=reduction)
        results.append((loss, *torch.autograd.grad(loss.sum(), (x, w))))
    torch.testing.assert_close(results[0][0], results[1][0], equal_nan=True)
    assert all(not gradient.any() for gradient in results[0][1:])  # PyTorch's mean of nothing has NaN


def test_the_gradient_of_the_weight_is_rounded_once() -> None:
    """In bfloat16, 128 + ½ is 128; the blocks are added in float32."""
    x, w = torch.ones(512, 1, dtype=torch.bfloat16), torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=1)
    loss = functional.linear_cross_entropy(x, w, torch.zeros(512).long(), reduction="sum", options=options)
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.tolist() == [[-256.0], [256.0]]


def test_an_adapter_computes_nothing_of_the_size_of_the_frozen_weight() -> None:
    x, w, a, b = drawn((3, 5), (7, 5), (2, 5), (7, 2))
    frozen = w.detach()
    seen = shapes_of(lambda: functional.lora_linear(x, frozen, None, a, b, 0.5), (x, a, b))
    assert (7, 5) not in seen
    assert (2, 5) in seen


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tables_in_float32_rotate_half_precision(dtype: torch.dtype) -> None:
    """Computed in float32 and rounded once, to the dtype of the input."""
    x, angles = torch.randn(2, 3, 4).to(dtype), torch.randn(3, 2)
    output = functional.rotary_embedding(x, angles.cos(), angles.sin())
    exact = functional.rotary_embedding(x.float(), angles.cos(), angles.sin())
    assert torch.equal(output, exact.to(dtype))


def test_a_rotation_keeps_lengths_and_its_gradient_turns_back() -> None:
    x, angles = torch.randn(5, 6).double().requires_grad_(), torch.randn(5, 3).double()
    for interleaved in (False, True):
        y = functional.rotary_embedding(x, angles.cos(), angles.sin(), interleaved)
        torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1))
        torch.testing.assert_close(torch.autograd.grad(y, x, y.detach()), (x.detach(),))
