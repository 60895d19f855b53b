import math

import pytest
import torch
from gradients.checking import numbers

from bp_torch.gradients import compare


@pytest.fixture
def truth() -> torch.Tensor:
    return numbers(30, 20)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_rounded_gradient_passes(truth: torch.Tensor, dtype: torch.dtype) -> None:
    builtin = truth.to(dtype)
    hand = torch.nextafter(builtin.float(), torch.tensor(math.inf)).to(dtype) if dtype == torch.float32 else builtin
    result = compare("w", hand, builtin, truth)
    assert result.passed
    assert result.cosine == pytest.approx(1)
    assert result.error_ratio <= 2


@pytest.mark.parametrize("factor", [1.0001, 0.5, 2, -1, 0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_wrong_factor_fails(truth: torch.Tensor, factor: float, dtype: torch.dtype) -> None:
    builtin = truth.to(dtype)
    assert not compare("w", (truth * factor).to(dtype), builtin, truth).passed


def test_one_wrong_component_fails_and_is_named(truth: torch.Tensor) -> None:
    builtin = truth.float()
    hand = builtin.clone()
    hand[17, 4] += 0.01
    result = compare("1.weight", hand, builtin, truth)
    assert not result.passed
    assert result.index == (17, 4)
    assert result.value == hand[17, 4].item()
    assert result.expected == truth[17, 4].item()
    message = str(result)
    assert "\n" not in message
    for part in ("1.weight[17, 4]", "WRONG", f"{result.value:.9g}", f"{result.expected:.9g}", "tolerance"):
        assert part in message


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_non_finite_component_fails(truth: torch.Tensor, wrong: float) -> None:
    hand = truth.float()
    hand[3, 3] = wrong
    result = compare("w", hand, truth.float(), truth)
    assert not result.passed
    assert result.index == (3, 3)


def test_nan_where_the_truth_is_nan_passes(truth: torch.Tensor) -> None:
    truth[0, 0] = math.nan
    truth[0, 1] = math.inf
    assert compare("w", truth.float(), truth.float(), truth).passed


def test_only_zero_agrees_with_zero() -> None:
    zero = torch.zeros(3)
    assert compare("w", zero, zero, zero.double()).passed
    wrong = compare("w", torch.tensor([0, 1e-12, 0]), zero, zero.double())
    assert not wrong.passed
    assert wrong.error_ratio == math.inf


def test_an_empty_gradient_passes() -> None:
    empty = torch.zeros(0, 4)
    assert compare("w", empty, empty, empty.double()).passed


def test_the_tolerance_follows_the_rule() -> None:
    truth = torch.tensor([4.0, 1.0], dtype=torch.float64)
    builtin, hand = torch.tensor([4.0, 1.0 + 2**-12]), torch.tensor([4.0, 1.0 + 2**-11])
    result = compare("w", hand, builtin, truth)
    assert result.tolerance == 2 * 2**-12 + 8 * torch.finfo(torch.float32).eps * 4.0
    assert result.error == 2**-11
    assert result.passed
    assert result.error_ratio == 2.0


def test_float64_must_agree_to_1e_12(truth: torch.Tensor) -> None:
    assert compare("w", truth * (1 + 5e-13), truth, truth).passed
    assert not compare("w", truth * (1 + 2e-12), truth, truth).passed


class TestTheBuiltin:
    """No gradient passes against a built-in that is far from the truth."""

    @pytest.mark.parametrize("wrong", [math.nan, math.inf])
    def test_non_finite_builtin(self, truth: torch.Tensor, wrong: float) -> None:
        builtin = truth.float()
        builtin[2, 2] = wrong
        result = compare("w", torch.full_like(builtin, 123), builtin, truth)
        assert not result.passed
        assert "INCONCLUSIVE" in str(result)

    def test_nan_truth(self, truth: torch.Tensor) -> None:
        assert not compare("w", truth.float(), truth.float(), torch.full_like(truth, math.nan)).passed

    def test_wrong_builtin(self, truth: torch.Tensor) -> None:
        assert not compare("w", 1.5 * truth.float(), truth.float(), 1.6 * truth).passed
        assert not compare("w", 1.5 * truth.float(), truth.float(), 1.6 * truth, typical_error=1e-7).passed

    def test_builtin_that_is_exact_by_chance(self, truth: torch.Tensor) -> None:
        """Large terms cancelled without an error: only the typical error shows it."""
        hand = truth.float() + 1e-5
        assert not compare("w", hand, truth.float(), truth).passed
        assert compare("w", hand, truth.float(), truth, typical_error=1e-5).passed
        assert not compare("w", 1.001 * hand, truth.float(), truth, typical_error=1e-5).passed

    def test_an_error_that_the_builtin_shares(self, truth: torch.Tensor) -> None:
        """As where a ReLU is on the other side of 0 in float32; a third gradient is wrong."""
        both = 1.01 * truth.float()
        assert compare("w", both, both, truth, typical_error=1e-6).passed
        assert not compare("w", 1.02 * truth.float(), both, truth, typical_error=1e-6).passed
        assert not compare("w", both, truth.float(), truth, typical_error=1e-6).passed

    def test_infinite_typical_error(self, truth: torch.Tensor) -> None:
        assert not compare("w", truth.float(), truth.float(), truth, typical_error=math.inf).passed


def test_shapes_and_dtypes_must_match(truth: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"w: cannot compare .* \(20, 30\)"):
        compare("w", truth.t(), truth, truth)
    with pytest.raises(ValueError, match=r"torch\.float32"):
        compare("w", truth.float(), truth, truth)
