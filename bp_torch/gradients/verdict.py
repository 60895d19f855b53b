"""The rule that tells a wrong gradient from rounding.

A gradient computed in a dtype is never exact, so the question is not whether it equals PyTorch's, but whether it is as
close to the truth as PyTorch's own. The truth is the same gradient in float64:

    |hand − truth| ≤ 2 · max |builtin − truth| + k ε · max |truth|

for every component, with ε the dtype's rounding unit. The first term grants the hand-written gradient the error that
the built-in one makes on the very same numbers; the second, k = 8 roundings where the built-in happens to be exact.
In float64 itself the built-in is the truth and has no error to show, so k = 4096 there: agreement to 1e-12.
A wrong equation misses by a fixed fraction of the gradient and cannot hide in either.

The built-in's error on one set of numbers is a single draw: it may be lucky, and then a right gradient looks wrong; or
it may be so large that the judge itself is in doubt, and then a wrong one would look right. Both are seen: neither
passes as it stands. Anyone who can compute the gradients again gives the built-in's *typical* error, the largest over
numbers nudged a little, and the rule then grants twice that instead. A gradient smaller than that typical error, as of
a saturated neuron, cannot be told from noise, nor from its negative; at another step it can.

The same nudged numbers tell what is wrong with a gradient that fails. Rounding errors are drawn anew: another error,
of the same size. That of a wrong equation stays what it was; or, if only these very numbers are treated wrongly, as at
a kink, it is gone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BUILTIN_ERRORS_GRANTED = 2
ROUNDINGS_GRANTED = 8
ROUNDINGS_GRANTED_FLOAT64 = 4096
SAME_ERROR = 0.4
"""So much of the error here in those at nudged numbers, and it is the same error;"""
NO_ERROR = 0.1
"""so small a part of its size, and it is gone."""


@dataclass(frozen=True)
class Comparison:
    """One hand-written gradient beside autograd's own, in the same dtype, and the truth in float64."""

    name: str
    difference: float
    """Largest |hand − builtin|."""
    relative_difference: float
    """‖hand − builtin‖ / ‖builtin‖; 0 where both are zero."""
    cosine: float
    """Of the angle between hand and builtin; 1 where both are zero."""
    error: float
    """Largest |hand − truth|, infinite where one is NaN and the other not."""
    builtin_error: float
    """Largest |builtin − truth|."""
    rounding: float
    """ε · max |truth|, or ε · scale where a larger scale was given: one rounding of the largest component."""
    roundings: int
    """How many of them are granted: k."""
    credible: float
    """√ε · max |truth|, or the smallest normal number: with a larger error the built-in is no judge, unless that error
    is known to be typical."""
    typical_error: float | None
    """The built-in's largest error over nudged numbers, where it was measured."""
    repeats: float | None
    """How much of the error here is in those at nudged numbers, where that was measured: 1 for a wrong equation, about
    0 for rounding."""
    remains: float | None
    """Their size, in units of the error's here."""
    index: tuple[int, ...]
    """Where `error` was found."""
    value: float
    """The hand-written component there."""
    expected: float
    """The float64 component there."""

    @property
    def granted_error(self) -> float:
        """The built-in's error: its typical one, where that is known."""
        return self.builtin_error if self.typical_error is None else self.typical_error

    @property
    def tolerance(self) -> float:
        """The error this gradient may have."""
        return BUILTIN_ERRORS_GRANTED * self.granted_error + self.roundings * self.rounding

    @property
    def judged(self) -> bool:
        """Whether the built-in is near enough to the truth to be a judge."""
        if self.typical_error is None:
            return self.builtin_error <= self.credible
        return math.isfinite(self.typical_error)

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance of a judge that can be trusted; NaN is where the truth is NaN."""
        return self.judged and self.error <= self.tolerance

    @property
    def nature(self) -> str:
        """What was found, in a word or two."""
        if self.passed:
            return "agrees"
        if not self.judged:
            return "CANNOT BE JUDGED"
        if self.repeats is None:
            return "WRONG"
        return "LOST TO ROUNDING" if self.lost_to_rounding else "WRONG EQUATION"

    @property
    def lost_to_rounding(self) -> bool:
        """Whether the error is known to be drawn anew at nudged numbers, as no wrong equation's is."""
        if self.repeats is None or self.remains is None:
            return False
        return self.repeats <= SAME_ERROR and self.remains > NO_ERROR

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
            f"{self.name}{list(self.index)}: {self.nature}: hand-written {self.value:.9g}, "
            f"float64 {self.expected:.9g}, error {self.error:.3g}, tolerance {self.tolerance_in_words}"
        )

    @property
    def tolerance_in_words(self) -> str:
        """The tolerance and what it is made of."""
        return (
            f"{self.tolerance:.3g} = {BUILTIN_ERRORS_GRANTED} x judge's error {self.granted_error:.3g} + "
            f"{self.roundings} x rounding {self.rounding:.3g}"
        )


