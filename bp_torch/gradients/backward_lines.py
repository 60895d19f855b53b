"""Find the first wrong line of a hand-written backward.

The backward of a custom Function runs on the sample, and each value that a line assigns is recorded. Autograd, through
the reference or through the operations of the Function's own forward, computes the same gradient with other values:
the intermediates of the forward and the gradients with respect to them. An assigned value that is among these has a
*counterpart*. One without may still be right, as a term of a sum that autograd never forms. So two experiments follow:

* A line is *wrong* if the backward returns the right gradients once a value of autograd replaces the assigned one.
* A line is *right* if a right result needs it: after a small change of its value, a later value with a counterpart, or
  a gradient that was right, changes too.

The hint names the first wrong line, if each line that it depends on has a counterpart or is right; else there is none.
"""

import inspect
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from bp_torch.gradients.call import Call
from bp_torch.gradients.counterparts import (
    RTOL,
    alternatives,
    by_autograd,
    changed_slightly,
    close,
    is_among,
    is_variable,
)
from bp_torch.gradients.line_recorder import LineRecorder, Step
from bp_torch.gradients.source_lines import location
from bp_torch.gradients.tracing import custom_functions, seconds_of_gradient

MAX_COMPONENTS, MAX_SECONDS = 20_000, 0.6
LEAST = 1e-9
"""Difference relative to the largest gradient that counts as none."""
FIRST = "is the first whose value has no counterpart in the gradient by autograd (a guess)"
OTHER = "assigns the value of something else: with another value of autograd, the gradient is right (a guess)"


def first_wrong_line(call: Call, reference: Callable[..., Any] | None, upstream: Tensor) -> str:
    """A hint at the first wrong line of the backwards in a call; empty without a certain one.

    Args:
        call: the call of a function with a wrong gradient, in float64, or in float32 with a reference.
        reference: a function known to be correct, or None.
        upstream: the upstream gradient.
    """
    traced = sys.gettrace() is not None  # by a debugger, or to measure coverage
    if traced or call.dtype not in RTOL or sum(x.numel() for x in (*call.inputs, upstream)) > MAX_COMPONENTS:
        return ""
    try:
        return _Search(call, reference, upstream).hint()
    except Exception:  # a hint is never worth an error
        return ""


class _Search:
    """The experiments with one call."""

    def __init__(self, call: Call, reference: Callable[..., Any] | None, upstream: Tensor) -> None:
        """Run the backward once, and autograd."""
        self.call, self.upstream = call, upstream
        functions = custom_functions(call)
        self.codes = {inspect.unwrap(function.backward).__code__ for function in functions}
        if functions and seconds_of_gradient(call, upstream) > MAX_SECONDS / 20:
            raise TimeoutError
        self.deadline = time.thread_time() + MAX_SECONDS
        self.steps, self.gradients = self.run({})
        self.truth, self.known = by_autograd(call, functions, reference, upstream) if self.steps else ({}, [])
        self.deadline = time.thread_time() + MAX_SECONDS  # autograd's first recording is slow
        self.least = LEAST * max((x.abs().max().item() for x in self.truth.values()), default=0.0)
        self.changed: dict[int, tuple[set[int], set[str]]] = {}

    def run(self, changes: Mapping[int, Tensor]) -> tuple[list[Step], Mapping[str, Tensor]]:
        """The steps and gradients of the backward, with other values of some steps; none if it raises."""
        if time.thread_time() > self.deadline:
            raise TimeoutError
        try:
            with LineRecorder(self.codes, changes) as recorder:
                gradients = self.call.vjp(self.upstream)
        except Exception:  # a backward may reject other values
            return [], {}
        return recorder.steps, gradients

    def hint(self) -> str:
        """The hint; empty if no line is certain."""
        if not self.truth or not self.wrong(self.gradients) or any(step.value.is_complex() for step in self.steps):
            return ""
        assigned = {i for i, step in enumerate(self.steps) if step.name}
        first = next(filter(self.is_wrong, sorted(assigned & self.without_counterpart)), self._returned())
        if first is not None and not self.depends_on_right_lines(first):
            first = None
        others = (assigned if first is None else self.repeated) - self.without_counterpart
        other = next(filter(self.is_wrong, sorted(others)), None)
        if other is not None and self.depends_on_right_lines(other):
            return f"{location(self.steps[other])}, {OTHER}"
        return f"{location(self.steps[first])}, {FIRST}" if first is not None else ""

    def wrong(self, gradients: Mapping[str, Tensor]) -> set[str]:
        """The names of the wrong gradients."""
        return {name for name, truth in self.truth.items() if not close(gradients[name], truth, self.least)}

    @cached_property
    def without_counterpart(self) -> set[int]:
        """The steps whose value autograd does not compute."""
        return {i for i, step in enumerate(self.steps) if not is_among(step.value, self.known)}

    @cached_property
    def repeated(self) -> set[int]:
        """The steps that assign the value of another variable."""
        others = {i: [x for x in self.steps[:i] if x.name != step.name] for i, step in enumerate(self.steps)}
        return {i for i in others if self.steps[i].name and any(close(x.value, self.steps[i].value) for x in others[i])}

    def _returned(self) -> int | None:
        """The first wrong Tensor that is returned, unless a line assigned it, or there is no other line."""
        wrong = [self.gradients[name] for name in self.wrong(self.gradients)]
        assigned = [step.value for step in self.steps if step.name]
        for i, step in enumerate(self.steps):
            is_wrong = i in self.without_counterpart or any(close(x, step.value) for x in wrong)
            if not step.name and is_wrong and not any(close(x, step.value) for x in assigned):
                return i if any(each.line != step.line for each in self.steps) else None
        return None

    def is_wrong(self, i: int) -> bool:
        """Whether the gradients are right with a value of autograd in place of a step's."""
        value = self.steps[i].value
        if not is_variable(value) or not self.wrong(self.gradients) <= self.effects(i)[1]:
            return False
        results = (self.run({i: x})[1] for x in alternatives(value, self.known))
        return any(gradients and not self.wrong(gradients) for gradients in results)

    def depends_on_right_lines(self, i: int) -> bool:
        """Whether every step that a step depends on has a counterpart, or is right."""
        suspects = {j for j in self.without_counterpart | self.repeated if j < i}
        if not all(is_variable(self.steps[j].value) for j in suspects):
            return False  # what depends on an index is unknown
        return all(self.is_needed(j) for j in suspects if i in self.effects(j)[0])

    def is_needed(self, i: int) -> bool:
        """Whether a later value with a counterpart, or a right gradient, needs the value of a step."""
        steps, gradients = self.effects(i)
        return bool(steps - self.without_counterpart or gradients - self.wrong(self.gradients))

    def effects(self, i: int) -> tuple[set[int], set[str]]:
        """The later steps, and the gradients, that change with the value of a step."""
        if i not in self.changed:
            steps, gradients = self.run({i: changed_slightly(self.steps[i].value)})
            pairs = enumerate(zip(self.steps, steps, strict=False))
            changed = {j for j, (a, b) in pairs if j > i and not close(a.value, b.value)}
            names = {name for name, x in gradients.items() if not close(x, self.gradients[name], self.least)}
            self.changed[i] = changed, names
        return self.changed[i]
