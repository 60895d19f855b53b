"""Are value and gradient right: at the sample, at its variants, in every dtype?"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.by_differences import by_differences
from bp_torch.gradients.case import OUTPUT, CheckCase, Pairs, attempt, largest_of
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.perturbation import GradientTriple, compare_all, perturbed
from bp_torch.gradients.report import Outcome, compared, failed, unsupported
from bp_torch.gradients.variants import Variant

MOST_ONE_HOTS = 6


def compare_gradients(case: CheckCase, variant: Variant, upstream: Tensor) -> Pairs:
    """Whether the gradients are right there, by the reference or else by finite differences."""
    method = by_differences if case.reference is None else _by_reference
    return attempt(variant, method(case, variant, upstream))


def value(case: CheckCase) -> Pairs:
    """The value at the sample is the reference's."""
    if case.reference is not None:
        yield case.given, _value_by_reference(case, case.given)


def value_of_variants(case: CheckCase) -> Pairs:
    """The value at other numbers and sizes is the reference's."""
    for variant, error in case.variants if case.reference is not None else ():
        if error is None:
            yield variant, _value_by_reference(case, variant)


def gradient(case: CheckCase) -> Pairs:
    """The gradient at the sample, for upstream gradients that are random, ones as of a sum, and one-hot."""
    yield from compare_gradients(case, case.given, case.upstream)
    ones = torch.ones_like(case.upstream)
    yield from compare_gradients(case, case.given.under("upstream gradient of ones"), ones)
    size = case.upstream.numel()
    chosen = torch.randperm(size, generator=case.generator)[: MOST_ONE_HOTS if size > 1 else 0]
    for place in chosen.tolist():
        one_hot = torch.zeros_like(case.upstream, memory_format=torch.contiguous_format)
        one_hot.view(-1)[place] = 1
        yield from compare_gradients(case, case.given.under(f"one-hot upstream gradient at {place}"), one_hot)


def gradient_of_variants(case: CheckCase) -> Pairs:
    """The gradient at other numbers and sizes."""
    for variant, error in case.variants:
        if error is None:
            yield from compare_gradients(case, variant, case.signed(variant.value))
        else:
            yield variant, unsupported(error)


def finite_differences(case: CheckCase) -> Pairs:
    """The gradient against the function's own values, in float64, where there is a reference too."""
    if case.reference is None:
        return
    if case.call.dtype != torch.float64 or has_reduced_precision(case.call):
        yield case.given, unsupported("the values are less exact than float64")
        return
    for variant, found in by_differences(case, case.given, case.upstream):
        yield variant, unsupported(found.message) if found.status == "inconclusive" else found


def precision(case: CheckCase) -> Pairs:
    """The gradient below float64, where rounding must be distinguished from a wrong equation.

    With a reference: it is as near to the truth as the reference in the same dtype. Without one, the truth is the
    function's own gradient in float64, which finite differences have confirmed, and the usual rounding error is
    unknown. An error then counts if it is a wrong equation's, or larger than half of the digits.
    """
    try:
        case.call.value()
        case.oracle.value()
    except Exception as error:  # whatever a function, or its reference, raises for a dtype it does not take
        yield case.given, unsupported(error)
        return
    for variant, outcome in _by_reference(case, case.given, case.upstream):
        found = outcome.comparison
        if case.reference is None and found and found.lost_to_rounding:
            half = math.sqrt(torch.finfo(case.call.dtype).eps) * largest_of(case.gradients[found.name])
            if found.error <= half:
                outcome = replace(outcome, status="passed", ratio=found.error / half)
        yield variant, outcome


def _by_reference(case: CheckCase, variant: Variant, upstream: Tensor) -> Pairs:
    """Compare each input's gradient with the oracle's: in the same dtype, and in float64 on the same numbers."""

    def evaluate(generator: torch.Generator | None) -> GradientTriple:
        call = variant.call.at([perturbed(x, generator) for x in variant.call.inputs])
        oracle, sent = call.of(case.oracle.function), perturbed(upstream, generator)
        hand, truth = call.pull(sent), oracle.to(torch.float64).pull(sent.double())
        if call.dtype == torch.float64:
            return hand, truth, truth
        rounded = {name: gradient.to(call.dtype) for name, gradient in truth.items()}
        return hand, rounded if case.reference is None else oracle.pull(sent), truth

    first = hand, _, truth = evaluate(None)
    for comparison in compare_all(evaluate, case.scales, first=first):
        name, hint = comparison.name, ""
        if not comparison.passed:
            hint = hints.of_gradient(comparison, hand[name], truth[name], variant.call, upstream)
        yield variant, compared(comparison, hint)


def _value_by_reference(case: CheckCase, variant: Variant) -> Outcome:
    oracle = variant.call.of(case.oracle.function)
    hand, builtin = variant.value, oracle.value()
    if hand.shape != builtin.shape or hand.dtype != builtin.dtype:
        shapes = f"{hand.dtype} {tuple(hand.shape)} where the reference returns {builtin.dtype} {tuple(builtin.shape)}"
        return failed(f"returns {shapes}")
    truth = builtin if variant.call.dtype == torch.float64 else oracle.to(torch.float64).value()
    return compared(compare(OUTPUT, hand, builtin, truth, scale=case.scales[OUTPUT]))
