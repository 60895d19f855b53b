"""Random functions draw the numbers that PyTorch draws with the same seed, in every mode."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch import functional

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SHAPES = {
    "dropout": (4, 5),
    "dropout1d": (2, 3, 4),
    "dropout2d": (2, 3, 4, 2),
    "dropout3d": (2, 3, 2, 2, 2),
    "alpha_dropout": (4, 5),
    "feature_alpha_dropout": (2, 3, 4),
}
every = pytest.mark.parametrize("name", SHAPES)


def twice(function: Callable[..., Tensor], input: Tensor, *args: Any, **options: Any) -> list[Tensor]:
    """Two values in a row and their gradients: the second call continues the stream of random numbers."""
    torch.manual_seed(3)
    x = input.detach().requires_grad_()
    values = [function(x, *args, **options) for _ in range(2)]
    return [*values, *(torch.autograd.grad((y * y).sum(), x)[0] for y in values)]


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_bit_equal_to_pytorch(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(SHAPES[name]).to(dtype)
    for input in (x, x.transpose(0, -1) if name.endswith("dropout") else x[::2]):
        hand, builtin = (twice(getattr(module, name), input, 0.3, training=True) for module in (functional, F))
        assert all(map(torch.equal, hand, builtin))


@pytest.mark.parametrize("dtype", DTYPES[:3])  # PyTorch's does not support float16
def test_rrelu_draws_as_pytorch_does(dtype: torch.dtype) -> None:
    x = torch.randn(5, 6).to(dtype)
    x[0, 1], x[2, 2] = 0, torch.nan  # a slope for 0, none for NaN
    for input in (x, x.t()):
        hand, builtin = (twice(module.rrelu, input, 0.1, 0.6, True) for module in (functional, F))
        hand, builtin = ([each.nan_to_num(7) for each in values] for values in (hand, builtin))
        assert all(map(torch.equal, hand[:2], builtin[:2]))
        torch.testing.assert_close(hand, builtin)


@every
def test_smallest_and_largest_probability(name: str) -> None:
    function, x = getattr(functional, name), torch.randn(SHAPES[name], requires_grad=True)
    assert function(x, 0.0, True) is x
    assert function(x, 0.5, False) is x
    empty = x[:0]
    assert function(empty, 0.5, True) is empty
    y = function(x, 1.0, True)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert not y.any()
    assert not gradient.any()


@every
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_draws_as_pytorchs(name: str, randomness: str) -> None:
    batch = torch.randn(3, *SHAPES[name])
    results = []
    for module in (functional, F):
        torch.manual_seed(0)
        function = getattr(module, name)
        vmapped = torch.vmap(lambda x, f=function: f(x, 0.5, training=True), randomness=randomness)
        results.append(vmapped(batch))
    assert torch.equal(*results)


def test_rrelu_under_vmap_draws_as_for_one_example() -> None:
    batch = torch.randn(3, 4, 5, dtype=torch.float64)
    torch.manual_seed(0)
    hand = torch.vmap(lambda x: functional.rrelu(x, training=True), randomness="same")(batch)
    for x, y in zip(batch, hand, strict=True):
        torch.manual_seed(0)
        torch.testing.assert_close(y, F.rrelu(x, training=True))
    different = torch.vmap(lambda x: functional.rrelu(x, training=True), randomness="different")(-torch.ones(3, 4))
    assert different.unique().numel() == 12


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dropout2d", (2, 3, 4)), ("dropout2d", (2, 3)), ("dropout3d", (2, 3, 4)), ("dropout3d", (3,))],
)
def test_deprecated_dimensions_warn_as_in_pytorch(name: str, shape: tuple[int, ...]) -> None:
    x, results = torch.randn(shape), []
    for module in (functional, F):
        torch.manual_seed(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results.append(getattr(module, name)(x))
        assert caught
        assert all(w.category is UserWarning and w.filename == __file__ for w in caught)
    assert torch.equal(*results)
