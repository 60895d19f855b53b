"""Systematic errors in low precision: what the largest error alone does not show.

A component in bfloat16 is off by up to 0.4 %, so one component says little about a gradient that is 2 % too large. Many
do. With h the hand-written gradient, t the truth in float64, the regression of h on t through 0 has

    slope  b = Σ h t / Σ t²,   standard error  s = √(Σ r² t²) / Σ t²,   residuals  r = h − b t.

Rounding errors are independent, so b − 1 is within a few s. A rounded constant, an accumulator that stops growing or
truncation moves b; a rounded statistic moves the b of single rows or columns. A difference taken in low precision has
large errors where it is small, so each quarter of the components by size is examined too. All are compared with the
reference's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

MIN_COMPONENTS = 32
"""Smallest number of components of a population."""
MIN_GROUP = 8
"""Smallest number of components that determine a slope, and smallest number of rows or columns."""
STANDARD_ERRORS = 8
"""Number of standard errors that the slope may differ from 1."""
REFERENCE_FACTOR = 3
"""Allowed multiple of the reference's deviation."""
RELATIVE_ERROR = 4
"""Allowed error of components of about one size, in machine epsilons, if the reference's is REFERENCE_RATIO smaller."""
REFERENCE_RATIO = 8


@dataclass(frozen=True)
class Regression:
    """Hand-written components regressed on the truth."""

    slope: Tensor  # one number, or one for each row
    standard_error: Tensor

    @property
    def deviation(self) -> float:
        """Root mean square of slope − 1."""
        return (self.slope - 1).square().mean().sqrt().item()

    @property
    def excess(self) -> float:
        """The same in standard errors: about 1 for independent errors."""
        return ((self.slope - 1) / self.standard_error.clamp_min(1e-300)).square().mean().sqrt().item()


def regression(hand: Tensor, truth: Tensor) -> Regression:
    """Regress each row of a matrix on the same row of the truth."""
    square = truth.square().sum(-1)
    slope = (hand * truth).sum(-1) / square
    residual = hand - slope.unsqueeze(-1) * truth
    return Regression(slope, (residual * truth).square().sum(-1).sqrt() / square)


def systematic_error(hand: Tensor, reference: Tensor | None, truth: Tensor, eps: float, scale: float) -> str:
    """Describe how a gradient deviates from the truth beyond independent rounding errors; empty if it does not.

    Args:
        hand: the hand-written gradient.
        reference: the reference's, in the same dtype; None without a reference.
        truth: the gradient in float64.
        eps: the machine epsilon of the lowest precision in the call.
        scale: the magnitude of the terms of the gradient; where they cancel, only noise is left.
    """
    hand, truth = hand.detach().double(), truth.detach().double()
    reference = None if reference is None else reference.detach().double()
    finite = bool(hand.isfinite().all() and truth.isfinite().all())
    if hand.numel() < MIN_COMPONENTS or not finite or truth.abs().max() <= 16 * eps * scale:
        return ""
    return next(_findings(hand, reference, truth, eps, scale), "")


def _findings(hand: Tensor, reference: Tensor | None, truth: Tensor, eps: float, scale: float) -> Iterator[str]:
    yield from _size(hand, reference, truth, eps, scale)
    if reference is not None:
        yield from _by_size(hand, reference, truth, eps)
    for name, rows in _groups(truth, 16 * eps * scale):
        if reference is None and name in ("the rows", "the columns"):
            continue  # a component on the other side of a kink moves its row
        ours = regression(rows(hand), rows(truth))
        theirs = None if reference is None else regression(rows(reference), rows(truth))
        its_deviation, its_excess = (theirs.deviation, theirs.excess) if theirs else (0.0, 0.0)
        significant = ours.excess > max(STANDARD_ERRORS / len(ours.slope) ** 0.5 + 2, REFERENCE_FACTOR * its_excess)
        least = eps / (8 if len(ours.slope) == 1 else 16) if reference is not None else eps
        if significant and ours.deviation > REFERENCE_FACTOR * its_deviation + least:
            yield _description(name, ours, theirs)


def _description(name: str, ours: Regression, theirs: Regression | None) -> str:
    if len(ours.slope) == 1:
        change = 100 * (ours.slope.item() - 1)
        size = "large" if change > 0 else "small"
        text = f"{name} are {abs(change):.2g} % too {size} on average, {ours.excess:.0f} standard errors"
        other = f"{100 * abs(theirs.slope.item() - 1):.2g} %" if theirs else ""
    else:
        text = f"{name} are off by {100 * ours.deviation:.2g} % each, {ours.excess:.0f} standard errors"
        other = f"{100 * theirs.deviation:.2g} %" if theirs else ""
    return f"{text}; the reference's by {other}" if other else text


def _size(hand: Tensor, reference: Tensor | None, truth: Tensor, eps: float, scale: float) -> Iterator[str]:
    """The root mean square of the errors; two roundings make about 0.4 ε."""
    ours, size = (hand - truth).square().mean().sqrt().item(), truth.square().mean().sqrt().item()
    theirs = 0.0 if reference is None else (reference - truth).square().mean().sqrt().item()
    least = 16 * eps * scale if reference is None else eps * max(0.5 * size, 0.1 * scale)
    if ours > 2.5 * theirs and ours > least:
        yield f"errors of {100 * ours / size:.2g} % on average; the reference's are {100 * theirs / size:.2g} %"


def _by_size(hand: Tensor, reference: Tensor, truth: Tensor, eps: float) -> Iterator[str]:
    """The errors of each quarter of the components by size, relative to them, unless they almost vanish."""
    for quarter in truth.flatten().abs().argsort().chunk(4):
        t = truth.flatten()[quarter]
        size = t.square().mean().sqrt()
        if size <= eps**2 * truth.abs().max():
            continue
        ours, theirs = ((x.flatten()[quarter] - t).square().mean().sqrt() / size for x in (hand, reference))
        if ours > RELATIVE_ERROR * eps and ours > REFERENCE_RATIO * theirs:
            text = f"errors of {100 * ours:.2g} % in components of about {size:.2g}"
            yield f"{text}; the reference's are {100 * theirs:.2g} %"


def _groups(truth: Tensor, noise: float) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Ways to arrange the components in rows: all in one, the small ones, the rows, the columns."""
    small = truth.flatten().abs().argsort()[: truth.numel() // 2]
    arrangements: list[tuple[str, Callable[[Tensor], Tensor]]] = [
        ("the components", lambda x: x.reshape(1, -1)),
        ("the smaller components", lambda x: x.flatten()[small].unsqueeze(0)),
    ]
    if truth.dim() > 1:
        arrangements.append(("the rows", lambda x: x.flatten(1)))
        arrangements.append(("the columns", lambda x: x.movedim(-1, 0).flatten(1)))
    for name, arranged in arrangements:
        rows = arranged(truth)
        enough = (rows.abs().amax(1) > noise) & (_effective_size(rows) >= MIN_GROUP)
        if int(enough.sum()) >= (1 if len(rows) == 1 else MIN_GROUP):
            yield name, lambda x, arranged=arranged, enough=enough: arranged(x)[enough]  # type: ignore[misc]


def _effective_size(rows: Tensor) -> Tensor:
    """The number of components that a sum of squares depends on: (Σ t²)² / Σ t⁴."""
    square = (rows / rows.abs().amax(1, keepdim=True).clamp_min(1e-300)).square()
    return square.sum(1).square() / square.square().sum(1).clamp_min(1e-300)
