"""What the checks found, for people and for programs."""

import json
import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bp_torch.gradients.comparison import Comparison

Status = Literal["passed", "failed", "unsupported", "inconclusive"]
"""Unsupported: the function does not offer what is checked. Inconclusive: too rough for finite differences."""
MOST_SHOWN = 6
"""Failures shown in full, one of a kind."""
_CAUSES = ("side effects", "repeatability", "value", "gradient", "linearity")
"""If one of these fails, most others do."""


class GradientError(AssertionError):
    """A gradient is wrong; the message is the report."""


@dataclass(frozen=True)
class Outcome:
    """What a check found about one variant of a sample."""

    status: Status
    input: str | None = None  # the one whose gradient it is, if it is about one
    ratio: float = 0.0  # the error in units of what is allowed: above 1 it is wrong; infinite where there is no measure
    message: str = ""  # what was found, unless it passed
    hint: str = ""  # what the mistake looks like, if it is a known one
    comparison: Comparison | None = None  # both gradients, where two were compared
    order: float | None = None  # of the Taylor remainder, if measured: 2 if right; infinite of a straight line


@dataclass(frozen=True, kw_only=True)
class Result(Outcome):
    """An outcome, and which check it is from."""

    check: str  # its name, a row of the report's table
    sample: int  # its number
    kind: str  # 'given', or the kind of variant
    variant: str  # the sample as given, or which variant of it; and under which circumstances

    def __str__(self) -> str:
        """The whole result, in a few lines."""
        of = f" of {self.input!r}" if self.input else ""
        lines = [f"{self.check}{of}, sample {self.sample} {self.variant}: {self.status.upper()}"]
        lines += [f"    {line}" for line in self.message.splitlines()]
        return "\n".join([*lines, *([f"    hint: {self.hint}"] if self.hint else [])])


def compared(comparison: Comparison, hint: str = "") -> Outcome:
    """The outcome of a comparison."""
    if comparison.passed:
        ratio = comparison.error / comparison.tolerance if comparison.error else 0.0
        return Outcome("passed", comparison.name, ratio, comparison=comparison)
    ratio = comparison.error / comparison.tolerance if comparison.tolerance else math.inf
    return Outcome("failed", comparison.name, ratio, comparison.details, hint, comparison)


def failed(message: str, *, input: str | None = None, hint: str = "") -> Outcome:
    """A failure that is no comparison's."""
    return Outcome("failed", input, math.inf, message, hint)


def unsupported(reason: str | Exception) -> Outcome:
    """The function does not offer what is checked."""
    return Outcome("unsupported", message=reason if isinstance(reason, str) else f"raised {first_line(reason)}")


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@dataclass(frozen=True)
class GradientReport:
    """The results of every check of a function."""

    function: str  # its name
    inputs: tuple[str, ...]  # those whose gradients were checked
    reference: str  # what they were compared with
    results: tuple[Result, ...]  # in the order of the checks
    hints: tuple[str, ...] = ()  # what the failures have in common, if they have something

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(result for result in self.results if result.status == "failed")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite, which JSON lacks, become strings."""
        text = json.dumps({"passed": self.passed, **asdict(self)})
        return json.loads(text, parse_constant=lambda name: str(float(name)))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """A table of checks, then the failures at length."""
        verdict = "PASSED" if self.passed else "FAILED"
        heading = f"{self.function}({', '.join(self.inputs)}) against {self.reference}: {verdict}"
        lines = [heading, "", *self._table()]
        shown = list(self._shown())
        for result in shown:
            lines += ["", str(result)]
        if len(self.failures) > len(shown):
            lines += ["", f"and {len(self.failures) - len(shown)} more failures of the checks above"]
        return "\n".join([*lines, *(f"\nhint: {hint}" for hint in self.hints)])

    def _table(self) -> Iterator[str]:
        yield f"{'check':<24}{'cases':>7}{'failed':>8}{'unsupported':>13}   largest error"
        for check in dict.fromkeys(result.check for result in self.results):
            of = [result for result in self.results if result.check == check]
            count = Counter(result.status for result in of)
            cases = len(of) - count["unsupported"]
            reason = next((result.message for result in of if result.status == "unsupported"), "")
            found = _measure(of) if cases else textwrap.shorten(reason, 64, placeholder=" ...")
            yield f"{check:<24}{cases:>7}{count['failed']:>8}{count['unsupported']:>13}   {found}"

    def _shown(self) -> Iterator[Result]:
        """The worst failure of each check and input, those of the sample as given first.

        Where the gradient itself is wrong, failures that follow from it are left out.
        """
        order = list(dict.fromkeys(result.check for result in self.results))
        worst: dict[tuple[str, str | None], Result] = {}
        for result in sorted(
            self.failures, key=lambda r: (order.index(r.check), r.kind != "given", "," in r.variant, -r.ratio)
        ):
            worst.setdefault((result.check, result.input), result)
        causes = [result for result in worst.values() if result.check in _CAUSES]
        yield from (causes or list(worst.values()))[:MOST_SHOWN]


def _measure(results: list[Result]) -> str:
    """The last column of the table."""
    largest = f"{max(result.ratio for result in results):.2g} x what is allowed"
    orders = [result.order for result in results if result.order is not None and math.isfinite(result.order)]
    return f"{largest}; Taylor order {statistics.median(orders):.2f}" if orders else largest
