"""The scoreboard: how many planted bugs each checker catches, and on how many right functions it raises an alarm."""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

from bp_torch.gradients import Score, Scoreboard, first_failure
from planted import BUGS, RIGHT, RIVALS, Bug, RightFunction
from planted.bug import memory

OURS = "bp_torch.gradients"
_CASES: tuple[Bug | RightFunction, ...] = (*BUGS, *RIGHT)
_Map = Callable[..., Iterable[Any]]


def scoreboard(seeds: Sequence[int] = (0,), mapping: _Map = map) -> Scoreboard:
    """Every checker's score.

    Args:
        seeds: those that bp_torch's checker is tried with: a bug counts if it is caught with all of them, an alarm if
            it is raised with any.
        mapping: `map`, or that of a pool of processes.
    """
    questions = list(product((OURS, *RIVALS), range(len(_CASES))))
    checkers, numbers = zip(*questions, strict=True)
    answers = dict(zip(questions, mapping(_ask, checkers, numbers, [seeds] * len(questions)), strict=True))
    scores = (_score(checker, [answers[checker, i] for i in range(len(_CASES))]) for checker in (OURS, *RIVALS))
    return Scoreboard({bug.name: bug.kind for bug in BUGS}, len(RIGHT), tuple(scores))


def finds(case: Bug | RightFunction, seed: int) -> bool:
    """Whether bp_torch's checker finds something wrong."""
    return first_failure(case.function, case.samples, reference=case.reference, seed=seed) is not None


def _ask(checker: str, number: int, seeds: Sequence[int]) -> tuple[list[bool], float]:
    """Whether a checker raises an alarm, seed by seed, and how long it took with the first."""
    memory.clear()
    case, began = _CASES[number], time.perf_counter()
    if checker != OURS:
        return [RIVALS[checker](case.function, case.reference, case.samples)], time.perf_counter() - began
    first = finds(case, seeds[0])
    seconds = time.perf_counter() - began
    return [first, *(finds(case, seed) for seed in seeds[1:])], seconds


def _score(checker: str, answers: list[tuple[list[bool], float]]) -> Score:
    alarms, seconds = zip(*answers, strict=True)
    caught = (bug.name for bug, found in zip(BUGS, alarms, strict=False) if all(found))
    false = (right.name for right, found in zip(RIGHT, alarms[len(BUGS) :], strict=True) if any(found))
    return Score(checker, frozenset(caught), tuple(false), sum(seconds))
