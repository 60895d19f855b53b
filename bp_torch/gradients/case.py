"""A check case: one sample of the function under test, with the values that several checks share."""

import math
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, vjp
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.differences import random_like, rms
from bp_torch.gradients.report import Outcome, comparison_outcome, failed, first_line, left_out, unsupported
from bp_torch.gradients.tracing import has_custom_backward, trace
from bp_torch.gradients.variants import Variant

OUTPUT = "output"
AS_GIVEN = "as given"
"""The label of the unmodified sample."""
CALLS = 5
"""Largest number of calls to measure the time of one."""
MAX_SECONDS = 0.005
LARGEST = 1e150
"""Values above it, whose squares overflow, are outside the domain without a reference."""
PURPOSE = re.compile(r"\b(raise|assert)\b")
SLOWDOWN = 10
"""Variants are left out if a call takes longer than MAX_SECONDS, and this many times as long as for the sample."""
Outcomes = Iterator[tuple[Variant, Outcome]]
"""The results of a check: variants of the sample, each with its outcome."""


@dataclass(frozen=True)
class CheckCase:
    """One sample of a function under test."""

    sample: int  # its index in the list of samples
    call: Call  # the function and its arguments, in float64 if the function supports it
    given: Call  # the same in the dtypes of the sample
    reference: Callable[..., Any] | None  # a function known to be correct; None: use finite differences
    generator: torch.Generator  # source of all random numbers
    decides: bool = True  # whether finite differences decide between function and reference
    has_float64: bool = True  # whether the function computes in float64
    deadline: float = math.inf  # by time.monotonic, for long comparisons
    durations: dict[str, list[tuple[int, float]]] = field(default_factory=dict)  # by axis: sizes, seconds of a call

    @cached_property
    def as_given(self) -> Variant:
        """The unmodified sample, as a variant."""
        return Variant("given", AS_GIVEN, self.call)

    @property
    def oracle(self) -> Call:
        """The call of the reference, or of the function itself without a reference."""
        return self.call.of(self.reference or self.call.function)

    @cached_property
    def upstream(self) -> Tensor:
        """A random signed upstream gradient."""
        return self.random_like(self.as_given.value)

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        """The hand-written gradients for `upstream`."""
        return self.call.vjp(self.upstream)

    @cached_property
    def scales(self) -> Mapping[str, float]:
        """The magnitude of the output and of each gradient, from which tolerances for rounding are computed.

        The largest of three: at the sample, at inputs scaled to RMS 1, and at random inputs. At the sample a gradient
        can vanish, because a neuron is saturated or terms cancel, while its rounding errors remain. In float64, or
        without a reference, the magnitude is also at least that of a gradient without cancellation.
        """
        largest = _sizes(self.oracle, self.upstream)
        if self.call.dtype == torch.float64 or self.reference is None:
            largest = {name: max(size, self.scales_without_cancellation[name]) for name, size in largest.items()}
        for inputs in ([x / rms(x) for x in self.call.inputs], [self.random_like(x) for x in self.call.inputs]):
            try:
                sizes = _sizes(self.oracle.at(inputs), self.upstream)
            except Exception:  # outside the domain, a function may raise anything
                continue
            largest = {name: max(size, sizes[name]) for name, size in largest.items()}
        return largest

    @cached_property
    def scales_without_cancellation(self) -> Mapping[str, float]:
        """The magnitude of the output, and of each gradient if no terms cancelled: |g| |y| / |x|.

        Gradients that cancel for all inputs: those of a normalisation over two values, or of a bias before a
        normalisation.
        """
        return without_cancellation(self.call, self.as_given.value, self.upstream)

    def outside_reference(self, variant: Variant) -> Outcome | None:
        """Why a variant is not checked, before the function is called; None if it is."""
        if variant.reason:
            return left_out(variant.reason)
        if variant.kind == "index" and self.reference is None:
            return left_out("only a reference says whether indices may repeat")
        expected = _expected_seconds(self.durations.get(variant.axis, []), variant.size)
        if expected > max(MAX_SECONDS, SLOWDOWN * self.seconds):
            return left_out(f"one call would take {expected:.1g} s")
        if self.reference is not None and not self.in_domain(variant.call):
            return left_out("the reference is not finite, or raises")
        return None

    def _overflows(self, variant: Variant) -> bool:
        """Whether an intermediate of a function without a custom Function overflows, at scaled inputs only."""
        return self._is_plain and variant.kind == "scaled" and not trace(variant.call).is_finite

    @cached_property
    def _is_plain(self) -> bool:
        return not has_custom_backward(self.call) and trace(self.call).is_finite

    @cached_property
    def seconds(self) -> float:
        """The time of the quickest of a few calls: the first in a process is slow."""
        times: list[float] = []
        while len(times) < CALLS and sum(times) < MAX_SECONDS:
            start = time.perf_counter()
            self.call.value()
            times.append(time.perf_counter() - start)
        return min(times)

    def outside_domain(self, variant: Variant) -> Outcome | None:
        """Why a variant inside the domain of the reference is not checked; None if it is."""
        start = time.perf_counter()
        try:
            value, middle = variant.value, time.perf_counter()
            again = variant.call.value()
        except Exception as error:  # the function supports fewer inputs than its reference
            return unsupported(error)
        seconds = min(middle - start, time.perf_counter() - middle)  # a call may have waited for the processor
        self.durations.setdefault(variant.axis, []).append((variant.size, seconds))
        if seconds > max(MAX_SECONDS, SLOWDOWN * self.seconds):
            return left_out(f"one call takes more than {MAX_SECONDS} s")
        if self.reference is None and not max_finite(value) < LARGEST:
            return left_out("the value is not finite, or close to overflow")
        if self.reference is None and self._overflows(variant):
            return left_out("an intermediate value overflows")
        if not torch.allclose(value, again, rtol=1e-6, atol=0, equal_nan=True):
            return left_out("the value differs from call to call")
        return None

    def in_domain(self, call: Call) -> bool:
        """Whether the oracle returns a finite value for a call, and a reference finite gradients too."""
        oracle = call.of(self.oracle.function)
        try:
            if self.reference is None:
                return bool(oracle.value().isfinite().all())
            value, leaves = oracle.run()
            gradients = vjp(value, leaves, torch.ones_like(value))
        except Exception:  # outside the domain, a function may raise anything
            return False
        return all(bool(tensor.isfinite().all()) for tensor in (value, *gradients))

    def random_like(self, tensor: Tensor) -> Tensor:
        """Random numbers of both signs, not close to 0."""
        return random_like(tensor, self.generator)

    def compare(
        self, condition: str, actual: Mapping[str, Tensor], expected: Mapping[str, Tensor] | None = None
    ) -> Outcomes:
        """Compare Tensors computed under a condition with the expected ones, by default `gradients`."""
        variant = self.as_given.under(condition)
        for name, tensor in actual.items():
            truth = (self.gradients if expected is None else expected)[name]
            yield variant, comparison_outcome(compare(name, tensor, truth, truth.double(), scale=self.scales[name]))


