"""Fixed arguments take part: they are changed in place, set to zero, and tied with inputs; masks are filled."""

from collections.abc import Callable

import pytest
import torch
from gradients.checking import PLANTED, check_planted, failed, numbers, relu_with
from torch import Tensor

from bp_torch.gradients import check_gradients

CHECKS = ("value", "gradient", "saved tensors")


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize(
    ("name", "variants"),
    [
        ("l2 distance: NaN at a tie with a frozen target", ("with equal inputs", "all inputs equal")),
        ("normalise: NaN at a row of zeros", ("a row of zeros", "all zeros")),
        ("gated tanh: tanh from the value over a frozen gate of 0", ("with zeros in fixed arguments",)),
    ],
)
def test_values_of_fixed_arguments(name: str, variants: tuple[str, ...], with_reference: bool) -> None:
    report = check_planted(name, with_reference=with_reference, checks=CHECKS)
    assert failed(report) == {"gradient": {*variants}}
    assert report.hints == (f"wrong only at kinks or ties: {', '.join(variants)}",)
    assert report.grade == "wrong"


def test_a_weight_kept_on_ctx_is_stale_after_a_change_in_place() -> None:
    report = check_planted("linear: stale frozen weight", checks=CHECKS)
    assert failed(report) == {"saved tensors": {"as given, argument 1 modified in place before the backward"}}
    assert report.grade == "gradient right"


@pytest.mark.parametrize("with_reference", [True, False])
def test_a_fully_masked_row(with_reference: bool) -> None:
    bug, allowed = PLANTED["masked softmax: NaN for a fully masked row"], torch.ones(4, 5, dtype=torch.bool)
    allowed[2, 3:] = False
    sample, reference = (numbers(4, 5).requires_grad_(), allowed), bug.reference if with_reference else None
    report = check_gradients(bug.function, [sample], reference=reference, checks=CHECKS)
    assert failed(report) == {"gradient": {"with a row of False in the mask"}}
    assert report.hints == ("wrong only for full or empty rows of a mask: with a row of False in the mask",)
    assert bug.reference is not None
    assert check_gradients(bug.reference, [sample], checks=CHECKS).passed


@pytest.mark.parametrize("reference", [lambda p, q: (p - q).relu(), None])
def test_a_slope_at_a_tie_with_a_frozen_target(reference: Callable[..., Tensor] | None) -> None:
    sample = (numbers(4, 3).requires_grad_(), numbers(4, 3).flip(0))
    for slope in (0.0, 3.0):
        relu = relu_with(slope)
        report = check_gradients(lambda p, q, f=relu: f(p - q), [sample], reference=reference, checks=CHECKS)
        assert ("with equal inputs" in failed(report).get("gradient", ())) == (slope == 3)
        assert report.passed == (slope == 0), str(report)
