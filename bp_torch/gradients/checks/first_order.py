"""Checks of value and gradient: at the sample, at its variants, and in lower precision."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.case import OUTPUT, CheckCase, Outcomes, catch_errors, max_abs
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.finite_difference_check import compare_with_differences
from bp_torch.gradients.perturbation import GradientTriple, compare_all, perturbed
from bp_torch.gradients.report import Outcome, comparison_outcome, failed, unsupported
from bp_torch.gradients.variants import Variant

MAX_ONE_HOTS = 6


def compare_gradients(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """Compare the gradients at a variant with the reference, or with finite differences without one."""
    method = compare_with_differences if case.reference is None else _compare_with_reference
    return catch_errors(variant, method(case, variant, upstream))


def value(case: CheckCase) -> Outcomes:
    """The value at the sample equals the reference's."""
    if case.reference is not None:
        yield case.as_given, _compare_value(case, case.as_given)


def value_of_variants(case: CheckCase) -> Outcomes:
    """The value at each variant equals the reference's."""
    for variant, error in case.variants if case.reference is not None else ():
        if error is None:
            yield variant, _compare_value(case, variant)


def gradient(case: CheckCase) -> Outcomes:
    """The gradient at the sample is correct for random, all-one and one-hot upstream gradients."""
    yield from compare_gradients(case, case.as_given, case.upstream)
    ones = torch.ones_like(case.upstream)
    yield from compare_gradients(case, case.as_given.under("upstream gradient of ones"), ones)
    size = case.upstream.numel()
    indices = torch.randperm(size, generator=case.generator)[: MAX_ONE_HOTS if size > 1 else 0]
    for index in indices.tolist():
        one_hot = torch.zeros_like(case.upstream, memory_format=torch.contiguous_format)
        one_hot.view(-1)[index] = 1
        yield from compare_gradients(case, case.as_given.under(f"one-hot upstream gradient at {index}"), one_hot)


def gradient_of_variants(case: CheckCase) -> Outcomes:
    """The gradient at each variant is correct."""
    for variant, error in case.variants:
        if error is None:
            yield from compare_gradients(case, variant, case.random_like(variant.value))
        else:
            yield variant, unsupported(error)


def finite_differences(case: CheckCase) -> Outcomes:
    """The gradient agrees with finite differences in float64, in addition to the reference."""
    if case.reference is None:
        return
    if case.call.dtype != torch.float64 or has_reduced_precision(case.call):
        yield case.as_given, unsupported("the values are less accurate than float64")
        return
    for variant, outcome in compare_with_differences(case, case.as_given, case.upstream):
        yield variant, unsupported(outcome.message) if outcome.status == "inconclusive" else outcome


def precision(case: CheckCase) -> Outcomes:
    """The gradient in a dtype below float64 is correct up to rounding errors.

    With a reference, it must be as accurate as the reference in the same dtype. Without one, the truth is the
    function's own gradient in float64, already compared with finite differences, and the usual rounding error is
    unknown. Then an error that changes at perturbed inputs is allowed to be √ε, half of the digits.
    """
    try:
        case.call.value()
        case.oracle.value()
    except Exception as error:  # an unsupported dtype may raise anything
        yield case.as_given, unsupported(error)
        return
    for variant, outcome in _compare_with_reference(case, case.as_given, case.upstream):
        comparison = outcome.comparison
        if case.reference is None and comparison and comparison.lost_to_rounding:
            half = math.sqrt(torch.finfo(case.call.dtype).eps) * max_abs(case.gradients[comparison.name])
            if comparison.error <= half:
                outcome = replace(outcome, status="passed", ratio=comparison.error / half)
        yield variant, outcome


def _compare_with_reference(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """Compare the gradient of each input with the oracle's in the same dtype and in float64."""

    def evaluate(generator: torch.Generator | None) -> GradientTriple:
        call = variant.call.at([perturbed(x, generator) for x in variant.call.inputs])
        oracle, grad_output = call.of(case.oracle.function), perturbed(upstream, generator)
        hand, truth = call.vjp(grad_output), oracle.to(torch.float64).vjp(grad_output.double())
        if call.dtype == torch.float64:
            return hand, truth, truth
        rounded = {name: gradient.to(call.dtype) for name, gradient in truth.items()}
        return hand, rounded if case.reference is None else oracle.vjp(grad_output), truth

    first = hand, _, truth = evaluate(None)
    for comparison in compare_all(evaluate, case.scales, first=first):
        name, hint = comparison.name, ""
        if not comparison.passed:
            hint = hints.for_gradient(comparison, hand[name], truth[name], variant.call, upstream)
        yield variant, comparison_outcome(comparison, hint)


def _compare_value(case: CheckCase, variant: Variant) -> Outcome:
    oracle = variant.call.of(case.oracle.function)
    hand, builtin = variant.value, oracle.value()
    if hand.shape != builtin.shape or hand.dtype != builtin.dtype:
        shapes = f"{hand.dtype} {tuple(hand.shape)} but the reference {builtin.dtype} {tuple(builtin.shape)}"
        return failed(f"returns {shapes}")
    truth = builtin if variant.call.dtype == torch.float64 else oracle.to(torch.float64).value()
    return comparison_outcome(compare(OUTPUT, hand, builtin, truth, scale=case.scales[OUTPUT]))
