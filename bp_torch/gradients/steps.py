"""Steps that may crash: they run in a child process; after a crash, another process continues with the next step."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

from bp_torch.gradients.isolation import Crash, in_child
from bp_torch.gradients.report import NO_TIME

T = TypeVar("T")

MAX_CRASHES = 5
PATIENCE = 0.1
"""Seconds after which results are sent from a child process in the middle of a step."""


@dataclass(frozen=True)
class Step:
    """What comes next."""

    number: int = -1
    label: str = "the rest"
    is_defined: bool = True  # whether the function is called as it may be: if not, a crash can be the caller's fault
    repeats: bool = False  # whether another process would do the same again


@dataclass(frozen=True)
class Stop:
    """A step that did not end."""

    step: Step
    reason: str
    crashed: bool = False


Results = Callable[[int], Iterator[T | Step]]


def in_children(results: Results[T], deadline: float) -> Iterator[T | Stop]:
    """The results of numbered steps, and the steps that did not end.

    Args:
        results: the steps from a number on, each followed by its results.
        deadline: by `time.monotonic`.
    """
    step = Step()
    for _ in range(MAX_CRASHES):
        try:
            for item in chain.from_iterable(in_child(partial(_batches, results, step.number + 1), deadline)):
                if isinstance(item, Step):
                    step = item
                else:
                    yield item
            return
        except Crash as crash:
            yield Stop(step, str(crash), crashed=True)
            if step.repeats:
                return
        except TimeoutError:
            yield Stop(step, NO_TIME)
            return
    yield Stop(Step(), f"{MAX_CRASHES} crashes")


def _batches(results: Results[T], start: int) -> Iterator[list[T | Step]]:
    """The results together with the next step: a message to another process takes a while."""
    batch: list[T | Step] = []
    sent = time.monotonic()
    for item in results(start):
        batch.append(item)
        if isinstance(item, Step) or time.monotonic() > sent + PATIENCE:
            yield batch
            batch, sent = [], time.monotonic()
    yield batch
