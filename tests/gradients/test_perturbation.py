"""Evaluation at perturbed inputs: the tolerance, and the diagnosis of an error."""

import math

import pytest
import torch
from gradients.checking import numbers

from bp_torch.gradients import Comparison, Gradients, compare_all, perturbed
from bp_torch.gradients.perturbation import EVALUATIONS, RELATIVE_SIZE

Alteration = tuple[str, float]


def squares(x: torch.Tensor, dtype: torch.dtype) -> Gradients:
    return {"x": (2 * x).to(dtype)}


def compared(hand: Gradients | None = None, factor: float = 1.0, noise: float = 0.0) -> tuple[Comparison, int]:
    """Compare an altered gradient of x² with the correct one; return the number of evaluations too."""
    inputs = numbers(50)
    errors, count = torch.Generator().manual_seed(1), 0

    def evaluate(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
        nonlocal count
        count += 1
        x = perturbed(inputs, generator)
        ours = squares(x, torch.float64)["x"] * factor + noise * torch.randn(50, generator=errors)
        return hand or {"x": ours.float()}, squares(x, torch.float32), squares(x, torch.float64)

    (comparison,) = compare_all(evaluate)
    return comparison, count


def test_a_passed_comparison_is_not_evaluated_again() -> None:
    comparison, count = compared()
    assert comparison.passed
    assert comparison.error_projection is None
    assert count == 1


@pytest.mark.parametrize("factor", [2, 1.01, 1.0001, -1, 0])
def test_a_wrong_equation(factor: float) -> None:
    comparison, count = compared(factor=factor)
    assert comparison.diagnosis == "WRONG EQUATION"
    assert comparison.error_projection == pytest.approx(1, abs=0.05)
    assert comparison.error_size_ratio == pytest.approx(1, abs=0.05)
    assert count == 1 + EVALUATIONS


def test_noise_is_lost_to_rounding() -> None:
    comparison, _ = compared(noise=1e-3)
    assert not comparison.passed
    assert comparison.diagnosis == "LOST TO ROUNDING"
    assert comparison.lost_to_rounding


def test_an_error_only_at_the_original_inputs_is_a_wrong_equation() -> None:
    """As at a kink: the error disappears at perturbed inputs."""

    def evaluate(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
        x = perturbed(torch.tensor([1.0, 2.0], dtype=torch.float64), generator)
        correct = {"x": (x > 1).double()}
        return {"x": (x >= 1).double()}, correct, correct

    (comparison,) = compare_all(evaluate)
    assert comparison.diagnosis == "WRONG EQUATION"


def test_a_gradient_that_is_not_finite_is_a_wrong_equation() -> None:
    comparison, _ = compared(hand={"x": torch.full((50,), math.nan)})
    assert comparison.diagnosis == "WRONG EQUATION"


def test_each_gradient_is_compared_separately() -> None:
    truth = numbers(30, 20)
    small = truth[:2] * 1e-6
    hand = {"large": truth.float(), "small": (small * 1.01).float()}
    builtin, exact = {"large": truth.float(), "small": small.float()}, {"large": truth, "small": small}
    results = compare_all(lambda generator: (hand, builtin, exact))
    assert [(result.name, result.passed) for result in results] == [("large", True), ("small", False)]


def test_a_scale_allows_the_rounding_errors_of_larger_terms() -> None:
    """1 − y² for y near 1 has the rounding error of y."""
    truth = torch.tensor([1e-10], dtype=torch.float64)
    hand = truth + 1e-16
    triple = {"x": hand}, {"x": truth}, {"x": truth}
    assert not compare_all(lambda generator: triple)[0].passed
    assert compare_all(lambda generator: triple, {"x": 1.0})[0].passed


def test_perturbation_size() -> None:
    """One factor for all components: zeros and ties stay."""
    x = torch.tensor([0.0, 1.0, -2.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    factors = [(result[1:] / x[1:]).unique() for result in (perturbed(x, generator) for _ in range(8))]  # type: ignore[no-untyped-call]
    assert {len(factor) for factor in factors} == {1}
    changes = torch.cat(factors) - 1
    assert ((changes.abs() >= RELATIVE_SIZE / 2) & (changes.abs() <= RELATIVE_SIZE)).all()
    assert {-1.0, 1.0} == set(changes.sign().tolist())
    assert perturbed(x, None) is x
