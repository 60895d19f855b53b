"""All checks of one sample, in their order."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch

from bp_torch.gradients.case import CheckCase, Outcomes
from bp_torch.gradients.checks import COMPOSITION, FIRST, PRECISION, REST, SMOOTH, VARIANTS, Check, VariantCheck
from bp_torch.gradients.checks.composition import load_compiler
from bp_torch.gradients.checks.invariants import NOT_REPEATABLE
from bp_torch.gradients.checks.precision import is_low, precision
from bp_torch.gradients.checks.transforms import load_transforms
from bp_torch.gradients.options import Options
from bp_torch.gradients.report import SECONDARY, Outcome, Result, failed, left_out
from bp_torch.gradients.run_check import result_of, run_check
from bp_torch.gradients.steps import Step, Stop, in_children
from bp_torch.gradients.tracing import has_custom_backward
from bp_torch.gradients.variants import Variant, variants

VERDICT = 0.5
"""Part of the time that must remain for further checks after a failure."""
CRASH = "CRASH: the function ended the process ({}): name the sizes that it takes by axes="


class SampleChecks:
    """The checks of one sample: what runs depends on what failed before."""

    def __init__(self, case: CheckCase, options: Options) -> None:
        """Begin with nothing checked."""
        self.case, self.options = case, options
        self.failed: set[str] = set()  # the names of checks that failed, and of those that passed
        self.passed: set[str] = set()
        now = time.monotonic()
        self.clear = now + (1 - VERDICT) * (case.deadline - now)  # when the verdict of a failure is clear

    def results(self) -> Iterator[Result]:
        """The results, as they come."""
        for name, check in FIRST.items():
            found = [*run_check(name, check, self.case, self.options)]
            if raises := name == "side effects" and any(map(_raises, found)):
                found = [replace(result, check="gradient") for result in found if _raises(result)]
            disputed = [result for result in found if result.status == "reference"]
            yield from disputed or found
            if disputed:  # the reference is wrong: start again without it
                yield from SampleChecks(replace(self.case, reference=None), self.options).results()
                return
            for result in found:
                self._record(result)
            if raises or any(result.hint == NOT_REPEATABLE for result in found):
                why = "the backward raises" if raises else "the gradient differs from call to call"
                yield self._left_out("the rest", why, found[0].check)
                return
            if name == "value" and self._wrong:
                self.case = replace(self.case, decides=False)
        yield from self._further()

    @property
    def _wrong(self) -> set[str]:
        """The failed checks that say that the gradient is wrong."""
        return self.failed - {*SECONDARY}

    def _record(self, result: Result) -> None:
        if result.status in ("passed", "failed"):
            (self.passed if result.status == "passed" else self.failed).add(result.check)

    def _further(self) -> Iterator[Result]:
        """The results of the steps after the first checks."""
        load_transforms()
        if "torch.compile" in self.options.selected and has_custom_backward(self.case.call):
            load_compiler()
        if not self.options.in_child:
            yield from (item for item in self._steps(0) if isinstance(item, Result))
            return
        for item in in_children(self._steps, self.case.deadline):
            result = self._stopped(item) if isinstance(item, Stop) else item
            self._record(result)
            yield result

    def _steps(self, start: int) -> Iterator[Result | Step]:
        """The steps from a number on, each with its results."""
        tasks = [*self._precision(), *self._checks(), *self._composition()]
        for number, (label, results) in enumerate(tasks):
            if number >= start:
                yield Step(number, label)
                for result in results:
                    self._record(result)
                    yield result
        if not self._wrong:
            yield from self._variants(len(tasks), start)

    def _precision(self) -> Iterator[tuple[str, Iterator[Result]]]:
        """The gradient in the sample's own dtypes, and in float32."""
        given = self.case.given
        narrow = {"float32": given.to(torch.float32)} if self.case.has_float64 else {}
        calls = {given.dtypes: given} | narrow
        for dtypes, call in calls.items():
            if dtypes not in ("float64", self.case.call.dtypes) or (is_low(call) and self.case.reference is not None):
                label = f"gradient in {dtypes}"
                yield label, run_check(PRECISION, precision, replace(self.case, call=call), self.options, label=label)

    def _checks(self) -> Iterator[tuple[str, Iterator[Result]]]:
        smooth = SMOOTH if self.case.as_given.value.isfinite().all() else {}
        for name, check in {**REST, **smooth}.items():
            yield name, self._unless_clear(name, check)

    def _composition(self) -> Iterator[tuple[str, Iterator[Result]]]:
        for name, check in COMPOSITION.items():
            yield name, self._unless_failed(name, check)

    def _unless_failed(self, name: str, check: Check) -> Iterator[Result]:
        if not self._wrong:
            yield from run_check(name, check, self.case, self.options)

    def _unless_clear(self, name: str, check: Check) -> Iterator[Result]:
        if self._wrong and time.monotonic() > self.clear:
            yield self._left_out(name, "the verdict is clear", name)
            return
        if self._wrong and self.case.decides:  # only of a correct gradient are finite differences the derivative
            self.case = replace(self.case, decides=False)
        yield from run_check(name, check, self.case, self.options)

    def _variants(self, number: int, start: int) -> Iterator[Result | Step]:
        unsupported = {"forward mode"} - self.passed
        chosen = {name: check for name, check in VARIANTS.items() if name in self.options.selected - unsupported}
        remaining = variants(self.case.call, self.case.generator) if chosen else iter(())
        while True:
            yield Step(max(number, start), "other sizes", is_defined=False, repeats=True)
            variant = next(remaining, None)
            if variant is None:
                return
            if number >= start:
                yield Step(number, variant.label, is_defined=False)
                outcome = self.case.outside_reference(variant)
                if not outcome and self.case.reference is not None:
                    yield Step(number, variant.label)
                yield from self._variant(variant, chosen, outcome or self.case.outside_domain(variant))
            number += 1

    def _variant(
        self, variant: Variant, checks: Mapping[str, VariantCheck], outcome: Outcome | None
    ) -> Iterator[Result]:
        if outcome:
            yield result_of("gradient", self.case, variant, outcome)
            return
        for name, check in checks.items():
            yield from run_check(name, partial(_at, variant, check), self.case, self.options)

    def _left_out(self, label: str, reason: str, check: str = "gradient") -> Result:
        return result_of(check, self.case, Variant("time", label, self.case.call), left_out(reason))

    def _stopped(self, stop: Stop) -> Result:
        """A crash is a failure of a custom Function, or where the reference is finite; others may be called wrongly."""
        if not stop.crashed:
            return self._left_out(stop.step.label, stop.reason)
        fails = stop.step.is_defined or has_custom_backward(self.case.call)
        outcome = (failed if fails else left_out)(CRASH.format(stop.reason))
        return result_of("crash", self.case, Variant("crash", stop.step.label, self.case.call), outcome)


def _raises(result: Result) -> bool:
    return result.status == "failed" and result.message.startswith("raised")


def _at(variant: Variant, check: VariantCheck, case: CheckCase) -> Outcomes:
    """A check of a variant, for the function of the case."""
    return check(case, replace(variant, call=variant.call.of(case.call.function)))
