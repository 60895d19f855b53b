"""What is examined: one sample of a function, with what every check needs to know of it."""

import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, pulled_back
from bp_torch.gradients.differences import signed, typical
from bp_torch.gradients.report import Result
from bp_torch.gradients.variants import Variant, variants
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
    def given(self) -> Variant:
        """The sample itself, among its variants."""
        return Variant("given", "as given", self.call)

    @property
    def judge(self) -> Call:
        """The call of the reference; of the function itself, if there is none."""
        return self.call.of(self.reference or self.call.function)

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

        Here they may vanish, because a neuron is saturated or terms cancel, but their rounding errors do not. Some
        cancel everywhere: in float64, where there are digits to spare, none counts as smaller than where nothing does.
        """
        largest = _sizes(self.judge, self.upstream)
        if self.call.dtype == torch.float64:
            largest = {name: max(size, self.uncancelled[name]) for name, size in largest.items()}
        for elsewhere in ([x / typical(x) for x in self.call.inputs], [self.signed(x) for x in self.call.inputs]):
            try:
                sizes = _sizes(self.judge.at(elsewhere), self.upstream)
            except Exception:  # whatever a function raises outside of its domain
                continue
            largest = {name: max(size, sizes[name]) for name, size in largest.items()}
        return largest

    @cached_property
    def uncancelled(self) -> Mapping[str, float]:
        """The size of the output, and of each gradient where no terms cancel: |g| |y| / |x|.

        They do, whatever the numbers, behind the normalisation of two, or where a normalisation takes a bias away.
        """
        output = largest_of(self.call.value())
        passed_on = output * largest_of(self.upstream)
        return {OUTPUT: output, **{name: passed_on / typical(x) for name, x in self.call.by_name.items()}}

    def signed(self, like: Tensor) -> Tensor:
        """Random numbers of both signs, none near 0."""
        return signed(like, self.generator)

    def variants(self, check: str, *kinds: str) -> Iterator[Variant | Result]:
        """The variants of some kinds where the judge is defined; where the function is not, a result that says so."""
        for variant in variants(self.call, self.generator):
            if variant.kind not in kinds or (self.reference is not None and not self.admits(variant.call)):
                continue
            try:
                value = variant.value
            except Exception as error:  # it takes less than its judge, or, without one, than might be expected
                yield self.not_offered(check, variant, f"raised {first_line(error)}")
                continue
            if self.reference is not None or value.isfinite().all():
                yield variant

    def admits(self, call: Call) -> bool:
        """Whether the judge is defined at a point: it raises nothing, and is finite; so is a reference's gradient."""
        judge = call.of(self.judge.function)
        try:
            if self.reference is None:
                return bool(judge.value().isfinite().all())
            value, leaves = judge.run()
            judged = pulled_back(value, leaves, torch.ones_like(value))
        except Exception:  # whatever a function raises outside of its domain
            return False
        return all(bool(found.isfinite().all()) for found in (value, *judged))

    def same(
        self, check: str, variant: Variant, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
    ) -> Iterator[Result]:
        """Whether gradients are to rounding what they were under other circumstances."""
        for name, tensor in found.items():
            wide = expected[name].double()
            yield self.result(check, variant, compare(name, tensor, expected[name], wide, scale=self.scales[name]))

    def result(self, check: str, variant: Variant, comparison: Comparison, hint: str = "") -> Result:
        """The answer that a comparison gives."""
        ratio = comparison.error / comparison.tolerance if comparison.tolerance else math.inf
        return Result(
            check=check,
            sample=self.sample,
            kind=variant.kind,
            variant=variant.label,
            input=comparison.name,
            status="passed" if comparison.passed else "failed",
            ratio=ratio if comparison.error else 0.0,
            message="" if comparison.passed else in_words(comparison),
            hint=hint,
            comparison=comparison,
        )

    def failed(self, check: str, variant: Variant, message: str, *, input: str | None = None, hint: str = "") -> Result:
        """An answer that no comparison gave."""
        return Result(check, self.sample, variant.kind, variant.label, input, "failed", math.inf, message, hint)

    def passed(self, check: str, variant: Variant, *, input: str | None = None, ratio: float = 0.0) -> Result:
        """The same, in favour."""
        return Result(check, self.sample, variant.kind, variant.label, input, "passed", ratio)

    def raised(self, check: str, variant: Variant, error: Exception) -> Result:
        """An answer that is an exception."""
        message = f"raised {first_line(error)}, {_place(error)}"
        return self.failed(check, variant, message, hint=hints.of_error(error))

    def not_offered(self, check: str, variant: Variant, reason: str) -> Result:
        """No answer: the function does not support the question."""
        return Result(check, self.sample, variant.kind, variant.label, None, "not offered", message=reason)


def in_words(comparison: Comparison) -> str:
    """A failed comparison at length: where, both values, the tolerance and what it is made of, and what it is."""
    where = f"at {list(comparison.index)}: " if comparison.index else ""
    lines = [
        f"{where}hand-written {comparison.value:.9g}, expected {comparison.expected:.9g}",
        f"error {comparison.error:.3g}, allowed {comparison.tolerance_in_words}",
    ]
    if comparison.repeats is not None and comparison.remains is not None:
        part, size = f"{comparison.repeats:.2f} of it is in theirs", f"of {comparison.remains:.2g} times its size"
        lines.append(f"{comparison.nature}: at nudged numbers are errors {size}, and {part}")
    return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _place(error: Exception) -> str:
    """Where it was raised, in whosever code that is."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.name} ({Path(frame.filename).name}, line {frame.lineno})"


def _sizes(call: Call, upstream: Tensor) -> dict[str, float]:
    output, leaves = call.run()
    found = dict(zip(call.by_name, pulled_back(output, leaves, upstream), strict=True))
    return {name: largest_of(tensor) for name, tensor in {**found, OUTPUT: output.detach()}.items()}


def largest_of(tensor: Tensor) -> float:
    """The size of the largest finite component."""
    return tensor.abs().nan_to_num(nan=0, posinf=0).max().item() if tensor.numel() else 0.0
