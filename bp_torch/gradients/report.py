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

Status = Literal["passed", "failed", "unsupported", "inconclusive", "left out", "reference"]
"""Unsupported: the function lacks the checked feature. Inconclusive: finite differences are not accurate enough. Left
out: a variant outside the domain, or no time. Reference: the reference is wrong there, by finite differences."""
MAX_INPUTS = 4
"""Largest number of inputs that the verdict names."""
NO_TIME = "no time left"
MAX_SHOWN = 6
"""Largest number of failures shown in full."""
SECONDARY = (
    "crash", "layouts", "saved tensors", "double backward", "forward mode", "batched gradients", "vmap",
    "accumulation", "checkpoint", "autocast", "torch.compile",
)  # fmt: skip
"""Checks that may fail although the gradient is right."""
CONSEQUENCES = ("gradient in ", "finite differences", "double backward", "forward mode", "autocast")
"""Checks that fail if the gradient is wrong."""
SAVED = "an intermediate was saved"
"""Start of the hint for a wrong second derivative."""


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


def left_out(reason: str) -> Outcome:
    """The outcome of a variant that is not checked."""
    return Outcome("left out", message=reason)


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
    dtypes: tuple[str, ...] = ("float64",)  # those that the checks ran in, apart from "gradient in ..."
    remarks: tuple[str, ...] = ()  # how the function was called, and what was left out on request
    hints: tuple[str, ...] = ()  # what all failures have in common

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def grade(self) -> Literal["right", "gradient right", "wrong"]:
        """Whether everything is right, the gradient alone, or not even that."""
        if self.passed:
            return "right"
        return "gradient right" if all(r.check in SECONDARY for r in self.failures) else "wrong"

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed."""
        return tuple(result for result in self.results if result.status == "failed")

    def as_dict(self) -> dict[str, Any]:
        """The report as values for JSON; non-finite numbers become strings."""
        text = json.dumps({"passed": self.passed, "grade": self.grade, **asdict(self)})
        return json.loads(text, parse_constant=lambda name: str(float(name)))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """The verdict in one line, a table of the checks, and the failures in full."""
        heading = f"{self.function}({', '.join(self.inputs)}) against {self.reference}: {self.verdict}"
        lines = [heading, "", *self._table(), *self._left_out()]
        shown = list(self._shown())
        for result in shown:
            lines += ["", str(result)]
        if len(self.failures) > len(shown):
            lines += ["", f"and {len(self.failures) - len(shown)} more failures"]
        lines += [f"\nnote: {remark}" for remark in (*self.remarks, *self._wrong_references())]
        return "\n".join([*lines, *(f"\nhint: {hint}" for hint in self.hints)])

    @property
    def verdict(self) -> str:
        """What is right, and what is not."""
        word = {"right": "PASSED", "gradient right": "GRADIENT PASSED", "wrong": "FAILED"}[self.grade]
        by_check = self._by_check()
        wrong = dict.fromkeys(result.check for result in self._causes())
        parts = [f"wrong: {', '.join(map(self._described, wrong))}"] if wrong else []
        if self.grade != "wrong":
            right = [name for name, results in by_check.items() if any(r.status == "passed" for r in results)]
            dtypes = ", ".join(dict.fromkeys(self._dtypes(by_check)))
            others = f"{', '.join(right)} right; gradient not checked"
            parts.insert(0, f"gradient right in {dtypes}" if "gradient" in right else others)
        disputed = [f"{r.check} of {r.input!r}" for r in self.results if r.status == "reference"]
        if disputed:
            parts.append(f"the reference is wrong: {', '.join(dict.fromkeys(disputed))}")
        crashes = [r.variant for r in self.results if r.kind == "crash" and r.status == "left out"]
        if crashes:
            parts.append(f"crashes at {', '.join(crashes)}")
        if late := self._without_time():
            parts.append(f"no time left for {', '.join(late)}")
        unsupported = [name for name, results in by_check.items() if _all_unsupported(results)]
        if unsupported:
            parts.append(f"unsupported: {', '.join(unsupported)}")
        return f"{word}: {'; '.join(parts)}"

    def _described(self, check: str) -> str:
        """A failed check, with its inputs and the cause if one is known."""
        failures = [result for result in self._causes() if result.check == check]
        inputs = [repr(name) for name in dict.fromkeys(r.input for r in failures if r.input) if name in self.inputs]
        cause = next((r.hint for r in failures if r.hint.startswith(SAVED)), "")
        if check == "crash":
            return f"crash at {', '.join(result.variant for result in failures)}"
        others = f" and {len(inputs) - MAX_INPUTS} more" if len(inputs) > MAX_INPUTS else ""
        named = f" of {', '.join(inputs[:MAX_INPUTS])}{others}" if inputs and check not in SECONDARY else ""
        name = "second derivative" if check == "double backward" else check
        if all(result.message.startswith("raised") for result in failures):
            return f"{name} ({failures[0].message})"
        if all("OTHER SUBGRADIENT" in result.message for result in failures):
            named += " at kinks, another subgradient than the reference's"
        return f"{name}{named}" + (f" ({cause})" if cause else "")

    def _causes(self) -> list[Result]:
        """The failures that do not follow from a wrong gradient of the same input."""
        inputs = {result.input for result in self.failures if result.check == "gradient"}
        return [
            result
            for result in self.failures
            if not (inputs and result.check.startswith(CONSEQUENCES))
            or (result.input in self.inputs and result.input not in inputs)
        ]

    def _dtypes(self, by_check: dict[str, list[Result]]) -> Iterator[str]:
        yield from self.dtypes
        for check, results in by_check.items():
            if check.startswith("gradient in ") and any(result.status == "passed" for result in results):
                yield check.removeprefix("gradient in ")

    def _left_out(self) -> Iterator[str]:
        """What was not checked, and what is unsupported in a part of a check, by reason."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for check, results in self._by_check().items():
            for result in results:
                if result.status == "left out" or (result.status == "unsupported" and not _all_unsupported(results)):
                    what = result.variant if result.status == "left out" else f"{check} {result.variant}"
                    reasons.setdefault((result.status, result.message), []).append(what)
        if reasons:
            yield ""
        for (status, reason), places in reasons.items():
            reason = textwrap.shorten(reason, 120, placeholder=" ...")
            text = f"{status}: {', '.join(dict.fromkeys(places))}: {reason}"
            yield textwrap.shorten(text, 240, placeholder=f" ...: {reason}")

    def _without_time(self) -> list[str]:
        """The checks and variants that were not finished."""
        late = [r for r in self.results if r.status == "left out" and r.message == NO_TIME]
        return [*dict.fromkeys(r.check if r.variant == "the rest" else r.variant for r in late)][:MAX_INPUTS]

    def _by_check(self) -> dict[str, list[Result]]:
        by_check: dict[str, list[Result]] = {}
        for result in self.results:
            by_check.setdefault(result.check, []).append(result)
        return by_check

    def _wrong_references(self) -> Iterator[str]:
        for result in self.results:
            if result.status == "reference":
                yield f"{result.check} of {result.input!r}, {result.variant}: {result.message.splitlines()[0]}"

    def _table(self) -> Iterator[str]:
        yield f"{'check':<24}{'cases':>7}{'failed':>8}{'unsupported':>13}   largest error"
        for check, results in self._by_check().items():
            count = Counter(result.status for result in results)
            cases = len(results) - count["unsupported"] - count["left out"]
            reason = next((result.message for result in results if result.status == "unsupported"), "")
            error = _largest_error(results) if cases else textwrap.shorten(reason, 64, placeholder=" ...")
            yield f"{check:<24}{cases:>7}{count['failed']:>8}{count['unsupported']:>13}   {error}"

    def _shown(self) -> Iterator[Result]:
        """The worst failure of each check and input; failures of the sample itself precede those of its variants."""
        order = list(dict.fromkeys(result.check for result in self.results))
        worst: dict[tuple[str, str | None], Result] = {}
        for result in sorted(
            self._causes(), key=lambda r: (order.index(r.check), r.kind != "given", "," in r.variant, -r.ratio)
        ):
            worst.setdefault((result.check, result.input), result)
        first = {check: result for (check, _), result in reversed(worst.items())}
        yield from sorted([*worst.values()], key=lambda r: (r is not first[r.check], order.index(r.check)))[:MAX_SHOWN]


def _all_unsupported(results: list[Result]) -> bool:
    return {r.status for r in results} <= {"unsupported", "left out"} and any(
        r.status == "unsupported" for r in results
    )


def _largest_error(results: list[Result]) -> str:
    """The last column of the table: the largest error, and the median Taylor order."""
    ratios = [result.ratio for result in results if result.status in ("passed", "failed")]
    largest = f"{max(ratios, default=0):.2g} x allowed"
    orders = [result.order for result in results if result.order is not None and math.isfinite(result.order)]
    return f"{largest}; Taylor order {statistics.median(orders):.2f}" if orders else largest
