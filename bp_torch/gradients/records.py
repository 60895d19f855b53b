"""What a survey of the catalogue, and a comparison of checkers, report: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass

from bp_torch.gradients.report import Result
from bp_torch.gradients.verdict import Comparison


@dataclass(frozen=True)
class Accuracy:
    """How exact a function is in one dtype, over all samples, value and gradients.

    Attributes:
        dtype: its name.
        hand: the largest error against float64, in roundings ε · max |truth|.
        builtin: PyTorch's own; 0 in float64, where it is the truth.
        failed: the comparisons that did not pass.
    """

    dtype: str
    hand: float
    builtin: float
    failed: tuple[Comparison, ...]


@dataclass(frozen=True)
class Survey:
    """What became of one function of the catalogue.

    Attributes:
        function: its name.
        samples: how many it was examined on.
        asked: how many questions were asked of its gradients.
        failures: those with a wrong answer.
        not_offered: the checks it does not support.
        accuracies: how exact it is, a dtype after the other.
    """

    function: str
    samples: int
    asked: int
    failures: tuple[Result, ...]
    not_offered: tuple[str, ...]
    accuracies: tuple[Accuracy, ...]

    @property
    def wrong(self) -> tuple[Result | Comparison, ...]:
        """Everything that is wrong with it."""
        return (*self.failures, *(comparison for accuracy in self.accuracies for comparison in accuracy.failed))


@dataclass(frozen=True)
class Score:
    """What one gradient checker finds among planted bugs and right functions.

    Attributes:
        checker: its name.
        caught: the names of the bugs it catches.
        alarms: the names of the right functions it finds wrong.
        seconds: how long it took for all of them, one after the other.
    """

    checker: str
    caught: frozenset[str]
    alarms: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Scoreboard:
    """What every checker finds.

    Attributes:
        bugs: the kind of each planted bug, by the bug's name.
        right: how many right functions there are.
        scores: bp_torch's own first.
    """

    bugs: Mapping[str, str]
    right: int
    scores: tuple[Score, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind of bug, once."""
        return tuple(dict.fromkeys(self.bugs.values()))

    def of_kind(self, kind: str) -> frozenset[str]:
        """The names of the bugs of one kind."""
        return frozenset(name for name, its in self.bugs.items() if its == kind)

    @property
    def perfect(self) -> bool:
        """Whether bp_torch's own checker catches every bug and raises no false alarm."""
        ours = self.scores[0]
        return not ours.alarms and ours.caught == self.bugs.keys()
