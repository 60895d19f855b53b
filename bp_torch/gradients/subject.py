"""What is examined: one sample of a function, with what every check needs to know of it."""

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call
from bp_torch.gradients.copies import Copy
from bp_torch.gradients.differences import signed, typical
from bp_torch.gradients.report import Result
from bp_torch.gradients.verdict import Comparison, compare

OUTPUT = "output"


@dataclass(frozen=True)
class Subject:
    """One sample of a function under examination.

    Attributes:
        sample: its number.
        call: the function and its arguments, in float64 if the function takes that.
        reference: what it is judged by; without one, by finite differences.
        generator: of every random number.
    """

    sample: int
    call: Call
    reference: Callable[..., Any] | None
    generator: torch.Generator

    @property
    def given(self) -> Copy:
        """The sample itself, among its copies."""
        return Copy("given", "as given", self.call)

    @cached_property
    def upstream(self) -> Tensor:
        """A random signed upstream gradient."""
        return self.signed(self.call.value())

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        """The hand-written gradients for it, which must be the same under all circumstances."""
        return self.call.pull(self.upstream)

    @cached_property
    def scales(self) -> Mapping[str, float]:
        """The size of the output and of each gradient: here, at inputs of ordinary size, or at random ones.

        Here they may vanish, because a neuron is saturated or terms cancel, but their rounding errors do not.
        """
        judge = self.call.of(self.reference or self.call.function)
        largest = _sizes(judge, self.upstream)
        for elsewhere in ([x / typical(x) for x in judge.inputs], [self.signed(x) for x in judge.inputs]):
            try:
                sizes = _sizes(judge.at(elsewhere), self.upstream)
            except Exception:  # whatever a function raises outside of its domain
                continue
            largest = {name: max(size, sizes[name]) for name, size in largest.items()}
        return largest

    def signed(self, like: Tensor) -> Tensor:
        """Random numbers of both signs, none near 0."""
        return signed(like, self.generator)

    def same(self, check: str, under: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[Result]:
        """Whether gradients are to rounding what they were under other circumstances."""
        return [
            self.result(check, self.given.under(under), _compared(name, tensor, expected[name], self.scales[name]))
            for name, tensor in found.items()
        ]

    def result(self, check: str, copy: Copy, comparison: Comparison, hint: str = "") -> Result:
        """The answer that a comparison gives."""
        ratio = comparison.error / comparison.tolerance if comparison.tolerance else math.inf
        return Result(
            check=check,
            sample=self.sample,
            kind=copy.kind,
            copy=copy.label,
            input=comparison.name,
            status="passed" if comparison.passed else "failed",
            ratio=ratio if comparison.error else 0.0,
            message="" if comparison.passed else in_words(comparison),
            hint=hint,
            comparison=comparison,
        )

    def failed(self, check: str, copy: Copy, message: str, *, input: str | None = None, hint: str = "") -> Result:
        """An answer that no comparison gave."""
        return Result(check, self.sample, copy.kind, copy.label, input, "failed", math.inf, message, hint)

    def passed(self, check: str, copy: Copy, *, input: str | None = None, ratio: float = 0.0) -> Result:
        """The same, in favour."""
        return Result(check, self.sample, copy.kind, copy.label, input, "passed", ratio)

    def raised(self, check: str, copy: Copy, error: Exception) -> Result:
        """An answer that is an exception."""
        return self.failed(check, copy, f"raised {first_line(error)}, {_place(error)}", hint=hints.of_error(error))

    def not_offered(self, check: str, copy: Copy, reason: str) -> Result:
        """No answer: the function does not support the question."""
        return Result(check, self.sample, copy.kind, copy.label, None, "not offered", message=reason)


def in_words(comparison: Comparison) -> str:
    """A failed comparison at length: where, both values, the tolerance and what it is made of, and what it is."""
    where = f"at {list(comparison.index)}: " if comparison.index else ""
    lines = [
        f"{where}hand-written {comparison.value:.9g}, expected {comparison.expected:.9g}",
        f"error {comparison.error:.3g}, allowed {comparison.tolerance_in_words}",
    ]
    if comparison.repeats is not None:
        cosine = f"a mean cosine of {comparison.repeats:.2f}"
        lines.append(f"{comparison.nature}: the error here and those at nudged numbers have {cosine}")
    return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _place(error: Exception) -> str:
    """Where it was raised, in whosever code that is."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.name} ({Path(frame.filename).name}, line {frame.lineno})"


def _compared(name: str, found: Tensor, expected: Tensor, scale: float) -> Comparison:
    return compare(name, found, expected, expected.double(), scale=scale)


def _sizes(call: Call, upstream: Tensor) -> dict[str, float]:
    return {name: _largest(tensor) for name, tensor in {**call.pull(upstream), OUTPUT: call.value()}.items()}


def _largest(tensor: Tensor) -> float:
    return tensor.abs().nan_to_num(nan=0, posinf=0).max().item() if tensor.numel() else 0.0
