"""Connectionist temporal classification at its limits, against PyTorch's own kernel.

The catalogue compares it with the sum over all alignments, along normalized log-probabilities.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F

_generator = torch.Generator().manual_seed(0)
_X = torch.randn(6, 3, 5, generator=_generator, dtype=torch.float64).log_softmax(-1)
_TARGETS = torch.tensor([[1, 2, 2], [3, 1, 0], [2, 0, 0]])
LIMITS: dict[str, tuple[Any, ...]] = {
    "padded": (_TARGETS, torch.tensor([6, 5, 4]), torch.tensor([3, 2, 1])),
    "concatenated": (torch.tensor([1, 2, 2, 3, 1]), (6, 5, 4), (3, 2, 0)),
    "anything beyond the length": (torch.tensor([[1, 2, 99], [3, -7, 99], [2, 0, 0]]), (6, 4, 3), (2, 1, 3)),
    "impossible alignments": (torch.tensor([[1, 1, 1], [2, 2, 2], [1, 1, 2]]), (4, 6, 2), (3, 3, 3)),
    "no labels": (torch.zeros(3, 0, dtype=torch.int64), (6, 4, 0), (0, 0, 0)),
    "no frames": (_TARGETS, (0, 6, 0), (1, 2, 0)),
}


def both(*args: Any, x: Tensor = _X, **options: Any) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient, PyTorch's second; an upstream gradient that differs from loss to loss."""
    results = []
    for function in (F.ctc_loss, torch.nn.functional.ctc_loss):
        leaf = x.clone().requires_grad_()
        loss = function(leaf, *args, **options)
        upstream = torch.arange(1.0, loss.numel() + 1).to(loss).reshape(loss.shape)
        results.append((loss.detach(), torch.autograd.grad(loss, leaf, upstream)[0]))
    return results


@pytest.mark.parametrize("options", [{"reduction": "none"}, {"zero_infinity": True}, {"blank": 4, "reduction": "sum"}])
@pytest.mark.parametrize("limit", LIMITS)
def test_value_and_gradient_are_pytorchs(limit: str, options: dict[str, Any]) -> None:
    torch.testing.assert_close(*both(*LIMITS[limit], **options), equal_nan=True, rtol=1e-12, atol=1e-12)


def test_one_sequence_without_a_batch() -> None:
    for lengths in (((6,), (3,)), (torch.tensor(6), torch.tensor(3))):
        torch.testing.assert_close(*both(_TARGETS[0], *lengths, x=_X[:, 0], reduction="none"))


def test_second_derivatives_do_not_see_an_impossible_alignment() -> None:
    """The NaN of one sequence would spread."""

    def loss(x: Tensor) -> Tensor:
        return F.ctc_loss(x.log_softmax(-1), *LIMITS["impossible alignments"], zero_infinity=True)

    hessian = torch.func.hessian(loss)(_X)
    assert hessian.isfinite().all()
    assert not hessian[:, 0].any()
    assert hessian[:, 1].any()


def test_a_probability_of_0_has_no_gradient() -> None:
    """PyTorch's is NaN for a label of the target."""
    x = _X.clone()
    x[1, 0, 2] = -torch.inf
    (loss, gradient), (expected, builtin) = both(*LIMITS["padded"], x=x)
    torch.testing.assert_close(loss, expected)
    assert gradient[1, 0, 2] == 0
    torch.testing.assert_close(gradient, builtin.nan_to_num(nan=0.0))


def test_a_label_out_of_range_is_rejected() -> None:
    """PyTorch reads beyond the log-probabilities."""
    with pytest.raises(RuntimeError, match="out of bounds"):
        F.ctc_loss(_X, _TARGETS + 5, (6, 5, 4), (3, 2, 1))


def test_long_sequences_in_float32() -> None:
    x = torch.randn(500, 2, 12, generator=_generator, dtype=torch.float64).log_softmax(-1)
    targets = torch.randint(1, 12, (2, 40), generator=_generator)
    _, (loss, gradient) = both(targets, (500, 450), (40, 30), x=x)
    (single, gradient_of_single), _ = both(targets, (500, 450), (40, 30), x=x.float())
    torch.testing.assert_close(single.double(), loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient_of_single.double(), gradient, rtol=0, atol=2e-4)
