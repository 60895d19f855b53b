"""Finite differences compared with exact derivatives."""

import math
from collections.abc import Callable

import pytest
import torch
from gradients.checking import numbers, with_gradient
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bp_torch.gradients import check_gradients
from bp_torch.gradients.differences import LineSamples, rounding_noise, sample_line, taylor_order


def along(function: Callable[[float], float], *, every_step: bool = False) -> LineSamples:
    return sample_line(lambda t: torch.tensor([function(t)], dtype=torch.float64), every_step=every_step)


SMOOTH = {
    "exp": (math.exp, 1.0),
    "sine": (lambda t: math.sin(1 + 3 * t), 3 * math.cos(1)),
    "cube": (lambda t: (2 + t) ** 3, 12.0),
    "small": (lambda t: 1e-9 * math.exp(t), 1e-9),
    "large": (lambda t: 1e12 * math.exp(t), 1e12),
    "with a large term": (lambda t: 1000 + math.exp(t), 1.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_slope_of_a_smooth_function(name: str) -> None:
    function, derivative = SMOOTH[name]
    line = along(function)
    assert abs(line.slope - derivative) <= 5 * line.error
    assert line.error < 1e-8 * max(abs(derivative), abs(function(0)))
    assert not line.irregular(abs(derivative))
    assert line.kink_jump == 0
    assert line.order(derivative) == pytest.approx(2, abs=0.05)
    assert along(function, every_step=True).order(1.001 * derivative) < 1.5


@given(st.floats(0.2, 20), st.floats(-3, 3), st.floats(0.5, 2))
def test_the_error_estimate_is_an_upper_bound(frequency: float, phase: float, size: float) -> None:
    line = along(lambda t: size * math.sin(frequency * t + phase))
    assert abs(line.slope - size * frequency * math.cos(phase)) <= 20 * line.error


def test_a_linear_function_has_no_remainder() -> None:
    line = along(lambda t: 3 + 2 * t)
    assert line.order(2.0) == math.inf
    assert line.order(2.1) == pytest.approx(1, abs=0.01)


def test_a_kink_at_0_is_measured() -> None:
    line = along(lambda t: math.exp(t) + max(3 * t, -t))
    assert line.kink_jump == pytest.approx(4, abs=1e-4)
    assert line.slope - line.kink_jump / 2 == pytest.approx(0, abs=1e-4)
    assert line.slope + line.kink_jump / 2 == pytest.approx(4, abs=1e-4)


@pytest.mark.parametrize("distance", [0.02, 0.004, 2e-4, -3e-3])
def test_a_kink_near_0_does_not_change_the_slope(distance: float) -> None:
    line = along(lambda t: math.exp(t) + abs(t - distance))
    derivative = 1 - math.copysign(1, distance)
    assert line.kink_jump == 0
    assert abs(line.slope - derivative) <= 20 * line.error < 1e-6


def test_two_symmetric_kinks_do_not_change_the_slope() -> None:
    """The long steps agree on a wrong slope."""
    line = along(lambda t: t + max(0, abs(t) - 0.003) * math.copysign(1, t))
    assert abs(line.slope - 1) <= 5 * line.error < 1e-6


def test_rounded_or_nan_values_are_irregular() -> None:
    assert along(lambda t: torch.tensor(0.7 * math.exp(t), dtype=torch.float32).item()).irregular(1.0)
    assert along(lambda t: math.nan if t else 1.0).irregular(1.0)


class TestTaylorOrder:
    """The order from three values, as logged in training."""

    def test_correct_and_wrong_slope(self) -> None:
        assert taylor_order(math.exp, 1.0) == pytest.approx(2, abs=0.01)
        assert taylor_order(math.exp, 1.01) == pytest.approx(1, abs=0.05)

    def test_remainder_below_rounding_is_nan(self) -> None:
        assert math.isnan(taylor_order(lambda t: 1 + t, 1.0))


CANCELLING: dict[str, Callable[[Tensor], Tensor]] = {
    "1 - cos x": lambda x: 1 - x.cos(),
    "log(1 + x²)": lambda x: torch.log(1 + x * x),
    "√(1 + x²) - 1": lambda x: (1 + x * x).sqrt() - 1,
    "log cosh x": lambda x: x.cosh().log(),
    "1 - exp(-x²)": lambda x: 1 - (-x * x).exp(),
    "exp(x) - 1": lambda x: x.exp() - 1,
    "1 - cosine": lambda x: 1 - torch.nn.functional.cosine_similarity(x[:2], x[2:], dim=-1),
}
"""Small differences of numbers near 1, whose rounding errors are those of 1."""


@pytest.mark.parametrize("function", CANCELLING.values(), ids=list(CANCELLING))
@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_rounding_errors_of_cancelling_values(function: Callable[[Tensor], Tensor], factor: float) -> None:
    function = function if factor == 1 else with_gradient(function, factor)
    report = check_gradients(function, [(numbers(4, 5),)], checks="gradient", fail_fast=factor != 1)
    assert report.passed == (factor == 1), str(report)


def test_the_noise_of_a_value_is_measured() -> None:
    x = torch.full((1000,), 1e-6, dtype=torch.float64)
    assert rounding_noise(lambda: x.square().sum().item()) < 1e-23
    assert 1e-17 < rounding_noise(lambda: (1 - x.cos()).sum().item()) < 1e-12
