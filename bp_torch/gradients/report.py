"""What a check found, to be read by people and by programs."""

import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bp_torch.gradients.verdict import Comparison

Status = Literal["passed", "failed", "not offered", "not judged"]
MOST_TOLD = 6
"""Failures told at length, one of a kind."""
_CAUSES = ("side effects", "repeatability", "value", "gradient", "linearity")
"""If one of these fails, most others do."""


class GradientError(AssertionError):
    """A gradient is wrong; the message is the report."""


@dataclass(frozen=True)
class Result:
    """One question and its answer.

    Attributes:
        check: what was asked; a row of the report's table.
        sample: the number of the sample.
        kind: 'given', or the kind of variant of the sample it was asked of.
        variant: the sample as given, or which variant of it; and under which circumstances.
        input: the input whose gradient it is, if it is about one.
        status: 'passed', 'failed', 'not offered', where the function does not support what was asked, or 'not judged',
            where its values are not smooth enough to tell.
        ratio: the error in units of what is allowed; above 1 it is wrong. Infinite where there is no measure.
        message: what was found, where it failed or is not offered.
        hint: what the mistake looks like, if it looks like one that is known.
        comparison: both gradients, where two were compared.
        order: the order of the Taylor remainder, where it was measured: 2 if the gradient is right; infinite of a
            straight line.
    """

    check: str
    sample: int
    kind: str
    variant: str
    input: str | None
    status: Status
    ratio: float = 0.0
    message: str = ""
    hint: str = ""
    comparison: Comparison | None = None
    order: float | None = None

    def __str__(self) -> str:
        """The whole finding, in a few lines."""
        of = f" of {self.input!r}" if self.input else ""
        lines = [f"{self.check}{of}, sample {self.sample} {self.variant}: {self.status.upper()}"]
        lines += [f"    {line}" for line in self.message.splitlines()]
        return "\n".join([*lines, *([f"    hint: {self.hint}"] if self.hint else [])])


@dataclass(frozen=True)
class GradientReport:
    """Everything that was asked of a function, and what came of it.

    Attributes:
        function: its name.
        inputs: the inputs whose gradients were asked for.
        judge: by what they were judged.
        results: every question and its answer.
        hints: what the failures have in common, if they have something.
    """

    function: str
    inputs: tuple[str, ...]
    judge: str
    results: tuple[Result, ...]
    hints: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(result for result in self.results if result.status == "failed")

    def raise_if_failed(self) -> None:
        """Raise GradientError, with the report as its message, if anything failed."""
        if not self.passed:
            raise GradientError(str(self))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite, which JSON lacks, become strings."""
        return {
            "function": self.function,
            "inputs": list(self.inputs),
            "judge": self.judge,
            "passed": self.passed,
            "hints": list(self.hints),
            "results": [_plain(asdict(result)) for result in self.results],
        }

    def __str__(self) -> str:
        """A table of checks, then the failures at length."""
        verdict = "PASSED" if self.passed else "FAILED"
        heading = f"{self.function}({', '.join(self.inputs)}), judged by {self.judge}: {verdict}"
        lines = [heading, "", *self._table()]
        told = list(self._told())
        for result in told:
            lines += ["", str(result)]
        if len(self.failures) > len(told):
            lines += ["", f"and {len(self.failures) - len(told)} failures more of the checks above"]
        return "\n".join([*lines, *(f"\nhint: {hint}" for hint in self.hints)])

    def _table(self) -> Iterator[str]:
        yield f"{'check':<24}{'asked':>7}{'failed':>8}{'not offered':>13}   largest error"
        for check in dict.fromkeys(result.check for result in self.results):
            of = [result for result in self.results if result.check == check]
            count = Counter(result.status for result in of)
            asked, offered = len(of) - count["not offered"], count["not offered"]
            reason = next((result.message for result in of if result.status == "not offered"), "")
            found = _measure(of) if asked else textwrap.shorten(reason, 64, placeholder=" ...")
            yield f"{check:<24}{asked:>7}{count['failed']:>8}{offered:>13}   {found}"

    def _told(self) -> Iterator[Result]:
        """Of each check and input the worst failure, those of the sample as given first.

        Where the gradient itself is wrong, what follows from it is not told at length.
        """
        order = list(dict.fromkeys(result.check for result in self.results))
        worst: dict[tuple[str, str | None], Result] = {}
        for result in sorted(
            self.failures, key=lambda r: (order.index(r.check), r.kind != "given", "," in r.variant, -r.ratio)
        ):
            worst.setdefault((result.check, result.input), result)
        causes = [result for result in worst.values() if result.check in _CAUSES]
        yield from (causes or list(worst.values()))[:MOST_TOLD]


def _measure(results: list[Result]) -> str:
    """Of a row of the table, the figures that matter."""
    largest = f"{max(result.ratio for result in results):.2g} x what is allowed"
    orders = [result.order for result in results if result.order is not None and math.isfinite(result.order)]
    return f"{largest}; Taylor order {statistics.median(orders):.2f}" if orders else largest


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
