"""Attention by blocks: blocks are made so small that tiny samples have several."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from benchmarks.measuring import peak_bytes
from torch import Tensor

from bp_torch.catalogue import CATALOGUE
from bp_torch.functional import scaled_dot_product_attention, scores
from bp_torch.functional.attention import BlockwiseAttention
from bp_torch.gradients import check_gradients, compare
from bp_torch.sample import Sample

NOT_BY_BLOCKS = {"torch.compile": "not by blocks"}
ENTRY = CATALOGUE["scaled_dot_product_attention"]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BLOCK", 4)
    monkeypatch.setattr(scores, "QUERIES", 2)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


SAMPLES = {
    "of any number of keys": replace(ENTRY.samples[0], axes="2 3 2, 2 m 2, 2 m 3"),
    "a float mask, broadcast": replace(ENTRY.samples[1], axes="2 3 2, 1 4 2, 1 4 2, 3 4"),
    "a boolean mask": replace(ENTRY.samples[2], axes="3 2, 5 2, 5 2, 3 5"),
    "causal": Sample((draw(5, 2), draw(3, 2), draw(3, 2)), {"is_causal": True}, axes="n 2, 3 2, 3 2"),
    "a mask for each example": Sample(
        (draw(2, 1, 3, 2), draw(2, 2, 4, 2), draw(2, 4, 2), draw(2, 1, 3, 4)), axes="2 1 3 2, 2 2 4 2, 2 4 2, 2 1 3 4"
    ),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=list(SAMPLES))
@pytest.mark.usefixtures("small_blocks")
def test_every_check(sample: Sample) -> None:
    function = partial(scaled_dot_product_attention, **sample.options)
    output: Any = function(*(x.requires_grad_(x.is_floating_point()) for x in map(torch.clone, sample.args)))
    assert output.grad_fn._forward_cls is BlockwiseAttention
    report = check_gradients(
        ENTRY.function, [sample], reference=ENTRY.reference, skip={"torch.compile": "not by blocks"}
    )
    assert report.passed, str(report)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradients_in_low_precision(dtype: torch.dtype) -> None:
    inputs = [draw(2, n, 4).to(dtype) for n in (7, 9, 9)]
    hand, builtin = (value_and_gradients(f, *inputs) for f in (scaled_dot_product_attention, ENTRY.reference))
    truth = value_and_gradients(ENTRY.reference, *(x.double() for x in inputs))
    for name, *three in zip(("value", "query", "key", "value"), hand, builtin, truth, strict=True):
        assert three[0].dtype == dtype
        assert compare(name, *three).passed


@pytest.mark.usefixtures("small_blocks")
def test_scores_far_below_zero_after_masked_blocks() -> None:
    """The maximum of masked blocks is −∞, not 0, below which these scores' exponentials would vanish."""
    q, k, v, mask = (
        torch.ones(3, 1),
        torch.full((6, 1), -5000.0),
        draw(6, 2).float(),
        torch.ones(3, 6, dtype=torch.bool),
    )
    mask[:, :4] = False
    torch.testing.assert_close(scaled_dot_product_attention(q, k, v, mask), v[4:].mean(0).expand(3, 2))


@pytest.mark.parametrize("options", [{}, {"is_causal": True}], ids=["full", "causal"])
def test_memory_does_not_grow_with_the_number_of_scores(options: dict[str, bool]) -> None:
    n = 2048
    inputs = [torch.randn(n, 16) for _ in range(3)]
    peak = peak_bytes(lambda: value_and_gradients(partial(scaled_dot_product_attention, **options), *inputs))
    assert peak < 4 * n * n / 4  # a quarter of P


def test_blocks_after_the_diagonal_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BLOCK", 4)
    monkeypatch.setattr(scores, "QUERIES", 2)
    q, k = draw(1, 5, 2), draw(1, 7, 2)
    blocks = [(rows, keys) for _, rows, each in scores.ScoreBlocks(q, k, k, None, 1.0, True) for keys in each]
    firsts = [(rows.start, keys.start) for rows, keys in blocks]
    assert firsts == [(0, 0), (2, 0), (2, 2), (4, 0), (4, 2), (4, 4)]


def value_and_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = function(*leaves)
    upstream = torch.cos(torch.arange(output.numel(), dtype=torch.float64)).reshape(output.shape)
    return [output.detach(), *torch.autograd.grad(output, leaves, upstream.to(output.dtype))]
