"""Fixed arguments take part: they are changed in place, set to zero, and tied with inputs; masks are filled."""

from collections.abc import Callable

import pytest
import torch
from gradients.checking import PLANTED, check_planted, failed, relu_with
from torch import Tensor

from bp_torch.gradients import check_gradients

CHECKS = ("value", "gradient", "saved tensors")


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize(
    ("name", "check", "variants", "hints"),
    [
        (
            "linear: stale frozen weight",
            "saved tensors",
            ("as given, argument 1 modified in place before the backward",),
            (),
        ),
        (
            "l2 distance: NaN at a tie with a frozen target",
            "gradient",
            ("with equal inputs", "all inputs equal"),
            ("wrong only at kinks or ties: with equal inputs, all inputs equal",),
        ),
        (
            "normalise: NaN at a row of zeros",
            "gradient",
            ("a row of zeros", "all zeros"),
            ("wrong only at kinks or ties: a row of zeros, all zeros",),
        ),
        (
            "gated tanh: tanh from the value over a frozen gate of 0",
            "gradient",
            ("with zeros in fixed arguments",),
            ("wrong only at kinks or ties: with zeros in fixed arguments",),
        ),
    ],
)
def test_nothing_else_fails(
    name: str, check: str, variants: tuple[str, ...], hints: tuple[str, ...], with_reference: bool
) -> None:
    report = check_planted(name, with_reference=with_reference, checks=CHECKS)
    assert failed(report) == {(check, variant) for variant in variants}
    assert report.hints == hints
    assert report.grade == ("gradient right" if check == "saved tensors" else "wrong")


@pytest.mark.parametrize("with_reference", [True, False])
def test_a_fully_masked_row(with_reference: bool) -> None:
    bug, allowed = PLANTED["masked softmax: NaN for a fully masked row"], torch.ones(4, 5, dtype=torch.bool)
    allowed[2, 3:] = False
    sample, reference = (numbers(4, 5).requires_grad_(), allowed), bug.reference if with_reference else None
    report = check_gradients(bug.function, [sample], reference=reference, checks=CHECKS)
    assert failed(report) == {("gradient", "with a row of False in the mask")}
    assert report.hints == ("wrong only for full or empty rows of a mask: with a row of False in the mask",)
    assert bug.reference is not None
    assert check_gradients(bug.reference, [sample], checks=CHECKS).passed


@pytest.mark.parametrize("reference", [lambda p, q: (p - q).relu(), None])
def test_a_slope_at_a_tie_with_a_frozen_target(reference: Callable[..., Tensor] | None) -> None:
    sample = (numbers(4, 3).requires_grad_(), numbers(4, 3).flip(0))
    for slope, failures in ((0.0, set()), (3.0, {("gradient", "with equal inputs")})):
        relu = relu_with(slope)
        report = check_gradients(lambda p, q, f=relu: f(p - q), [sample], reference=reference, checks=CHECKS)
        assert failed(report) >= failures
        assert report.passed == (not failures), str(report)