def catch_errors(variant: Variant, outcomes: Outcomes) -> Outcomes:
    """Yield the outcomes; turn an exception, usually from hand-written code, into a failure at the variant."""
    try:
        yield from outcomes
    except Exception as error:
        yield variant, exception_outcome(error)


def is_refusal(error: Exception) -> bool:
    """Whether an exception was raised on purpose: by a `raise` or `assert`, a warning, or as not implemented."""
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return isinstance(error, NotImplementedError | Warning) or bool(PURPOSE.search(line))


def is_accident(error: Exception) -> bool:
    """Whether an exception is a programming error, such as a product with None."""
    return isinstance(error, TypeError | AttributeError | LookupError | NameError) and not is_refusal(error)


def exception_outcome(error: Exception) -> Outcome:
    """A failure caused by an exception, with the function and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    location = f"in {frame.name} ({Path(frame.filename).name}, line {frame.lineno})"
    return failed(f"raised {first_line(error)}, {location}", hint=hints.for_error(error))


def _expected_seconds(durations: list[tuple[int, float]], size: int) -> float:
    """The time of a call for a larger size, if it grows like the same power as between the last two, or linearly."""
    if len(durations) < 2 or size <= durations[-1][0]:
        return 0.0
    (small, quick), (large, slow) = durations[-2:]
    exponent = math.log(max(slow / quick, 1)) / math.log(large / small) if large > small else 1.0
    return float(slow * (size / large) ** max(1.0, exponent))


def without_cancellation(call: Call, value: Tensor, upstream: Tensor) -> dict[str, float]:
    """The magnitude of the output, and of each gradient: |g| |y| / |x|."""
    output = max_abs(value)
    product = output * max_abs(upstream)
    return {OUTPUT: output, **{name: product / rms(x) for name, x in call.by_name.items()}}


def max_finite(tensor: Tensor) -> float:
    """The largest absolute value; infinite or NaN if one is."""
    return tensor.abs().max().item() if tensor.numel() else 0.0


def max_abs(tensor: Tensor) -> float:
    """The largest absolute value among the finite components."""
    return tensor.abs().nan_to_num(nan=0, posinf=0).max().item() if tensor.numel() else 0.0


def _sizes(call: Call, upstream: Tensor) -> dict[str, float]:
    output, leaves = call.run()
    gradients = call.named(vjp(output, leaves, upstream))
    return {name: max_abs(tensor) for name, tensor in {**gradients, OUTPUT: output.detach()}.items()}
