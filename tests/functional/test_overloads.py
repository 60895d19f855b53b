"""Overloads and other calls that PyTorch's samples leave out: the result or the type of error is torch's."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from bp_torch import functional

x = torch.tensor([[1.5, -2.0, 0.0], [4.0, 0.5, -1.0]])
y, integers, flags = x.flip(1), torch.tensor([[3, 1, 2]], dtype=torch.int32), torch.tensor([True, False])
row, index = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([[0, 1, 1]])

VALUES: dict[str, Callable[[Any], Any]] = {
    "max of all": lambda f: f.max(x),
    "max of booleans": lambda f: f.max(flags),
    "max by keywords": lambda f: f.max(input=x, dim=1, keepdim=True),
    "max of two": lambda f: f.max(x, row),
    "max of two by keyword": lambda f: f.max(x, other=y.double()),
    "min of integers": lambda f: f.min(integers),
    "min along an axis": lambda f: f.min(integers, -1),
    "sort of integers": lambda f: f.sort(integers, descending=True),
    "sort of booleans, stable": lambda f: f.sort(flags, stable=True),
    "topk smallest": lambda f: f.topk(x, 2, 1, largest=False),
    "var of all": lambda f: f.var(x),
    "var, unbiased in place of dim": lambda f: f.var(x, False),
    "var, unbiased": lambda f: f.var(x, 1, False, True),
    "var, no axes": lambda f: f.var(x, ()),
    "std, correction None": lambda f: f.std(x, 0, correction=None),
    "std, dim None": lambda f: f.std(x, None, True),
    "prod of integers": lambda f: f.prod(integers),
    "prod in a dtype": lambda f: f.prod(integers, 1, dtype=torch.float64),
    "prod of booleans": lambda f: f.prod(flags),
    "cumsum of integers": lambda f: f.cumsum(integers, 1),
    "cumsum in a dtype": lambda f: f.cumsum(integers, -1, dtype=torch.float16),
    "logsumexp of integers": lambda f: f.logsumexp(integers, 1),
    "logsumexp of nothing": lambda f: f.logsumexp(x[:0], 0),
    "norm, p None": lambda f: f.norm(x, None),
    "norm over two axes": lambda f: f.norm(x, "fro", (0, 1), True),
    "norm in a dtype": lambda f: f.norm(x, 1, dtype=torch.float64),
    "norm, p = 0": lambda f: f.norm(x, 0, 1),
    "norm, p = −∞": lambda f: f.norm(x, -math.inf, 0),
    "norm into out": lambda f: f.norm(x, out=torch.zeros(())),
    "clamp of integers": lambda f: f.clamp(integers, 2),
    "clamp of integers by a fraction": lambda f: f.clamp(integers, max=1.5),
    "clamp by another dtype": lambda f: f.clamp(x, row.double(), max=y),
    "clamp, crossed": lambda f: f.clamp(x, 1, -1),
    "erf of integers": lambda f: f.erf(integers),
    "sin of booleans": lambda f: f.sin(flags),
    "gather of integers": lambda f: f.gather(integers, 1, torch.tensor([[2, 0]])),
    "index_select by one index": lambda f: f.index_select(x, 0, torch.tensor(1)),
    "scatter of a number": lambda f: f.scatter(integers, 1, torch.tensor([[2]]), 7),
    "scatter of a larger src": lambda f: f.scatter(x, 0, index, y),
    "scatter_add of a larger src": lambda f: f.scatter_add(x, 0, index, y),
    "tril of booleans": lambda f: f.tril(flags.expand(2, 2), diagonal=-1),
    "bmm of integers": lambda f: f.bmm(integers.unsqueeze(0), integers.view(1, 3, 1)),
    "baddbmm, NaN times 0": lambda f: f.baddbmm(row * math.nan, x[None], torch.eye(3)[None], beta=0),
    "einsum of a list": lambda f: f.einsum("ij,kj", [x, y]),
    "einsum of a scalar": lambda f: f.einsum("", x[0, 0]),
    "einsum of numbered letters": lambda f: f.einsum(x, [27, 1], y, [27, 1], [1]),
    "einsum of two dtypes": lambda f: f.einsum("ij,ij->ij", x, y.double()),
}
ERRORS: dict[str, Callable[[Any], Any]] = {
    "max, keepdim alone": lambda f: f.max(x, keepdim=True),
    "max of two, keepdim": lambda f: f.max(x, y, True),
    "max and a number": lambda f: f.max(x, 1.5),
    "max of nothing": lambda f: f.max(x[:0], 0),
    "sort, no such axis": lambda f: f.sort(x, 2),
    "topk, dim None": lambda f: f.topk(x, 1, None),
    "var, two corrections": lambda f: f.var(x, 1, True, correction=1),
    "var, an axis twice": lambda f: f.var(x, (0, 0)),
    "prod over two axes": lambda f: f.prod(x, (0, 1)),
    "prod, keepdim alone": lambda f: f.prod(x, keepdim=True),
    "cumsum of all": lambda f: f.cumsum(x, None),
    "logsumexp, dim None": lambda f: f.logsumexp(x, None),
    "norm in a smaller dtype": lambda f: f.norm(x, dtype=torch.float16),
    "norm, unknown": lambda f: f.norm(x, "max"),
    "clamp by a number and a Tensor": lambda f: f.clamp(x, 0.0, row),
    "gather, negative": lambda f: f.gather(x, 0, -index),
    "index_select, negative": lambda f: f.index_select(x, 0, torch.tensor([-1])),
    "scatter of nothing": lambda f: f.scatter(x, 0, index),
    "tril of a vector": lambda f: f.tril(row),
    "einsum of two dtypes": lambda f: f.einsum("ij,ij->i", x, y.double()),
    "einsum without operands": lambda f: f.einsum("i->i"),
    "einsum of a list of numbers": lambda f: f.einsum("i->i", [1.0]),
}


def leaves(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("call", VALUES.values(), ids=list(VALUES))
def test_the_same_result(call: Callable[[Any], Any]) -> None:
    hand, builtin = call(functional), call(torch)
    assert type(hand) is type(builtin)
    torch.testing.assert_close(leaves(hand), leaves(builtin), rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("call", ERRORS.values(), ids=list(ERRORS))
def test_the_same_type_of_error(call: Callable[[Any], Any]) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011 - of any type
        call(torch)
    with pytest.raises(expected.type):
        call(functional)


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda: functional.norm(x, "nuc"), "nuc"),
        (lambda: functional.gather(x, 0, index, sparse_grad=True), "sparse_grad"),
        (lambda: functional.scatter(x, 0, index, 1.0, reduce="add"), "reduce"),
    ],
)
def test_unsupported_options_are_named(call: Callable[[], Any], option: str) -> None:
    with pytest.raises(NotImplementedError, match=option):
        call()


@pytest.mark.parametrize("function", [functional.scatter, functional.scatter_add])
def test_what_a_smaller_index_leaves_out_has_no_gradient(function: Callable[..., Tensor]) -> None:
    """PyTorch raises in the backward."""
    src = y.clone().requires_grad_()
    function(x, 0, index, src).backward(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert src.grad is not None
    assert src.grad.tolist() == [[1.0, 5.0, 6.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", ["max", "min"])
def test_results_along_an_axis_may_be_changed_in_place(name: str) -> None:
    input = x.clone().requires_grad_()
    values, _ = getattr(functional, name)(input, 1)
    values.mul_(2).sum().backward()
    assert input.grad is not None
    assert input.grad.sum() == 4


def test_products_may_be_changed_in_place() -> None:
    input = x.clone().requires_grad_()
    functional.einsum("ij,kj->ki", input, y).add_(1).sum().backward()
    torch.testing.assert_close(input.grad, y.sum(0).expand(2, 3))
