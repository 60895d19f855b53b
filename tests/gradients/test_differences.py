"""Finite differences, against derivatives known from calculus."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bp_torch.gradients.differences import LineSamples, sample_line, taylor_order


def along(function: Callable[[float], float], *, every_step: bool = False) -> LineSamples:
    return sample_line(lambda t: torch.tensor([function(t)], dtype=torch.float64), every_step=every_step)


SMOOTH = {
    "exp": (math.exp, 1.0),
    "sine": (lambda t: math.sin(1 + 3 * t), 3 * math.cos(1)),
    "cube": (lambda t: (2 + t) ** 3, 12.0),
    "small": (lambda t: 1e-9 * math.exp(t), 1e-9),
    "large": (lambda t: 1e12 * math.exp(t), 1e12),
    "beside a large term": (lambda t: 1000 + math.exp(t), 1.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_slope_of_a_smooth_function(name: str) -> None:
    function, derivative = SMOOTH[name]
    found = along(function)
    assert abs(found.slope - derivative) <= 5 * found.error
    assert found.error < 1e-8 * max(abs(derivative), abs(function(0)))
    assert not found.irregular(abs(derivative))
    assert found.kink_jump == 0
    assert found.order(derivative) == pytest.approx(2, abs=0.05)
    assert along(function, every_step=True).order(1.001 * derivative) < 1.5


@given(st.floats(0.2, 20), st.floats(-3, 3), st.floats(0.5, 2))
def test_the_error_is_never_promised_too_small(frequency: float, phase: float, size: float) -> None:
    found = along(lambda t: size * math.sin(frequency * t + phase))
    assert abs(found.slope - size * frequency * math.cos(phase)) <= 20 * found.error


def test_a_straight_line_leaves_no_remainder() -> None:
    found = along(lambda t: 3 + 2 * t)
    assert found.order(2.0) == math.inf
    assert found.order(2.1) == pytest.approx(1, abs=0.01)


def test_a_kink_here_is_seen_and_measured() -> None:
    found = along(lambda t: math.exp(t) + max(3 * t, -t))
    assert found.kink_jump == pytest.approx(4, abs=1e-4)
    assert found.slope - found.kink_jump / 2 == pytest.approx(0, abs=1e-4)
    assert found.slope + found.kink_jump / 2 == pytest.approx(4, abs=1e-4)


@pytest.mark.parametrize("distance", [0.02, 0.004, 2e-4, -3e-3])
def test_a_kink_nearby_is_told_apart_from_an_error(distance: float) -> None:
    found = along(lambda t: math.exp(t) + abs(t - distance))
    derivative = 1 - math.copysign(1, distance)
    assert found.kink_jump == 0
    assert abs(found.slope - derivative) <= 20 * found.error < 1e-6


def test_two_kinks_that_agree_do_not_deceive() -> None:
    """Crossed at the same distance to both sides, they leave long steps in perfect agreement on a wrong slope."""
    found = along(lambda t: t + max(0, abs(t) - 0.003) * math.copysign(1, t))
    assert abs(found.slope - 1) <= 5 * found.error < 1e-6


def test_values_that_are_not_smooth_are_called_irregular() -> None:
    assert along(lambda t: torch.tensor(0.7 * math.exp(t), dtype=torch.float32).item()).irregular(1.0)
    assert along(lambda t: math.nan if t else 1.0).irregular(1.0)


class TestTheOrderFromThreeValues:
    """Of training: one number, cheap enough to log."""

    def test_right_and_wrong(self) -> None:
        assert taylor_order(math.exp, 1.0) == pytest.approx(2, abs=0.01)
        assert taylor_order(math.exp, 1.01) == pytest.approx(1, abs=0.05)

    def test_lost_in_rounding(self) -> None:
        assert math.isnan(taylor_order(lambda t: 1 + t, 1.0))
