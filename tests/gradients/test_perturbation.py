"""Evaluation at perturbed numbers: what is granted, and what an error is called."""

import math

import pytest
import torch

from bp_torch.gradients import Comparison, Gradients, compare_all, perturbed
from bp_torch.gradients.perturbation import EVALUATIONS, RELATIVE_SIZE

Alteration = tuple[str, float]


def squares(x: torch.Tensor, dtype: torch.dtype) -> Gradients:
    return {"x": (2 * x).to(dtype)}


def compared(hand: Gradients | None = None, factor: float = 1.0, noise: float = 0.0) -> tuple[Comparison, int]:
    """The gradient of x², right in the judge and altered in the hand-written one; and how often it was computed."""
    numbers = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors, count = torch.Generator().manual_seed(1), 0

    def evaluate(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
        nonlocal count
        count += 1
        x = perturbed(numbers, generator)
        ours = squares(x, torch.float64)["x"] * factor + noise * torch.randn(50, generator=errors)
        return hand or {"x": ours.float()}, squares(x, torch.float32), squares(x, torch.float64)

    (comparison,) = compare_all(evaluate)
    return comparison, count


def test_what_passes_is_not_evaluated_again() -> None:
    comparison, count = compared()
    assert comparison.passed
    assert comparison.error_projection is None
    assert count == 1


@pytest.mark.parametrize("factor", [2, 1.01, 1.0001, -1, 0])
def test_a_wrong_equation_is_called_one(factor: float) -> None:
    comparison, count = compared(factor=factor)
    assert comparison.diagnosis == "WRONG EQUATION"
    assert comparison.error_projection == pytest.approx(1, abs=0.05)
    assert comparison.error_size_ratio == pytest.approx(1, abs=0.05)
    assert count == 1 + EVALUATIONS


def test_noise_is_not_called_a_wrong_equation() -> None:
    comparison, _ = compared(noise=1e-3)
    assert not comparison.passed
    assert comparison.diagnosis == "LOST TO ROUNDING"
    assert comparison.lost_to_rounding


def test_what_is_wrong_at_these_very_numbers_alone_is_not_called_noise() -> None:
    """As at a kink: the perturbed numbers are off it, and the error is gone."""

    def evaluate(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
        x = perturbed(torch.tensor([1.0, 2.0], dtype=torch.float64), generator)
        right = {"x": (x > 1).double()}
        return {"x": (x >= 1).double()}, right, right

    (comparison,) = compare_all(evaluate)
    assert comparison.diagnosis == "WRONG EQUATION"


def test_a_gradient_that_is_not_finite_is_a_wrong_equation() -> None:
    comparison, _ = compared(hand={"x": torch.full((50,), math.nan)})
    assert comparison.diagnosis == "WRONG EQUATION"


def test_every_gradient_is_compared_by_itself() -> None:
    truth = torch.randn(30, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = truth[:2] * 1e-6
    hand = {"large": truth.float(), "small": (small * 1.01).float()}
    builtin, exact = {"large": truth.float(), "small": small.float()}, {"large": truth, "small": small}
    results = compare_all(lambda generator: (hand, builtin, exact))
    assert [(result.name, result.passed) for result in results] == [("large", True), ("small", False)]


def test_a_scale_grants_the_rounding_of_larger_numbers() -> None:
    """1 − y² where y is nearly 1: its error is y's rounding, not its own."""
    truth = torch.tensor([1e-10], dtype=torch.float64)
    hand = truth + 1e-16
    draws = {"x": hand}, {"x": truth}, {"x": truth}
    assert not compare_all(lambda generator: draws)[0].passed
    assert compare_all(lambda generator: draws, {"x": 1.0})[0].passed


def test_perturbed_numbers_are_near_and_zeros_stay() -> None:
    x = torch.tensor([0.0, 1.0, -3.0])
    moved = perturbed(x, torch.Generator().manual_seed(0))
    assert moved[0] == 0
    assert torch.equal((moved - x).abs(), RELATIVE_SIZE * x.abs())
    assert perturbed(x, None) is x
