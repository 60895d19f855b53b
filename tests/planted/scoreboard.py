"""The scoreboard: how many planted bugs each checker catches, and on how many right functions it raises an alarm."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bp_torch import markdown
from bp_torch.gradients import Result, check_gradients
from planted import BUGS, RIGHT, RIVALS, Bug, RightFunction
from planted.bug import memory

OURS = "bp_torch.gradients"
PLANTED = "planted"
_CASES: tuple[Bug | RightFunction, ...] = (*BUGS, *RIGHT)
_Map = Callable[..., Iterable[Any]]
_INTRODUCTION = """\
# Planted bugs

A gradient checker is worth what it finds. Here are wrong backwards as people write them, each planted in a function
that is otherwise right, with ordinary numbers as samples; and right functions, PyTorch's own and hand-written ones of
every make, on which an alarm is a false one. A checker catches a bug if it raises an alarm. Each is used as it is meant
to be, on the same samples: `gradcheck` and `gradgradcheck` in float64, the others against PyTorch's own function.

The bugs are in [tests/planted](../tests/planted), a line each. This page is what
`python scripts/check_gradients.py --planted --seeds {seeds}` prints: bp_torch's checker must catch a bug with every
seed and raise no false alarm with any. `gradcheck, in full` is all that torch.autograd has to check: batched gradients,
forward mode and `gradgradcheck` too, whose alarms are on right functions that offer no second derivative. What
`allclose, ones, float32` catches of softmax it catches by luck: it compares zeros with rounding errors. The seconds are
those of one core, to be compared with each other.
"""


@dataclass(frozen=True)
class Score:
    """What one gradient checker finds among planted bugs and right functions.

    Attributes:
        checker: its name.
        caught: the names of the bugs it catches.
        alarms: the names of the right functions it calls wrong.
        seconds: its running time for all of them together.
    """

    checker: str
    caught: frozenset[str]
    alarms: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Scoreboard:
    """The scores of all checkers.

    Attributes:
        bugs: the kind of each planted bug, by the bug's name.
        right: how many right functions there are.
        scores: bp_torch's own first.
        seeds: with how many seeds bp_torch's own checker was run.
    """

    bugs: Mapping[str, str]
    right: int
    scores: tuple[Score, ...]
    seeds: int = 1

    @property
    def perfect(self) -> bool:
        """Whether bp_torch's own checker catches every bug and raises no false alarm."""
        ours = self.scores[0]
        return not ours.alarms and ours.caught == self.bugs.keys()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """For each kind of bug, how many are planted and how many each checker catches."""
        kinds: dict[str, set[str]] = {}
        for name, kind in self.bugs.items():
            kinds.setdefault(kind, set()).add(name)
        return {
            kind: {PLANTED: len(names), **{score.checker: len(names & score.caught) for score in self.scores}}
            for kind, names in kinds.items()
        }

    def table(self) -> str:
        """A row for each checker."""
        width = max(len(score.checker) for score in self.scores)
        headings = f"{'checker':<{width}}", f"caught of {len(self.bugs)}", f"false alarms of {self.right}", "seconds"
        return markdown.table(
            headings,
            [
                (f"{s.checker:<{width}}", str(len(s.caught)), str(len(s.alarms)), f"{s.seconds:.1f}")
                for s in self.scores
            ],
        )

    def table_of_kinds(self) -> str:
        """A row for each kind of bug: how many of them each checker catches."""
        headings = "kind of bug", PLANTED, *(score.checker for score in self.scores)
        return markdown.table(headings, [(kind, *map(str, row.values())) for kind, row in self.counts.items()])

    def table_of_bugs(self) -> str:
        """A row for each bug: which checkers catch it."""
        headings = "kind", "bug", *(score.checker for score in self.scores)
        rows = [
            (kind, name.replace("|", r"\|"), *("caught" if name in score.caught else "–" for score in self.scores))
            for kind in self.counts
            for name in self.bugs
            if self.bugs[name] == kind
        ]
        return markdown.table(headings, rows)

    def page(self) -> Iterator[str]:
        """The page that is kept as docs/planted-bugs.md, part by part."""
        yield from (_INTRODUCTION.format(seeds=self.seeds), self.table(), "\n## Kind by kind\n", self.table_of_kinds())
        yield from ("\n## Bug by bug\n", self.table_of_bugs())


def scoreboard(seeds: Sequence[int] = (0,), mapping: _Map = map) -> Scoreboard:
    """Every checker's score.

    Args:
        seeds: for bp_torch's checker: a bug counts if it is caught with all of them, an alarm if it is raised with any.
        mapping: `map`, or that of a pool of processes.
    """
    runs = list(product((OURS, *RIVALS), range(len(_CASES))))
    checkers, numbers = zip(*runs, strict=True)
    answers = dict(zip(runs, mapping(_run, checkers, numbers, [seeds] * len(runs)), strict=True))
    scores = (_score(checker, [answers[checker, i] for i in range(len(_CASES))]) for checker in (OURS, *RIVALS))
    return Scoreboard({bug.name: bug.kind for bug in BUGS}, len(RIGHT), tuple(scores), len(seeds))


def first_failure(case: Bug | RightFunction, seed: int = 0, *, by_reference: bool = True) -> Result | None:
    """The first thing that bp_torch's checker finds wrong, if any."""
    memory.clear()
    reference = case.reference if by_reference else None
    report = check_gradients(case.function, case.samples, reference=reference, seed=seed, fail_fast=True)
    return next(iter(report.failures), None)


def _run(checker: str, number: int, seeds: Sequence[int]) -> tuple[list[bool], float]:
    """Whether a checker raises an alarm, seed by seed, and how long it took with the first."""
    memory.clear()
    case, began = _CASES[number], time.perf_counter()
    if checker != OURS:
        return [RIVALS[checker](case.function, case.reference, case.samples)], time.perf_counter() - began
    first = first_failure(case, seeds[0])
    seconds = time.perf_counter() - began
    return [found is not None for found in (first, *(first_failure(case, seed) for seed in seeds[1:]))], seconds


def _score(checker: str, answers: list[tuple[list[bool], float]]) -> Score:
    alarms, seconds = zip(*answers, strict=True)
    caught = (bug.name for bug, found in zip(BUGS, alarms, strict=False) if all(found))
    false = (right.name for right, found in zip(RIGHT, alarms[len(BUGS) :], strict=True) if any(found))
    return Score(checker, frozenset(caught), tuple(false), sum(seconds))
