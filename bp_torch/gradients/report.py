"""The results of the checks, and the report as text or JSON."""

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
"""Unsupported: the function lacks the checked feature. Inconclusive: finite differences are not accurate enough."""
MAX_SHOWN = 6
"""Largest number of failures shown in full."""
_CAUSES = ("side effects", "repeatability", "value", "gradient", "linearity")
"""Checks whose failure causes most other failures."""


class GradientError(AssertionError):
    """A check failed; the message is the report."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check for one variant of a sample."""

    status: Status
    input: str | None = None  # name of the input, if the outcome is about one
    ratio: float = 0.0  # error / allowed error; infinite without a measured error
    message: str = ""  # details, unless it passed
    hint: str = ""  # a likely cause, if the error fits a known pattern
    comparison: Comparison | None = None  # the comparison, if there was one
    order: float | None = None  # of the Taylor remainder, if measured: 2 if correct; infinite for a linear function


@dataclass(frozen=True, kw_only=True)
class Result(Outcome):
    """An outcome with its check, sample and variant."""

    check: str  # name of the check
    sample: int  # index of the sample
    kind: str  # kind of variant; 'given' for the sample itself
    variant: str  # description of the variant and the condition

    def __str__(self) -> str:
        """The result in a few lines."""
        of = f" of {self.input!r}" if self.input else ""
        lines = [f"{self.check}{of}, sample {self.sample} {self.variant}: {self.status.upper()}"]
        lines += [f"    {line}" for line in self.message.splitlines()]
        return "\n".join([*lines, *([f"    hint: {self.hint}"] if self.hint else [])])


def comparison_outcome(comparison: Comparison, hint: str = "") -> Outcome:
    """The outcome of a comparison."""
    if comparison.passed:
        ratio = comparison.error / comparison.tolerance if comparison.error else 0.0
        return Outcome("passed", comparison.name, ratio, comparison=comparison)
    ratio = comparison.error / comparison.tolerance if comparison.tolerance else math.inf
    return Outcome("failed", comparison.name, ratio, comparison.details, hint, comparison)


def failed(message: str, *, input: str | None = None, hint: str = "") -> Outcome:
    """A failure without a comparison."""
    return Outcome("failed", input, math.inf, message, hint)


def unsupported(reason: str | Exception) -> Outcome:
    """The outcome if the function does not support what is checked."""
    return Outcome("unsupported", message=reason if isinstance(reason, str) else f"raised {first_line(reason)}")


def first_line(error: BaseException) -> str:
    """The type of an exception and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@dataclass(frozen=True)
class GradientReport:
    """The results of every check of a function."""

    function: str  # name of the function
    inputs: tuple[str, ...]  # names of the differentiable inputs
    reference: str  # name of the reference, or "finite differences"
    results: tuple[Result, ...]  # in the order of the checks
    hints: tuple[str, ...] = ()  # what all failures have in common

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(result for result in self.results if result.status == "failed")

    def as_dict(self) -> dict[str, Any]:
        """The report as values for JSON; non-finite numbers become strings."""
        text = json.dumps({"passed": self.passed, **asdict(self)})
        return json.loads(text, parse_constant=lambda name: str(float(name)))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """A table of the checks, followed by the failures in full."""
        verdict = "PASSED" if self.passed else "FAILED"
        heading = f"{self.function}({', '.join(self.inputs)}) against {self.reference}: {verdict}"
        lines = [heading, "", *self._table()]
        shown = list(self._shown())
        for result in shown:
            lines += ["", str(result)]
        if len(self.failures) > len(shown):
            lines += ["", f"and {len(self.failures) - len(shown)} more failures"]
        return "\n".join([*lines, *(f"\nhint: {hint}" for hint in self.hints)])

    def _table(self) -> Iterator[str]:
        yield f"{'check':<24}{'cases':>7}{'failed':>8}{'unsupported':>13}   largest error"
        for check in dict.fromkeys(result.check for result in self.results):
            results = [result for result in self.results if result.check == check]
            count = Counter(result.status for result in results)
            cases = len(results) - count["unsupported"]
            reason = next((result.message for result in results if result.status == "unsupported"), "")
            error = _largest_error(results) if cases else textwrap.shorten(reason, 64, placeholder=" ...")
            yield f"{check:<24}{cases:>7}{count['failed']:>8}{count['unsupported']:>13}   {error}"

    def _shown(self) -> Iterator[Result]:
        """The worst failure of each check and input; failures of the sample itself precede those of its variants.

        If one of the basic checks failed, only their failures are shown: the others usually follow from them.
        """
        order = list(dict.fromkeys(result.check for result in self.results))
        worst: dict[tuple[str, str | None], Result] = {}
        for result in sorted(
            self.failures, key=lambda r: (order.index(r.check), r.kind != "given", "," in r.variant, -r.ratio)
        ):
            worst.setdefault((result.check, result.input), result)
        causes = [result for result in worst.values() if result.check in _CAUSES]
        yield from (causes or list(worst.values()))[:MAX_SHOWN]


def _largest_error(results: list[Result]) -> str:
    """The last column of the table: the largest error, and the median Taylor order."""
    largest = f"{max(result.ratio for result in results):.2g} x allowed"
    orders = [result.order for result in results if result.order is not None and math.isfinite(result.order)]
    return f"{largest}; Taylor order {statistics.median(orders):.2f}" if orders else largest
