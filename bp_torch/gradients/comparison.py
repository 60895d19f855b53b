"""The rule that separates a wrong gradient from rounding errors.

No gradient computed in floating point is exact, so the rule compares errors. The hand-written gradient must be about as
close to the truth, the same gradient in float64, as PyTorch's own:

    |hand − truth| ≤ 2 · max |builtin − truth| + k ε · max |truth|

for every component, with ε the machine epsilon of the dtype. The first term allows twice the error of the built-in
gradient at the same inputs. The second allows k = 8 roundings, for a built-in that happens to be exact. In float64 the
built-in gradient is the truth and its error is 0, so there k = 4096: agreement to 1e-12. The error of a wrong equation
is a fixed fraction of the gradient and exceeds both terms.

The built-in's error at one input is a single sample. If it is small by chance, a correct gradient fails; if it is too
large, a wrong gradient would pass, so the comparison is inconclusive. In both cases a caller can evaluate the gradients
again at slightly perturbed inputs. The largest error of the built-in over these evaluations is its *typical* error,
and the rule then uses that. A gradient smaller than the typical error, as of a saturated neuron, cannot be
distinguished from noise at these inputs. If rounding puts an activation on the other side of a kink than in float64,
both gradients differ from the truth alike: then it is enough that they agree with each other within the tolerance.

The same evaluations diagnose a failure. Rounding errors change with the inputs, the error of a wrong equation does not.
If the error disappears, the equation is wrong only at these inputs, as at a kink.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BUILTIN_ERROR_FACTOR = 2
ROUNDINGS = 8
ROUNDINGS_FLOAT64 = 4096
SAME_ERROR = 0.4
"""Projection above which the errors at perturbed inputs count as the original error."""
NO_ERROR = 0.1
"""Fraction of the original error below which the error at perturbed inputs counts as gone."""


@dataclass(frozen=True)
class Comparison:
    """A hand-written gradient compared with autograd's in the same dtype, and with the truth in float64."""

    name: str
    difference: float  # largest |hand − builtin|
    relative_difference: float  # ‖hand − builtin‖ / ‖builtin‖; 0 if both are zero
    cosine: float  # of the angle between hand and builtin; 1 if both are zero
    error: float  # largest |hand − truth|; infinite if only one of them is NaN
    builtin_error: float  # largest |builtin − truth|
    rounding: float  # ε · max |truth|, or ε · scale if that is larger
    roundings: int  # k, the number of roundings allowed
    dtype: str  # of the gradient, such as "float32"
    max_builtin_error: float
    """Largest `builtin_error` of a conclusive comparison, if no typical error is known: √ε · max |truth|, or the
    smallest normal number."""
    index: tuple[int, ...]  # index of the component with the largest error
    value: float  # the hand-written value at `index`
    expected: float  # the float64 value at `index`
    typical_error: float | None = None  # largest error of the built-in at perturbed inputs, if measured
    error_projection: float | None = None
    """Mean projection of the errors at perturbed inputs onto this error, if measured: 1 for a wrong equation, about 0
    for rounding."""
    error_size_ratio: float | None = None  # mean size of those errors, relative to this error

    @property
    def magnitude(self) -> float:
        """The size that relative errors refer to."""
        return self.rounding / torch.finfo(getattr(torch, self.dtype)).eps

    @property
    def reference_error(self) -> float:
        """The typical error of the built-in if it was measured, otherwise its error at these inputs."""
        return self.builtin_error if self.typical_error is None else self.typical_error

    @property
    def tolerance(self) -> float:
        """The largest error allowed."""
        return BUILTIN_ERROR_FACTOR * self.reference_error + self.roundings * self.rounding

    @property
    def conclusive(self) -> bool:
        """Whether the built-in is accurate enough to compare with."""
        if self.typical_error is None:
            return self.builtin_error <= self.max_builtin_error
        return math.isfinite(self.typical_error)

    @property
    def passed(self) -> bool:
        """Whether the comparison is conclusive and the error within the tolerance, or shared with the built-in."""
        return self.conclusive and (self.shared or self.error <= self.tolerance)

    @property
    def shared(self) -> bool:
        """Whether the built-in has the same error at these inputs, which is not typical of it."""
        return self.typical_error is not None and self.difference <= self.tolerance < self.builtin_error

    @property
    def diagnosis(self) -> str:
        """The verdict, as shown in reports."""
        if self.passed:
            return "agrees"
        if not self.conclusive:
            return "INCONCLUSIVE"
        if self.error_projection is None:
            return "WRONG"
        return "LOST TO ROUNDING" if self.lost_to_rounding else "WRONG EQUATION"

    @property
    def lost_to_rounding(self) -> bool:
        """Whether the error changes at perturbed inputs, as rounding errors do."""
        if self.error_projection is None or self.error_size_ratio is None:
            return False
        correlation = self.error_projection / max(1.0, self.error_size_ratio)
        return correlation <= SAME_ERROR and self.error_size_ratio > NO_ERROR

    @property
    def error_ratio(self) -> float:
        """The error relative to the built-in's, or to one rounding if that is larger: about 1 if correct."""
        unit, error = max(self.reference_error, self.rounding), self.difference if self.shared else self.error
        if error == unit:
            return 1.0 if unit else 0.0
        return error / unit if unit else math.inf

    def __str__(self) -> str:
        """One line: the index, both values, the error, and the terms of the tolerance."""
        return (
            f"{self.name}{list(self.index)}: {self.diagnosis}: hand-written {self.value:.9g}, "
            f"float64 {self.expected:.9g}, error {self.error:.3g}, tolerance {self._tolerance_terms}"
        )

    @property
    def details(self) -> str:
        """Several lines for a report, including the errors at perturbed inputs."""
        where = f"at {list(self.index)}: " if self.index else ""
        lines = [
            f"{where}hand-written {self.value:.9g}, expected {self.expected:.9g}",
            f"error {self.error:.3g}, allowed {self._tolerance_terms}",
        ]
        if self.error_projection is not None and self.error_size_ratio is not None:
            change = "disappears" if self.error_size_ratio <= NO_ERROR else "persists"
            lines.append(
                f"{self.diagnosis}: the error {'changes' if self.lost_to_rounding else change} at perturbed inputs: "
                f"relative size {self.error_size_ratio:.2g}, projection {self.error_projection:.2f}"
            )
        return "\n".join(lines)

    @property
    def _tolerance_terms(self) -> str:
        return (
            f"{self.tolerance:.3g} = {BUILTIN_ERROR_FACTOR} x reference's error {self.reference_error:.3g} + "
            f"{self.roundings} x rounding {self.rounding:.3g}"
        )


