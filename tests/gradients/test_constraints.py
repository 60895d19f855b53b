"""Constraints: projections onto sets of Tensors, and functions that are checked along them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients.checking import numbers
from torch import Tensor

from bp_torch.gradients import CannotCheck, check_gradients
from bp_torch.gradients.axes import property_of
from bp_torch.gradients.call import SYMMETRIC, as_calls
from bp_torch.gradients.constraints import PROJECTIONS, projection
from bp_torch.sample import Sample

MEMBER: dict[str, Callable[[Tensor], Tensor]] = {
    "symmetric": lambda x: x == x.mT,
    "psd": lambda x: torch.linalg.eigvalsh(x) > 0,
    "simplex": lambda x: (x >= 0) & ((x.sum(-1, keepdim=True) - 1).abs() < 1e-12),
    "unit": lambda x: (x.norm(dim=-1) - 1).abs() < 1e-12,
    "sorted": lambda x: x.diff(dim=-1) >= 0,
    "positive": lambda x: x > 0,
    "orthogonal": lambda x: (x.mT @ x - torch.eye(x.shape[-1], dtype=x.dtype)).abs() < 1e-12,
}
"""Whether a Tensor is in the set."""
DETECTED = ("symmetric", "psd", "simplex", "sorted", "orthogonal")
"""Properties that are recognised in a sample."""


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (1, 1)])
def test_a_projection_is_idempotent_on_its_set(name: str, shape: tuple[int, ...]) -> None:
    for x in (numbers(*shape), -3 * numbers(*shape)):
        inside = projection(name)(x)
        assert MEMBER[name](inside).all()
        torch.testing.assert_close(projection(name)(inside), inside, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_projection_is_differentiable(name: str) -> None:
    """The gradient of ⟨g, P(x)⟩ is that of finite differences."""
    x = (PROJECTIONS[name](numbers(4, 4)) + 0.01 * numbers(4, 4).flip(0)).requires_grad_()
    if name == "psd":  # the shift is constant
        x = (x.detach() + 4 * torch.eye(4, dtype=x.dtype)).requires_grad_()
    assert torch.autograd.gradcheck(PROJECTIONS[name], x)


@pytest.mark.parametrize("name", DETECTED)
def test_a_property_of_the_sample_is_recognised(name: str) -> None:
    assert (
        property_of(PROJECTIONS[name](numbers(4, 4).abs() if name == "simplex" else numbers(4, 4))) is PROJECTIONS[name]
    )


@pytest.mark.parametrize(
    "x", [numbers(4, 4), torch.arange(4), torch.tensor(1.0), torch.zeros(0, 0), torch.full((3, 3), torch.nan)]
)
def test_no_property(x: Tensor) -> None:
    assert property_of(x) is None


class LogDeterminant(torch.autograd.Function):
    """log det A of a positive definite matrix, by its Cholesky factor."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return 2 * torch.linalg.cholesky(a).diagonal(dim1=-2, dim2=-1).log().sum(-1)  # type: ignore[no-any-return]

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return cls.factor * grad_output[..., None, None] * torch.linalg.inv(a)  # type: ignore[no-any-return]


class WrongLogDeterminant(LogDeterminant):
    factor = 2.0


class Entropy(torch.autograd.Function):
    """Σ p log p, of a right gradient for Σ p = 1 alone."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, sign: float) -> Tensor:
        assert ((p.sum(-1) - 1).abs() < 1e-6).all(), "probabilities must sum to 1"
        ctx.save_for_backward(p)
        ctx.sign = sign
        return (p * p.log()).sum(-1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return ctx.sign * grad_output[..., None] * p.log(), None  # + 1 has no part along the simplex


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("constraint", ["psd", {"a": "psd"}, {"a": PROJECTIONS["psd"]}])
def test_a_function_of_positive_definite_matrices(constraint: Any, wrong: bool) -> None:
    function = WrongLogDeterminant if wrong else LogDeterminant
    sample = Sample((PROJECTIONS["psd"](numbers(3, 3)),), constraint=constraint)
    report = check_gradients(function, [sample], checks=("gradient", "linearity"))
    assert report.passed != wrong, str(report)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_function_of_probabilities(sign: float) -> None:
    sample = Sample((numbers(2, 3).softmax(-1), sign), constraint="simplex")
    report = check_gradients(Entropy, [sample], checks=("gradient", "linearity"))
    assert report.passed == (sign == 1), str(report)


@pytest.mark.parametrize("function", [torch.linalg.inv, torch.linalg.cholesky, lambda a: a @ a])
def test_variants_stay_in_the_set(function: Any) -> None:
    report = check_gradients(function, [Sample((PROJECTIONS["psd"](numbers(4, 4)),), constraint="psd")])
    assert report.passed, str(report)


def test_without_the_constraint_a_gradient_along_symmetric_matrices_is_right_with_a_remark() -> None:
    sample = (PROJECTIONS["psd"](numbers(3, 3)),)
    report = check_gradients(LogDeterminant, [sample], checks=("gradient",))
    assert report.passed
    assert report.remarks == (SYMMETRIC,)


def test_a_fixed_argument_may_be_constrained() -> None:
    sample = Sample((numbers(3).requires_grad_(), numbers(3)), constraint={"argument 1": "positive"})
    (call,) = as_calls(torch.mul, [sample])
    assert torch.equal(call.value(), numbers(3) * numbers(3).abs())


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("convex", "sample 0: constraint 'convex' must be a callable or one of symmetric, psd, simplex, unit"),
        ({"b": "psd"}, r"sample 0: constraint of 'b', which is not one of \['a'\]"),
        ({"a": "round"}, "sample 0: constraint 'round' must be a callable"),
    ],
)
def test_an_unknown_constraint_is_an_error(constraint: Any, message: str) -> None:
    with pytest.raises(CannotCheck, match=message):
        check_gradients(LogDeterminant, [Sample((torch.eye(3),), constraint=constraint)])
