"""Reports on the catalogue: the checks of each function, and its accuracy in every dtype."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bp_torch import markdown
from bp_torch.catalogue import CATALOGUE, Entry
from bp_torch.gradients.call import Call, as_calls
from bp_torch.gradients.check import check_gradients
from bp_torch.gradients.comparison import Comparison
from bp_torch.gradients.differences import signed
from bp_torch.gradients.perturbation import GradientTriple, compare_all, perturbed
from bp_torch.gradients.report import Result

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_DTYPE_NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
HEADINGS = "\n".join(
    [
        markdown.row((f"{'function':<32}", "samples", "    cases", "wrong", *(f"{name:>15}" for name in _DTYPE_NAMES))),
        markdown.rule(4 + len(DTYPES)),
    ]
)
ACCURACY = """\
Errors are in roundings, ε · max |truth|: the largest of value and gradients over all samples, with PyTorch's own in
brackets. In float64 PyTorch is the truth."""


@dataclass(frozen=True)
class Accuracy:
    """How exact a function is in one dtype, over all samples, value and gradients.

    Attributes:
        dtype: its name.
        hand: the largest error against float64, in roundings ε · max |truth|.
        builtin: PyTorch's own; 0 in float64, where it is the truth.
        failed: the comparisons that did not pass.
    """

    dtype: str
    hand: float
    builtin: float
    failed: tuple[Comparison, ...]


@dataclass(frozen=True)
class EntryReport:
    """The report on one function of the catalogue.

    Attributes:
        function: its name.
        samples: the number of its samples.
        cases: the number of results.
        failures: those that failed.
        unsupported: the checks it does not support.
        accuracies: one for each dtype.
    """

    function: str
    samples: int
    cases: int
    failures: tuple[Result, ...]
    unsupported: tuple[str, ...]
    accuracies: tuple[Accuracy, ...]

    @property
    def wrong(self) -> tuple[Result | Comparison, ...]:
        """Everything that is wrong with it."""
        return (*self.failures, *(comparison for accuracy in self.accuracies for comparison in accuracy.failed))


def check_entry(name: str) -> EntryReport:
    """Check one function of the catalogue."""
    entry = CATALOGUE[name]
    report = check_gradients(entry.function, entry.samples, reference=entry.reference)
    return EntryReport(
        function=name,
        samples=len(entry.samples),
        cases=len(report.results),
        failures=report.failures,
        unsupported=tuple(sorted({result.check for result in report.results if result.status == "unsupported"})),
        accuracies=tuple(accuracy(entry, dtype) for dtype in DTYPES),
    )


def accuracy(entry: Entry, dtype: torch.dtype) -> Accuracy:
    """How exact a function is in one dtype."""
    comparisons = compare_samples(entry, dtype)
    measured = [c for c in comparisons if c.rounding]
    return Accuracy(
        dtype=str(dtype).removeprefix("torch."),
        hand=max(comparison.error / comparison.rounding for comparison in measured),
        builtin=max(comparison.builtin_error / comparison.rounding for comparison in measured),
        failed=tuple(comparison for comparison in comparisons if not comparison.passed),
    )


def compare_samples(entry: Entry, dtype: torch.dtype) -> list[Comparison]:
    """Compare value and gradients of every sample with the reference's.

    The truth is the reference in float64, on the numbers that `dtype` rounds the sample's to.
    """
    generator = torch.Generator().manual_seed(0)
    comparisons = []
    with warnings.catch_warnings(action="ignore"):
        for number, call in enumerate(as_calls(entry.function, entry.samples)):
            for comparison in _compared(call.to(dtype), entry.reference, generator):
                label = f"{entry.name} sample {number} {comparison.name} "
                comparisons.append(replace(comparison, name=label))
    return comparisons


def row(report: EntryReport) -> str:
    """A row of the table of functions, below `HEADINGS`."""
    counts = f"{report.samples:>7}", f"{report.cases:>9}", f"{len(report.wrong):>5}"
    return markdown.row((f"{report.function:<32}", *counts, *map(_accuracy_cell, report.accuracies)))


def _accuracy_cell(accuracy: Accuracy) -> str:
    builtin = "" if accuracy.dtype == "float64" else f" ({accuracy.builtin:.2f})"
    return f"{accuracy.hand:.2f}{builtin}".rjust(15)


def _compared(call: Call, reference: Callable[..., Tensor], generator: torch.Generator) -> list[Comparison]:
    upstream = signed(call.value(), generator)

    def evaluate(nearby: torch.Generator | None) -> GradientTriple:
        moved, sent = call.at([perturbed(x, nearby) for x in call.inputs]), perturbed(upstream, nearby)
        hand, builtin, truth = (
            {"value": each.value(), **each.pull(sent.to(each.dtype))}
            for each in (moved, moved.of(reference), moved.to(torch.float64).of(reference))
        )
        return hand, builtin, truth

    return compare_all(evaluate)
