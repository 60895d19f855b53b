"""What an experiment measured: claims with their numbers, metrics, and a figure."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from matplotlib.figure import Figure


class Claim(NamedTuple):
    """One statement, measured.

    It is of an equation if it is so for every network, unless a line of backpropagation is wrong; of a network if it
    might have come out otherwise.
    """

    statement: int  # its number in the lecture
    claim: str
    measured: str  # what was found, in numbers
    holds: bool
    of: Literal["equation", "network"]


CLAIM_HEADINGS: Final = ("", "claim", "measured", "holds", "of")


def claim_rows(claims: Iterable[Claim]) -> list[tuple[str, ...]]:
    """A row of cells for each claim, below `CLAIM_HEADINGS`."""
    return [(str(c.statement), c.claim, c.measured, "yes" if c.holds else "no", c.of) for c in claims]


class ExperimentResult(NamedTuple):
    """What one experiment found."""

    claims: tuple[Claim, ...]
    metrics: Mapping[str, float]  # single numbers, by name
    figure: Figure
    curves: Mapping[str, Mapping[int, float]] = {}  # name, whole number such as a mini-batch's size, value
