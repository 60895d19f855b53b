"""The catalogue, function by function: every question about its gradients, and how exact it is in every dtype."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bp_torch.catalogue import CATALOGUE, Entry
from bp_torch.gradients.call import Call, as_calls, quiet
from bp_torch.gradients.check import check_gradients
from bp_torch.gradients.differences import signed
from bp_torch.gradients.nudging import Three, compare_all, nudged
from bp_torch.gradients.records import Accuracy, Survey
from bp_torch.gradients.verdict import Comparison

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def survey(name: str) -> Survey:
    """Everything about one function of the catalogue."""
    entry = CATALOGUE[name]
    report = check_gradients(entry.function, entry.samples, reference=entry.reference)
    return Survey(
        function=name,
        samples=len(entry.samples),
        asked=len(report.results),
        failures=report.failures,
        not_offered=tuple(sorted({result.check for result in report.results if result.status == "not offered"})),
        accuracies=tuple(accuracy(entry, dtype) for dtype in DTYPES),
    )


def accuracy(entry: Entry, dtype: torch.dtype) -> Accuracy:
    """How exact a function is in one dtype."""
    comparisons = sweep(entry, dtype)
    measured = [c for c in comparisons if c.rounding]
    return Accuracy(
        dtype=str(dtype).removeprefix("torch."),
        hand=max(comparison.error / comparison.rounding for comparison in measured),
        builtin=max(comparison.builtin_error / comparison.rounding for comparison in measured),
        failed=tuple(comparison for comparison in comparisons if not comparison.passed),
    )


def sweep(entry: Entry, dtype: torch.dtype) -> list[Comparison]:
    """Compare value and gradients of every sample with the reference's, by the rule.

    The truth answers the same question in float64: the reference on the numbers that `dtype` rounds the sample's to.
    """
    generator = torch.Generator().manual_seed(0)
    comparisons = []
    with quiet():
        for number, call in enumerate(as_calls(entry.function, entry.samples)):
            for comparison in _compared(call.to(dtype), entry.reference, generator):
                label = f"{entry.name} sample {number} {comparison.name} "
                comparisons.append(replace(comparison, name=label))
    return comparisons


def _compared(call: Call, reference: Callable[..., Tensor], generator: torch.Generator) -> list[Comparison]:
    upstream = signed(call.value(), generator)

    def draw(nudge: torch.Generator | None) -> Three:
        nearby, sent = call.at([nudged(x, nudge) for x in call.inputs]), nudged(upstream, nudge)
        hand, builtin, truth = (
            {"value": asked.value(), **asked.pull(sent.to(asked.dtype))}
            for asked in (nearby, nearby.of(reference), nearby.to(torch.float64).of(reference))
        )
        return hand, builtin, truth

    return compare_all(draw)
