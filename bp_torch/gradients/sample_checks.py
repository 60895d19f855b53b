"""All checks of one sample, in their order."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from bp_torch.gradients.case import CheckCase
from bp_torch.gradients.checks import FIRST, PRECISION, REST, SMOOTH, VARIANTS, Check
from bp_torch.gradients.checks.precision import is_low, precision
from bp_torch.gradients.isolation import Crash, in_child
from bp_torch.gradients.options import Options
from bp_torch.gradients.report import Result, left_out
from bp_torch.gradients.run_check import result_of, run_check
from bp_torch.gradients.variant_checks import VariantChecks, crashed
from bp_torch.gradients.variants import Variant

VERDICT = 0.5
"""Part of the time that must remain for further checks after a failure."""


class SampleChecks:
    """The checks of one sample: what runs depends on what failed before."""

    def __init__(self, case: CheckCase, options: Options) -> None:
        """Begin with nothing checked."""
        self.case, self.options = case, options
        self.failed: set[str] = set()  # the names of checks that failed, and of those that passed
        self.passed: set[str] = set()
        now = time.monotonic()
        self.clear = now + (1 - VERDICT) * (case.deadline - now)

    def results(self) -> Iterator[Result]:
        """The results, as they come."""
        for name, check in FIRST.items():
            for result in self._run(name, check):
                yield result
                if result.status == "reference":  # the reference is wrong: start again without it
                    yield from SampleChecks(replace(self.case, reference=None), self.options).results()
                    return
            if name == "value":
                self._decide_only_if_right()
        yield from self._in_own_dtypes()
        self._decide_only_if_right()  # only of a correct gradient are finite differences the derivative
        for name, check in self._remaining().items():
            if self.failed and time.monotonic() > self.clear:
                yield result_of(
                    name, self.case, Variant("time", name, self.case.call), left_out("the verdict is clear")
                )
            else:
                yield from self._run(name, check)
        if not self.failed:
            forward = {} if "forward mode" in self.passed else {"forward mode"}
            chosen = {name: check for name, check in VARIANTS.items() if name not in forward}
            yield from VariantChecks(self.case, self.options, chosen).results()

    def _run(self, name: str, check: Check, case: CheckCase | None = None, label: str = "") -> Iterator[Result]:
        for result in run_check(name, check, case or self.case, self.options, label=label):
            self._record(result)
            yield result

    def _record(self, result: Result) -> None:
        if result.status in ("passed", "failed"):
            (self.passed if result.status == "passed" else self.failed).add(result.check)

    def _decide_only_if_right(self) -> None:
        if self.failed and self.case.decides:
            self.case = replace(self.case, decides=False)

    def _remaining(self) -> dict[str, Check]:
        return {**REST, **(SMOOTH if self.case.as_given.value.isfinite().all() else {})}

    def _in_own_dtypes(self) -> Iterator[Result]:
        """The gradient in the sample's own dtypes, and in float32."""
        given = self.case.given
        own = sorted({str(x.dtype).removeprefix("torch.") for x in given.inputs})
        calls = {"gradient in " + ", ".join(own): given, "gradient in float32": given.to(torch.float32)}
        calls.pop("gradient in float64", None)
        if self.case.reference is None and not self.case.has_float64:
            return  # there is no truth: the checks so far were in the sample's own dtypes
        for label, call in calls.items():
            for result in self._isolated(label, replace(self.case, call=call)):
                self._record(result)
                yield result

    def _isolated(self, label: str, case: CheckCase) -> Iterator[Result]:
        """The check of precision, in a child process if it changes the sizes."""
        results = partial(run_check, PRECISION, precision, case, self.options, label=label)
        if not (self.options.in_child and is_low(case.call)):
            yield from results()
            return
        try:
            yield from in_child(results, case.deadline)
        except Crash as crash:
            yield crashed(case, label, crash)
        except TimeoutError:
            yield result_of(label, case, Variant("time", "the rest", case.call), left_out("no time left"))
