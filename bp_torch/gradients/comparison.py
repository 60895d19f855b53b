"""The rule that tells a wrong gradient from rounding.

A gradient computed in a dtype is never exact. So the rule does not ask whether it equals PyTorch's, but whether it is
as close to the truth, the same gradient in float64, as PyTorch's own:

    |hand − truth| ≤ 2 · max |builtin − truth| + k ε · max |truth|

for every component, with ε the dtype's rounding unit. The first term grants the hand-written gradient the error of the
built-in one on the same numbers; the second, k = 8 roundings where the built-in happens to be exact. In float64 the
built-in is the truth and shows no error, so k = 4096 there: agreement to 1e-12. A wrong equation misses by a fixed
fraction of the gradient and exceeds both.

The built-in's error on one set of numbers is a single draw. It may be small by luck, and then a right gradient looks
wrong; or so large that a wrong gradient would pass. Neither passes as it stands. A caller that can evaluate the
gradients again, at slightly perturbed numbers, measures the built-in's *typical* error, its largest over these
evaluations; the rule then grants twice that instead. A gradient smaller than the typical error, as of a saturated
neuron, cannot be distinguished from noise, nor from its negative; at another step it can.

The same perturbed numbers diagnose a gradient that fails. Rounding errors change: another error of the same size. The
error of a wrong equation stays; or, if only these very numbers are treated wrongly, as at a kink, it is gone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BUILTIN_ERRORS_GRANTED = 2
ROUNDINGS_GRANTED = 8
ROUNDINGS_GRANTED_FLOAT64 = 4096
SAME_ERROR = 0.4
"""Errors at perturbed numbers that project onto the original error by more than this are the same error."""
NO_ERROR = 0.1
"""Below this fraction of the original's size the error is gone."""


