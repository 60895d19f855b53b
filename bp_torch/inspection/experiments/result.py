"""What an experiment measured: claims with their numbers, metrics, and a figure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Claim:
    """One statement, measured.

    Attributes:
        statement: its number in the lecture.
        claim: what is said.
        measured: what was found, in numbers.
        holds: whether they bear it out.
        of: 'equation' if it is so for every network, unless a line of backpropagation is wrong; 'network' if it might
            have come out otherwise.
    """

    statement: int
    claim: str
    measured: str
    holds: bool
    of: Literal["equation", "network"]


CLAIM_HEADINGS: Final = ("", "claim", "measured", "holds", "of")


def claim_rows(claims: Iterable[Claim]) -> list[tuple[str, ...]]:
    """A row of cells for each claim, below `CLAIM_HEADINGS`."""
    return [(str(c.statement), c.claim, c.measured, "yes" if c.holds else "no", c.of) for c in claims]


@dataclass(frozen=True)
class ExperimentResult:
    """What one experiment found.

    Attributes:
        claims: what it measured.
        metrics: single numbers, by name.
        figure: the picture of it.
        curves: numbers that depend on a whole number, such as a mini-batch's size: name, number, value.
    """

    claims: tuple[Claim, ...]
    metrics: Mapping[str, float]
    figure: Figure
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
