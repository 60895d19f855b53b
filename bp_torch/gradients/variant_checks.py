"""The checks of a sample that may crash a function: at its variants, and inside PyTorch's wrappers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bp_torch.gradients.case import CheckCase, Outcomes
from bp_torch.gradients.checks import COMPOSITION
from bp_torch.gradients.checks.composition import load_compiler
from bp_torch.gradients.isolation import Crash, in_child
from bp_torch.gradients.options import Options
from bp_torch.gradients.report import Result, failed, left_out
from bp_torch.gradients.run_check import result_of, run_check
from bp_torch.gradients.tracing import has_custom_backward
from bp_torch.gradients.variants import Variant, variants

MAX_CRASHES = 5
CRASH = "CRASH: the function ended the process ({}): name the sizes that it takes by axes="


@dataclass(frozen=True)
class Step:
    """What a child process does next: if it crashes, the next one continues after it."""

    number: int = -1
    label: str = ""
    is_defined: bool = False  # whether the reference is finite there
    repeats: bool = False  # whether the next process would do the same again


class VariantChecks:
    """The checks of the variants, in a child process; a crash is reported, and the next variant is checked."""

    def __init__(
        self, case: CheckCase, options: Options, checks: Mapping[str, Callable[[CheckCase, Variant], Outcomes]]
    ) -> None:
        """Begin with the sample, the options, and the checks of each variant."""
        self.case, self.options, self.checks = case, options, checks

    def results(self) -> Iterator[Result]:
        """The results, as they come."""
        if "torch.compile" in self.options.selected and has_custom_backward(self.case.call):
            load_compiler()  # here, for every child process to have it
        if not self.options.in_child:
            yield from (item for item in self._run(0) if isinstance(item, Result))
            return
        step = Step()
        for _ in range(MAX_CRASHES):
            try:
                for item in in_child(partial(self._run, step.number + 1), self.case.deadline):
                    if isinstance(item, Result):
                        yield item
                    else:
                        step = item
                return
            except Crash as crash:
                yield crashed(self.case, step.label, crash, is_defined=step.is_defined)
                if step.repeats:
                    return
            except TimeoutError:
                yield self._left_out(step.label, "no time left")
                return
        yield self._left_out("the rest", f"{MAX_CRASHES} crashes")

    def _left_out(self, label: str, reason: str) -> Result:
        return result_of("gradient", self.case, Variant("time", label, self.case.call), left_out(reason))

    def _run(self, start: int) -> Iterator[Result | Step]:
        """The steps from a number on, each with its results."""
        for number, (name, check) in enumerate(COMPOSITION.items()):
            if number >= start:
                yield Step(number, name)
                yield from run_check(name, check, self.case, self.options)
        if not self.options.selected & {*self.checks}:
            return
        remaining, number = variants(self.case.call, self.case.generator), len(COMPOSITION)
        while True:
            yield Step(max(number, start), "other sizes", repeats=True)
            variant = next(remaining, None)
            if variant is None:
                return
            if number >= start:
                yield from self._check(number, variant)
            number += 1

    def _check(self, number: int, variant: Variant) -> Iterator[Result | Step]:
        yield Step(number, variant.label)
        outcome = self.case.outside_reference(variant)
        yield Step(number, variant.label, is_defined=not outcome and self.case.reference is not None)
        if outcome := outcome or self.case.outside_domain(variant):
            yield result_of("gradient", self.case, variant, outcome)
            return
        for name, check in self.checks.items():
            yield from run_check(name, partial(_at, variant, check), self.case, self.options)


def crashed(case: CheckCase, label: str, crash: Crash, *, is_defined: bool = False) -> Result:
    """A crash is a failure of a custom Function, or where the reference is finite; others may be called wrongly."""
    fails = is_defined or has_custom_backward(case.call)
    outcome = (failed if fails else left_out)(CRASH.format(crash))
    return result_of("crash", case, Variant("crash", label, case.call), outcome)


def _at(variant: Variant, check: Callable[[CheckCase, Variant], Any], case: CheckCase) -> Outcomes:
    """A check of a variant, for the function of the case."""
    outcomes: Outcomes = check(case, replace(variant, call=variant.call.of(case.call.function)))
    return outcomes
