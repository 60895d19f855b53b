"""Run one check of one sample."""

import time
from collections.abc import Iterator
from dataclasses import replace

from bp_torch.gradients.case import AS_GIVEN, CheckCase, catch_errors
from bp_torch.gradients.checks import Check
from bp_torch.gradients.options import Options
from bp_torch.gradients.report import NO_TIME, Outcome, Result, left_out
from bp_torch.gradients.variants import Variant

SHARE = 0.3
"""Largest part of the remaining time that one check takes, except for the gradient at the sample."""


def run_check(name: str, check: Check, case: CheckCase, options: Options, *, label: str = "") -> Iterator[Result]:
    """The results of a check, if it is selected, without failures within its tolerance or shared by the reference.

    Args:
        name: the name of the check.
        check: the check.
        case: the sample.
        options: the options.
        label: the name in the report, if it is another.
    """
    if name not in options.selected:
        return
    excused = _Shared(label or name, check, case)
    limit = time.monotonic() + SHARE * (case.deadline - time.monotonic())
    for result in _results(label or name, check, case):
        if result.status == "failed" and (rtol := options.tolerance(name)):
            result = _with_tolerance(result, rtol)
        yield excused.checked(result)
        if time.monotonic() > limit and not (name == "gradient" and result.variant == AS_GIVEN):
            yield result_of(label or name, case, Variant("time", "the rest", case.call), left_out(NO_TIME))
            return


def result_of(name: str, case: CheckCase, variant: Variant, outcome: Outcome) -> Result:
    """An outcome as a result."""
    return Result(**vars(outcome), check=name, sample=case.sample, kind=variant.kind, variant=variant.label)


class _Shared:
    """The failures of the reference, which is checked only after the function failed."""

    def __init__(self, name: str, check: Check, case: CheckCase) -> None:
        self.found: set[tuple[str, ...]] = set()
        self.remaining = iter(()) if case.reference is None else _results(name, check, replace(case, call=case.oracle))

    def checked(self, result: Result) -> Result:
        """The result; unsupported if the reference fails like it."""
        if result.status != "failed":
            return result
        for other in self.remaining:
            if other.status == "failed":
                self.found.add(_signature(other))
            if (other.variant, other.input) == (result.variant, result.input):
                break
        if _signature(result) not in self.found:
            return result
        return replace(result, status="unsupported", message="the reference fails this too", comparison=None)


def _signature(result: Result) -> tuple[str, ...]:
    """Two failures with the same variant, input and exception count as the same."""
    return result.variant, str(result.input), result.message if result.message.startswith("raised") else ""


def _with_tolerance(result: Result, rtol: float) -> Result:
    """A result that passes within a relative tolerance."""
    comparison = result.comparison
    if comparison is None or comparison.error > rtol * comparison.magnitude:
        return result
    return replace(result, status="passed", ratio=comparison.error / (rtol * comparison.magnitude), message="", hint="")


def _results(name: str, check: Check, case: CheckCase) -> Iterator[Result]:
    for variant, outcome in catch_errors(case.as_given, check(case)):
        yield result_of(name, case, variant, outcome)
