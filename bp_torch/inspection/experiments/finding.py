"""What an experiment comes to: claims with what was measured of them, figures of merit, and a picture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True)
class Finding:
    """What one experiment found.

    Attributes:
        claims: what it measured.
        merits: its figures of merit, by name.
        figure: the picture of it.
        curves: figures that depend on a whole number, such as a mini-batch's size: name, number, figure.
    """

    claims: tuple[Claim, ...]
    merits: Mapping[str, float]
    figure: Figure
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