@dataclass(frozen=True)
class Comparison:
    """One hand-written gradient beside autograd's own, in the same dtype, and the truth in float64."""

    name: str
    difference: float  # largest |hand − builtin|
    relative_difference: float  # ‖hand − builtin‖ / ‖builtin‖; 0 where both are zero
    cosine: float  # of the angle between hand and builtin; 1 where both are zero
    error: float  # largest |hand − truth|, infinite where one is NaN and the other not
    builtin_error: float  # largest |builtin − truth|
    rounding: float  # of the largest component: ε · max |truth|, or ε · scale where a larger scale was given
    roundings: int  # how many of them are granted: k
    credible: float
    """√ε · max |truth|, or the smallest normal number: with a larger error the built-in proves nothing, unless that
    error is known to be typical."""
    index: tuple[int, ...]  # where `error` was found
    value: float  # the hand-written component there
    expected: float  # the float64 component there
    typical_error: float | None = None  # the built-in's largest over perturbed numbers, where it was measured
    error_projection: float | None = None
    """Mean projection of the errors at perturbed numbers onto the error here, where that was measured: 1 for a wrong
    equation, about 0 for rounding."""
    error_size_ratio: float | None = None  # mean size of those errors, in units of the error here

    @property
    def granted_error(self) -> float:
        """The built-in's error: its typical one, where that is known."""
        return self.builtin_error if self.typical_error is None else self.typical_error

    @property
    def tolerance(self) -> float:
        """The error this gradient may have."""
        return BUILTIN_ERRORS_GRANTED * self.granted_error + self.roundings * self.rounding

    @property
    def conclusive(self) -> bool:
        """Whether the built-in is near enough to the truth for a comparison."""
        if self.typical_error is None:
            return self.builtin_error <= self.credible
        return math.isfinite(self.typical_error)

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance of a conclusive comparison; NaN is where the truth is NaN."""
        return self.conclusive and self.error <= self.tolerance

    @property
    def diagnosis(self) -> str:
        """What was found, in a word or two."""
        if self.passed:
            return "agrees"
        if not self.conclusive:
            return "INCONCLUSIVE"
        if self.error_projection is None:
            return "WRONG"
        return "LOST TO ROUNDING" if self.lost_to_rounding else "WRONG EQUATION"

    @property
    def lost_to_rounding(self) -> bool:
        """Whether the error is another one at perturbed numbers, unlike that of a wrong equation."""
        if self.error_projection is None or self.error_size_ratio is None:
            return False
        return self.error_projection <= SAME_ERROR and self.error_size_ratio > NO_ERROR

    @property
    def error_ratio(self) -> float:
        """The error in units of the built-in's own, or of one rounding where that is larger: about 1 if right."""
        unit = max(self.granted_error, self.rounding)
        if self.error == unit:
            return 1.0 if unit else 0.0
        return self.error / unit if unit else math.inf

    def __str__(self) -> str:
        """One line that says everything: where, both values, and what the tolerance is made of."""
        return (
            f"{self.name}{list(self.index)}: {self.diagnosis}: hand-written {self.value:.9g}, "
            f"float64 {self.expected:.9g}, error {self.error:.3g}, tolerance {self._tolerance_terms}"
        )

    @property
    def details(self) -> str:
        """The same over several lines, for a report, with what was found at perturbed numbers."""
        where = f"at {list(self.index)}: " if self.index else ""
        lines = [
            f"{where}hand-written {self.value:.9g}, expected {self.expected:.9g}",
            f"error {self.error:.3g}, allowed {self._tolerance_terms}",
        ]
        if self.error_projection is not None:
            lines.append(
                f"{self.diagnosis}: at perturbed numbers the error is {self.error_size_ratio:.2g} times as large, and "
                f"{self.error_projection:.2f} of it is the same"
            )
        return "\n".join(lines)

    @property
    def _tolerance_terms(self) -> str:
        return (
            f"{self.tolerance:.3g} = {BUILTIN_ERRORS_GRANTED} x reference's error {self.granted_error:.3g} + "
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
        name: what to call it in a message.
        hand: the hand-written gradient, of any shape and float dtype.
        builtin: autograd's through PyTorch's own functions, of the same shape and dtype.
        truth: autograd's in float64, of the same shape.
        typical_error: the built-in's largest error over perturbed numbers, granted instead of the one seen here.
        scale: the size this gradient has elsewhere, if it is larger there: where it vanishes here, because a neuron is
            saturated or large terms cancel, nothing can be exact to a rounding of what is left.

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
    known = builtin is truth  # it has no error then, and hand is as far from the one as from the other
    wide, truth = hand.detach().double(), truth.detach()
    wide_builtin = truth if known else builtin.detach().double()
    errors = distance(wide, truth)
    largest, dtype = max(scale, truth.abs().nan_to_num(posinf=0).max().item()), torch.finfo(hand.dtype)
    error = errors.max().item()
    index = tuple((errors == error).nonzero()[0].tolist())
    return Comparison(
        name=name,
        difference=error if known else distance(wide, wide_builtin).max().item(),
        **_direction(wide, wide_builtin),
        error=error,
        builtin_error=0.0 if known else distance(wide_builtin, truth).max().item(),
        rounding=dtype.eps * largest,
        roundings=ROUNDINGS_GRANTED_FLOAT64 if hand.dtype == torch.float64 else ROUNDINGS_GRANTED,
        credible=max(math.sqrt(dtype.eps) * largest, dtype.tiny),
        index=index,
        value=wide[index].item(),
        expected=truth[index].item(),
        typical_error=typical_error,
    )


def distance(a: Tensor, b: Tensor) -> Tensor:
    """|a − b|; 0 where both are the same infinity or both NaN, infinite where only one is NaN."""
    apart = (a - b).abs()
    if math.isfinite(apart.sum().item()):
        return apart  # and so is every number
    same = (a == b) | (a.isnan() & b.isnan())
    return torch.where(same, 0, apart.nan_to_num(nan=math.inf, posinf=math.inf))


def _direction(hand: Tensor, builtin: Tensor) -> dict[str, float]:
    if torch.equal(hand, builtin):
        return {"relative_difference": 0.0, "cosine": 1.0}
    a, b, apart = (torch.linalg.vector_norm(each).item() for each in (hand, builtin, hand - builtin))
    cosine = (hand * builtin).sum().item() / (a * b) if a * b else float(a == b)
    return {"relative_difference": apart / b if b else (0.0 if apart == 0 else math.inf), "cosine": cosine}
