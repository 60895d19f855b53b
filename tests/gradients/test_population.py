"""Systematic errors in low precision, distinguished from independent rounding errors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bp_torch.gradients.population import regression, systematic_error

EPS = torch.finfo(torch.bfloat16).eps
SHAPES = ((64, 64), (8, 32))


def truth_of(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rounded(x: Tensor) -> Tensor:
    """To the nearest number of bfloat16."""
    return x.bfloat16().double()


def truncated(x: Tensor) -> Tensor:
    """Towards zero."""
    return (x.float().view(torch.int32) & -65536).view(torch.float32).double()


def each_row_rounded(x: Tensor) -> Tensor:
    """A factor s³ of each row, with s rounded, as a saved statistic."""
    factors = 1.5 + torch.arange(len(x)).double().unsqueeze(1) / (3 * len(x))
    return rounded(x * (rounded(factors) / factors) ** 3)


def largest_too_large(x: Tensor) -> Tensor:
    return torch.where(x.abs() > 1, 1.1 * x, rounded(x))


def finding(change: Callable[[Tensor], Tensor], truth: Tensor, *, reference: bool = True) -> str:
    return systematic_error(change(truth), rounded(truth) if reference else None, truth, EPS, 4.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reference", [True, False])
def test_rounding_errors_are_not_systematic(shape: tuple[int, int], reference: bool) -> None:
    for seed in range(20):
        truth = truth_of(seed, *shape)
        noise = 1 + EPS / 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)).sub(0.5).double()
        for change in (rounded, lambda x, noise=noise: rounded(rounded(x) * noise)):
            assert finding(change, truth, reference=reference) == ""


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (1.02, "the components are 2 % too large on average"),
        (0.98, "the components are 2 % too small on average"),
        (0.0, "errors of 1e+02 % on average"),
    ],
)
def test_a_wrong_scale(factor: float, message: str) -> None:
    for seed in range(5):
        truth = truth_of(seed, 64, 64)
        assert message in finding(lambda x: rounded(factor * x), truth, reference=False)
        assert "% on average; the reference's are" in finding(lambda x: rounded(factor * x), truth)


def test_a_slightly_wrong_scale() -> None:
    """Smaller than the rounding error of a component."""
    message = finding(lambda x: rounded(1.002 * x), truth_of(0, 64, 64))
    assert message.startswith("the components are 0.2 % too large on average, 44")
    assert message.endswith("the reference's by 0.00095 %")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncated, "too small on average"),
        (each_row_rounded, "the rows are off by"),
        (lambda x: each_row_rounded(x.t()).t(), "the columns are off by"),
        (lambda x: rounded(x + 0.02 * x.roll(1)), "errors of 2"),
        (largest_too_large, "errors of"),
    ],
)
def test_an_error_that_the_reference_does_not_have(change: Callable[[Tensor], Tensor], message: str) -> None:
    for seed in range(5):
        assert message in finding(change, truth_of(seed, 64, 64))


def test_an_error_that_the_reference_has_too() -> None:
    truth = truth_of(0, 64, 64)
    hand = truncated(truth)
    assert systematic_error(hand, hand, truth, EPS, 4.0) == ""
    assert systematic_error(1.02 * hand, hand, truth, EPS, 4.0)


@pytest.mark.parametrize("truth", [truth_of(0, 5, 6), torch.full((64, 64), torch.nan), 1e-3 * truth_of(0, 64, 64)])
def test_too_few_numbers_or_only_noise(truth: Tensor) -> None:
    assert finding(lambda x: 1.05 * x, truth) == ""


def test_a_regression() -> None:
    truth = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    hand = torch.tensor([[2.0, 4.0], [3.0, 1.0]], dtype=torch.float64)
    fit = regression(hand, truth)
    assert fit.slope.tolist() == pytest.approx([2.0, 0.8])
    assert fit.standard_error[0] == 0
    assert fit.standard_error[1].item() == pytest.approx((1.8**2 + 1.8**2) ** 0.5 / 10)
    assert fit.deviation == pytest.approx(((1 + 0.04) / 2) ** 0.5)