def compare(
    name: str,
    hand: Tensor,
    builtin: Tensor,
    truth: Tensor,
    *,
    typical_error: float | None = None,
    scale: float = 0.0,
) -> Comparison:
    """Compare one gradient by the rule.

    Args:
        name: the name of the gradient in messages.
        hand: the hand-written gradient, of any shape and floating-point dtype.
        builtin: the gradient by autograd through PyTorch's own functions, of the same shape and dtype.
        truth: the gradient by autograd in float64, of the same shape.
        typical_error: the largest error of the built-in at perturbed inputs; replaces its error at these inputs.
        scale: magnitude for the rounding term, if larger than max |truth|. A gradient may be small because a neuron is
            saturated or large terms cancel; its rounding errors are those of the larger terms.

    Raises:
        ValueError: if the shapes differ, or hand and builtin differ in dtype.
    """
    if not hand.shape == builtin.shape == truth.shape or hand.dtype != builtin.dtype:
        raise ValueError(
            f"{name}: cannot compare hand {hand.dtype} {tuple(hand.shape)}, builtin {builtin.dtype} "
            f"{tuple(builtin.shape)} and truth {tuple(truth.shape)}"
        )
    if not hand.numel():
        return compare(name, *[hand.new_zeros(())] * 3)
    exact = builtin is truth  # then its error is 0 and its difference from hand is the error of hand
    wide, truth = hand.detach().double(), truth.detach()
    wide_builtin = truth if exact else builtin.detach().double()
    errors = distance(wide, truth)
    largest, dtype = max(scale, truth.abs().nan_to_num(posinf=0).max().item()), torch.finfo(hand.dtype)
    error = errors.max().item()
    index = tuple((errors == error).nonzero()[0].tolist())
    return Comparison(
        name=name,
        difference=error if exact else distance(wide, wide_builtin).max().item(),
        **_direction(wide, wide_builtin),
        error=error,
        builtin_error=0.0 if exact else distance(wide_builtin, truth).max().item(),
        rounding=dtype.eps * largest,
        roundings=ROUNDINGS_FLOAT64 if hand.dtype == torch.float64 else ROUNDINGS,
        dtype=str(hand.dtype).removeprefix("torch."),
        max_builtin_error=max(math.sqrt(dtype.eps) * largest, dtype.tiny),
        index=index,
        value=wide[index].item(),
        expected=truth[index].item(),
        typical_error=typical_error,
    )


def distance(a: Tensor, b: Tensor) -> Tensor:
    """|a − b|; 0 where both are the same infinity or both NaN, infinite where only one is NaN."""
    difference = (a - b).abs()
    if math.isfinite(difference.sum().item()):
        return difference
    same = (a == b) | (a.isnan() & b.isnan())
    return torch.where(same, 0, difference.nan_to_num(nan=math.inf, posinf=math.inf))


def _direction(hand: Tensor, builtin: Tensor) -> dict[str, float]:
    if torch.equal(hand, builtin):
        return {"relative_difference": 0.0, "cosine": 1.0}
    a, b, difference = (torch.linalg.vector_norm(each).item() for each in (hand, builtin, hand - builtin))
    cosine = (hand * builtin).sum().item() / (a * b) if a * b else float(a == b)
    return {"relative_difference": difference / b if b else (0.0 if difference == 0 else math.inf), "cosine": cosine}