def compare(
    name: str,
    hand: Tensor,
    builtin: Tensor,
    truth: Tensor,
    *,
    typical_error: float | None = None,
    repeats: float | None = None,
    remains: float | None = None,
    scale: float = 0.0,
) -> Comparison:
    """Compare one gradient by the rule.

    Args:
        name: what to call it in a message.
        hand: the hand-written gradient, of any shape and float dtype.
        builtin: autograd's through PyTorch's own functions, of the same shape and dtype.
        truth: autograd's in float64, of the same shape.
        typical_error: the built-in's largest error over nudged numbers, to be granted instead of the one seen here.
        repeats: how much of the error here is in those there.
        remains: how large those are, in units of it.
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
    known = builtin is truth  # it has no error then, and hand is as far from the one as from the other
    wide, truth = hand.detach().double(), truth.detach()
    wide_builtin = truth if known else builtin.detach().double()
    if not hand.numel():
        return Comparison(name, 0, 0, 1, 0, 0, 0, 0, 0, typical_error, repeats, remains, (), 0, 0)
    errors = distance(wide, truth)
    largest, dtype = max(scale, truth.abs().nan_to_num(posinf=0).max().item()), torch.finfo(hand.dtype)
    worst = int(errors.argmax())
    error = errors.flatten()[worst].item()
    return Comparison(
        name=name,
        difference=error if known else distance(wide, wide_builtin).max().item(),
        **_direction(wide, wide_builtin),
        error=error,
        builtin_error=0.0 if known else distance(wide_builtin, truth).max().item(),
        rounding=dtype.eps * largest,
        roundings=ROUNDINGS_GRANTED_FLOAT64 if hand.dtype == torch.float64 else ROUNDINGS_GRANTED,
        credible=max(math.sqrt(dtype.eps) * largest, dtype.tiny),
        typical_error=typical_error,
        repeats=repeats,
        remains=remains,
        index=_unravel(worst, tuple(hand.shape)),
        value=wide.flatten()[worst].item(),
        expected=truth.flatten()[worst].item(),
    )


def distance(a: Tensor, b: Tensor) -> Tensor:
    """|a − b|; 0 where both are the same infinity or both NaN, infinite where only one is NaN."""
    apart = (a - b).abs()
    if math.isfinite(apart.sum().item()):
        return apart  # and so is every number
    same = (a == b) | (a.isnan() & b.isnan())
    return torch.where(same, 0, apart.nan_to_num(nan=math.inf, posinf=math.inf))


def _direction(hand: Tensor, builtin: Tensor) -> dict[str, float]:
    a, b = torch.linalg.vector_norm(hand).item(), torch.linalg.vector_norm(builtin).item()
    apart = torch.linalg.vector_norm(hand - builtin).item()
    cosine = (hand * builtin).sum().item() / (a * b) if a * b else float(a == b)
    return {"relative_difference": apart / b if b else (0.0 if apart == 0 else math.inf), "cosine": cosine}


def _unravel(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index = []
    for size in reversed(shape):
        position, place = divmod(position, size)
        index.append(place)
    return tuple(reversed(index))
