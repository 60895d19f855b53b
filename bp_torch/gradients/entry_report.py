"""Reports on catalogue entries: the checks of a function, and its accuracy in every dtype."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bp_torch import markdown
from bp_torch.catalogue import CATALOGUE, OpInfo
from bp_torch.gradients.call import Call, as_calls
from bp_torch.gradients.check import check_gradients
from bp_torch.gradients.comparison import Comparison
from bp_torch.gradients.differences import random_like
from bp_torch.gradients.perturbation import GradientTriple, compare_all, perturbed
from bp_torch.gradients.report import Result

DTYPES = ("float64", "float32", "bfloat16", "float16")
HEADINGS = markdown.table(
    [f"{'function':<32}", "samples", "    cases", "wrong", *(f"{name:>15}" for name in DTYPES)], []
)
ACCURACY = """\
Errors are in roundings, ε · max |truth|: the largest error of value and gradients over all samples, with PyTorch's in
parentheses. In float64, PyTorch is the truth."""


@dataclass(frozen=True)
class EntryReport:
    """The report on a function of the catalogue."""

    function: str
    samples: int
    cases: int  # number of check results
    wrong: tuple[Result | Comparison, ...]  # failed results and comparisons
    accuracies: dict[str, tuple[float, float]]  # by dtype: the largest error of the function, and PyTorch's

    @property
    def row(self) -> str:
        """A row of the table with the headings `HEADINGS`."""
        errors = (
            f"{hand:.2f}" if dtype == "float64" else f"{hand:.2f} ({builtin:.2f})"
            for dtype, (hand, builtin) in self.accuracies.items()
        )
        counts = f"{self.samples:>7}", f"{self.cases:>9}", f"{len(self.wrong):>5}"
        return markdown.row((f"{self.function:<32}", *counts, *(f"{cell:>15}" for cell in errors)))


def check_entry(name: str) -> EntryReport:
    """Check a function of the catalogue."""
    entry = CATALOGUE[name]
    report = check_gradients(entry.function, entry.samples, reference=entry.reference)
    compared = {dtype: compare_samples(entry, getattr(torch, dtype)) for dtype in DTYPES}
    wrong = (comparison for each in compared.values() for comparison in each if not comparison.passed)
    return EntryReport(
        function=name,
        samples=len(entry.samples),
        cases=len(report.results),
        wrong=(*report.failures, *wrong),
        accuracies={dtype: largest_errors(each) for dtype, each in compared.items()},
    )


def largest_errors(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """The largest errors of the hand-written function and of PyTorch, in roundings ε · max |truth|."""
    nonzero = [comparison for comparison in comparisons if comparison.rounding]
    hand, builtin = zip(*((c.error / c.rounding, c.builtin_error / c.rounding) for c in nonzero), strict=True)
    return max(hand), max(builtin)


def compare_samples(entry: OpInfo, dtype: torch.dtype) -> list[Comparison]:
    """Compare value and gradients of every sample with the reference's.

    The truth is the reference in float64, at the sample rounded to `dtype`.
    """
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings(action="ignore"):
        return [
            replace(comparison, name=f"{entry.name} in {dtype}, sample {number}, {comparison.name} ")
            for number, call in enumerate(as_calls(entry.function, entry.samples))
            for comparison in _compared(call.to(dtype), entry.reference, generator)
        ]


def _compared(call: Call, reference: Callable[..., Tensor], generator: torch.Generator) -> list[Comparison]:
    upstream = random_like(call.value(), generator)

    def evaluate(generator: torch.Generator | None) -> GradientTriple:
        point, grad_output = call.at([perturbed(x, generator) for x in call.inputs]), perturbed(upstream, generator)
        hand, builtin, truth = (
            {"value": each.value(), **each.vjp(grad_output.to(each.dtype))}
            for each in (point, point.of(reference), point.to(torch.float64).of(reference))
        )
        return hand, builtin, truth

    return compare_all(evaluate)
