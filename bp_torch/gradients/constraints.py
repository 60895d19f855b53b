"""Constraints of an input: differentiable projections onto sets of Tensors.

A constrained function is checked as f(P(x)), with P the projection: by the chain rule, its gradient is the part of
∂f/∂x along the set. Every check then changes x freely.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bp_torch.sample import Constraint

Projection = Callable[[Tensor], Tensor]


def symmetric(x: Tensor) -> Tensor:
    """The symmetric part of square matrices."""
    return (x + x.mT) / 2


def psd(x: Tensor) -> Tensor:
    """The symmetric part, plus a multiple of the identity if that is not positive definite."""
    part = symmetric(x)
    if not part.numel():
        return part
    with torch.no_grad():
        low, *_, high = torch.linalg.eigvalsh(part).movedim(-1, 0) if x.shape[-1] > 1 else 2 * [part[..., 0, 0]]
        shift = torch.where(low > 1e-6 * high.abs(), 0, 0.1 * high.abs() - low)
    return part + shift[..., None, None] * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def simplex(x: Tensor) -> Tensor:
    """Absolute values, divided by their sum along the last dimension."""
    return torch.div(x.abs(), x.abs().sum(-1, keepdim=True))


def unit(x: Tensor) -> Tensor:
    """Vectors along the last dimension, divided by their norm."""
    return torch.nn.functional.normalize(x, dim=-1)


def ascending(x: Tensor) -> Tensor:
    """The values along the last dimension in ascending order."""
    return x.sort(-1).values


def orthogonal(x: Tensor) -> Tensor:
    """The orthogonal factor of x = QR, with a positive diagonal of R."""
    q, r = torch.linalg.qr(x)
    return torch.mul(q, r.detach().diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2))


PROJECTIONS: Mapping[str, Projection] = {
    "symmetric": symmetric,
    "psd": psd,
    "simplex": simplex,
    "unit": unit,
    "sorted": ascending,
    "positive": torch.abs,
    "orthogonal": orthogonal,
}


def projection(constraint: Constraint) -> Projection:
    """The projection of a constraint.

    Raises:
        ValueError: if it is neither callable nor one of `PROJECTIONS`.
    """
    if callable(constraint):
        return constraint
    if not isinstance(constraint, str) or constraint not in PROJECTIONS:
        raise ValueError(f"constraint {constraint!r} must be a callable or one of {', '.join(PROJECTIONS)}")
    return PROJECTIONS[constraint]
