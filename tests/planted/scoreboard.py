"""The scoreboard: how many planted bugs each checker catches, and how many false alarms it raises."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bp_torch import markdown
from bp_torch.gradients import Result, check_gradients
from planted import BASELINES, BUGS, CORRECT, Bug, CorrectFunction
from planted.baselines import LARGEST
from planted.bug import memory

OURS = "bp_torch.gradients"
PLANTED = "planted"
_CASES: tuple[Bug | CorrectFunction, ...] = (*BUGS, *CORRECT)
_Map = Callable[..., Iterable[Any]]
_INTRODUCTION = """\
# Planted bugs

This page compares gradient checkers on planted bugs: correct functions with a typical mistake in the backward, and
samples that were not chosen to expose it. It also counts false alarms on correct functions: PyTorch's own, and
hand-written ones in several styles, some of them in bfloat16 or float16, random, constrained or complex. A checker
catches a bug if it raises an alarm. All checkers run on the same samples: `gradcheck` and `gradgradcheck` in float64,
the others against PyTorch's function, or the same forward differentiated by autograd. An exception counts as an alarm:
`gradcheck` raises one for a kernel that takes no float64, and for a random function, whose numbers it does not replay.
For the baselines, nested arguments are unpacked, complex numbers become pairs, and constrained inputs are projected.
The last three need a reference, and `gradcheck`, except in fast mode, at most {largest} components; otherwise they
raise no alarm.

The bugs are in [tests/planted](../tests/planted), most of them one line each. This page is the output of
`python scripts/check_gradients.py --planted --seeds {seeds}`. bp_torch's checker must catch a bug with every seed, and
raise no false alarm with any seed. `gradcheck, in full` adds batched gradients, forward mode and `gradgradcheck`, which
raises an alarm on every function without a second derivative, correct or not: most of its false alarms, and of the bugs
that it catches in low precision and among the last seven kinds. `allclose, ones, float32` catches bugs of softmax by
chance: it compares zeros with rounding errors. The seconds are for one core.
"""


@dataclass(frozen=True)
class Score:
    """The score of a gradient checker.

    Attributes:
        checker: name of the checker.
        caught: names of the bugs it catches.
        alarms: names of the correct functions on which it raises an alarm.
        seconds: total running time.
    """

    checker: str
    caught: frozenset[str]
    alarms: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Scoreboard:
    """The scores of all checkers.

    Attributes:
        bugs: kind of each planted bug, by name.
        correct: number of correct functions.
        scores: the scores, bp_torch's first.
        seeds: number of seeds for bp_torch's checker.
    """

    bugs: Mapping[str, str]
    correct: int
    scores: tuple[Score, ...]
    seeds: int = 1

    @property
    def perfect(self) -> bool:
        """Whether bp_torch's checker catches every bug and raises no false alarm."""
        ours = self.scores[0]
        return not ours.alarms and ours.caught == self.bugs.keys()

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of planted bugs, and of those that each checker catches, by kind."""
        kinds: dict[str, set[str]] = {}
        for name, kind in self.bugs.items():
            kinds.setdefault(kind, set()).add(name)
        return {
            kind: {PLANTED: len(names), **{score.checker: len(names & score.caught) for score in self.scores}}
            for kind, names in kinds.items()
        }

    def table(self) -> str:
        """The table with a row per checker."""
        width = max(len(score.checker) for score in self.scores)
        headings = f"{'checker':<{width}}", f"caught of {len(self.bugs)}", f"false alarms of {self.correct}", "seconds"
        return markdown.table(
            headings,
            [
                (f"{s.checker:<{width}}", str(len(s.caught)), str(len(s.alarms)), f"{s.seconds:.1f}")
                for s in self.scores
            ],
        )

    def table_of_kinds(self) -> str:
        """The table with a row per kind of bug, and the number that each checker catches."""
        headings = "kind of bug", PLANTED, *(score.checker for score in self.scores)
        return markdown.table(headings, [(kind, *map(str, row.values())) for kind, row in self.counts.items()])

    def table_of_bugs(self) -> str:
        """The table with a row per bug, and the checkers that catch it."""
        headings = "kind", "bug", *(score.checker for score in self.scores)
        rows = [
            (kind, name.replace("|", r"\|"), *("caught" if name in score.caught else "–" for score in self.scores))
            for kind in self.counts
            for name in self.bugs
            if self.bugs[name] == kind
        ]
        return markdown.table(headings, rows)

    def page(self) -> Iterator[str]:
        """The parts of the page docs/planted-bugs.md."""
        introduction = _INTRODUCTION.format(seeds=self.seeds, largest=f"{LARGEST:,}")
        yield from (introduction, self.table(), "\n## Kind by kind\n", self.table_of_kinds())
        yield from ("\n## Bug by bug\n", self.table_of_bugs())


def scoreboard(seeds: Sequence[int] = (0,), mapping: _Map = map) -> Scoreboard:
    """Run every checker on every bug and correct function.

    Args:
        seeds: seeds for bp_torch's checker. A bug counts if caught with all of them, an alarm if raised with any.
        mapping: `map`, or the `map` of a process pool.
    """
    runs = list(product((OURS, *BASELINES), range(len(_CASES))))
    checkers, numbers = zip(*runs, strict=True)
    results = dict(zip(runs, mapping(_run, checkers, numbers, [seeds] * len(runs)), strict=True))
    scores = (_score(checker, [results[checker, i] for i in range(len(_CASES))]) for checker in (OURS, *BASELINES))
    return Scoreboard({bug.name: bug.kind for bug in BUGS}, len(CORRECT), tuple(scores), len(seeds))


def first_failure(case: Bug | CorrectFunction, seed: int = 0, *, with_reference: bool = True) -> Result | None:
    """The first failure that bp_torch's checker reports, if any."""
    memory.clear()
    reference = case.reference if with_reference else None
    report = check_gradients(case.function, case.samples, reference=reference, seed=seed, fail_fast=True)
    return next(iter(report.failures), None)


def _run(checker: str, number: int, seeds: Sequence[int]) -> tuple[list[bool], float]:
    """Whether a checker raises an alarm with each seed, and the seconds for the first seed."""
    memory.clear()
    case, start = _CASES[number], time.perf_counter()
    if checker != OURS:
        return [BASELINES[checker](case.function, case.reference, case.samples)], time.perf_counter() - start
    first = first_failure(case, seeds[0])
    seconds = time.perf_counter() - start
    return [failure is not None for failure in (first, *(first_failure(case, seed) for seed in seeds[1:]))], seconds


def _score(checker: str, results: list[tuple[list[bool], float]]) -> Score:
    alarms, seconds = zip(*results, strict=True)
    caught = (bug.name for bug, by_seed in zip(BUGS, alarms, strict=False) if all(by_seed))
    false = (case.name for case, by_seed in zip(CORRECT, alarms[len(BUGS) :], strict=True) if any(by_seed))
    return Score(checker, frozenset(caught), tuple(false), sum(seconds))
