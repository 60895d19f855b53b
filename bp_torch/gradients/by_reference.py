"""Judged by a reference: PyTorch's own function, or whatever else is known to be right."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.nudging import Three, compare_all, nudged
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import OUTPUT, Subject
from bp_torch.gradients.variants import Variant
from bp_torch.gradients.verdict import compare


def by_reference(subject: Subject, check: str, variant: Variant, upstream: Tensor) -> Iterator[Result]:
    """Compare each input's gradient with the reference's: in the same dtype, and in float64 on the same numbers."""

    def draw(generator: torch.Generator | None) -> Three:
        call = variant.call.at([nudged(x, generator) for x in variant.call.inputs])
        judge, sent = call.of(subject.judge.function), nudged(upstream, generator)
        builtin = judge.pull(sent)
        wide = call.dtype == torch.float64
        return call.pull(sent), builtin, builtin if wide else judge.to(torch.float64).pull(sent.double())

    first = hand, _, truth = draw(None)
    for comparison in compare_all(draw, subject.scales, first=first):
        hint = ""
        if not comparison.passed:
            mistake = hints.Mistake(comparison, hand[comparison.name], truth[comparison.name], variant.call, upstream)
            hint = hints.of_gradient(mistake)
        yield subject.result(check, variant, comparison, hint)


def value(subject: Subject, variant: Variant) -> Result:
    """Compare the value itself with the reference's."""
    judge = variant.call.of(subject.judge.function)
    hand, builtin = variant.value, judge.value()
    if hand.shape != builtin.shape or hand.dtype != builtin.dtype:
        shapes = f"{hand.dtype} {tuple(hand.shape)} where the reference returns {builtin.dtype} {tuple(builtin.shape)}"
        return subject.failed("value", variant, f"returns {shapes}")
    truth = builtin if variant.call.dtype == torch.float64 else judge.to(torch.float64).value()
    return subject.result("value", variant, compare(OUTPUT, hand, builtin, truth, scale=subject.scales[OUTPUT]))
