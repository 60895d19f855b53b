"""Comparison with a reference: PyTorch's own function, or another that is known to be right."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.case import OUTPUT, CheckCase
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.perturbation import GradientTriple, compare_all, perturbed
from bp_torch.gradients.report import Outcome, compared, failed
from bp_torch.gradients.variants import Variant


def by_reference(case: CheckCase, variant: Variant, upstream: Tensor) -> Iterator[tuple[Variant, Outcome]]:
    """Compare each input's gradient with the reference's: in the same dtype, and in float64 on the same numbers."""

    def evaluate(generator: torch.Generator | None) -> GradientTriple:
        call = variant.call.at([perturbed(x, generator) for x in variant.call.inputs])
        oracle, sent = call.of(case.oracle.function), perturbed(upstream, generator)
        builtin = oracle.pull(sent)
        wide = call.dtype == torch.float64
        return call.pull(sent), builtin, builtin if wide else oracle.to(torch.float64).pull(sent.double())

    first = hand, _, truth = evaluate(None)
    for comparison in compare_all(evaluate, case.scales, first=first):
        name, hint = comparison.name, ""
        if not comparison.passed:
            hint = hints.of_gradient(hints.Mistake(comparison, hand[name], truth[name], variant.call, upstream))
        yield variant, compared(comparison, hint)


def value_by_reference(case: CheckCase, variant: Variant) -> Outcome:
    """Compare the value itself with the reference's."""
    oracle = variant.call.of(case.oracle.function)
    hand, builtin = variant.value, oracle.value()
    if hand.shape != builtin.shape or hand.dtype != builtin.dtype:
        shapes = f"{hand.dtype} {tuple(hand.shape)} where the reference returns {builtin.dtype} {tuple(builtin.shape)}"
        return failed(f"returns {shapes}")
    truth = builtin if variant.call.dtype == torch.float64 else oracle.to(torch.float64).value()
    return compared(compare(OUTPUT, hand, builtin, truth, scale=case.scales[OUTPUT]))
