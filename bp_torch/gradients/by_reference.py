"""Judged by a reference: PyTorch's own function, or whatever else is known to be right."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call
from bp_torch.gradients.copies import Copy
from bp_torch.gradients.nudging import Gradients, compare_all, nudged
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import OUTPUT, Subject
from bp_torch.gradients.verdict import compare


def by_reference(subject: Subject, check: str, copy: Copy, upstream: Tensor) -> Iterator[Result]:
    """Compare each input's gradient with the reference's: in the same dtype, and in float64."""

    def draw(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
        call = copy.call.at([nudged(x, generator) for x in copy.call.inputs])
        return call.pull(upstream), *reference_gradients(subject, call, upstream)

    comparisons = compare_all(draw, subject.scales)
    hand, _, truth = draw(None) if any(not c.passed for c in comparisons) else ({}, {}, {})
    for comparison in comparisons:
        hint = ""
        if not comparison.passed:
            mistake = hints.Mistake(comparison, hand[comparison.name], truth[comparison.name], copy.call, upstream)
            hint = hints.of_gradient(mistake)
        yield subject.result(check, copy, comparison, hint)


def reference_gradients(subject: Subject, call: Call, upstream: Tensor) -> tuple[Gradients, Gradients]:
    """The reference's gradients in the call's dtype, and in float64 on the same numbers."""
    assert subject.reference is not None
    builtin = call.of(subject.reference).pull(upstream)
    if call.dtype == torch.float64:
        return builtin, builtin
    return builtin, call.to(torch.float64).of(subject.reference).pull(upstream.double())


def value(subject: Subject, copy: Copy) -> Result:
    """Compare the value itself with the reference's."""
    assert subject.reference is not None
    hand, builtin = copy.call.value(), copy.call.of(subject.reference).value()
    if hand.shape != builtin.shape or hand.dtype != builtin.dtype:
        shapes = f"{hand.dtype} {tuple(hand.shape)} where the reference returns {builtin.dtype} {tuple(builtin.shape)}"
        return subject.failed("value", copy, f"returns {shapes}")
    truth = copy.call.to(torch.float64).of(subject.reference).value()
    return subject.result("value", copy, compare(OUTPUT, hand, builtin, truth, scale=subject.scales[OUTPUT]))
