"""Checks of value and gradient: at the sample, at its variants, and in lower precision."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call
from bp_torch.gradients.case import OUTPUT, CheckCase, Outcomes, catch_errors, max_abs
from bp_torch.gradients.coarse_differences import compare_coarsely
from bp_torch.gradients.comparison import Comparison, compare
from bp_torch.gradients.differences import rounding_spread
from bp_torch.gradients.finite_difference_check import compare_with_differences, side_of_differences
from bp_torch.gradients.perturbation import GradientTriple, compare_all, perturbed
from bp_torch.gradients.report import Outcome, comparison_outcome, failed, left_out, unsupported
from bp_torch.gradients.variants import Variant

MAX_ONE_HOTS = 6
SMALL_CHANGE = 2.0**-46
"""Relative change of the inputs that shows how a gradient depends on their rounding errors."""
ILL_CONDITIONED = 1e-6
"""Relative change of a gradient, after such a change of the inputs, above which it is not compared."""
SUBGRADIENT = "a valid choice at this kink, but not the reference's"
REFERENCE_WRONG = "the reference is wrong here: finite differences agree with the function"


def compare_gradients(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """Compare the gradients at a variant with the reference, or with finite differences without one."""
    if case.reference is not None:
        outcomes = _compare_with_reference(case, variant, upstream)
    elif case.call.dtype == torch.float64:
        outcomes = compare_with_differences(case, variant, upstream)
    else:
        outcomes = compare_coarsely(case, variant, upstream)
    return catch_errors(variant, outcomes)


def value(case: CheckCase) -> Outcomes:
    """The value at the sample equals the reference's."""
    if case.reference is not None:
        yield case.as_given, _compare_value(case, case.as_given)


def value_of_variant(case: CheckCase, variant: Variant) -> Outcomes:
    """The value at a variant equals the reference's."""
    if case.reference is not None:
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


def gradient_of_variant(case: CheckCase, variant: Variant) -> Outcomes:
    """The gradient at a variant is correct; without a reference, where all is equal or zero, it is finite."""
    upstream = case.random_like(variant.value)
    if case.reference is None and variant.kind == "constant":
        yield from _is_number(variant, upstream)
    elif variant.kind == "empty":
        yield from _of_empty_batch(case, variant, upstream)
    else:
        yield from compare_gradients(case, variant, upstream)


def _of_empty_batch(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """The gradient of no examples, which a backward may reject."""
    try:
        variant.call.vjp(upstream)
    except Exception as error:  # usually from a hand-written backward
        yield variant, unsupported(error)
        return
    check = _is_number(variant, upstream) if case.reference is None else compare_gradients(case, variant, upstream)
    yield from check


def _is_number(variant: Variant, upstream: Tensor) -> Outcomes:
    """At ties only a reference defines the correct gradient, but NaN is never correct."""
    for name, gradient in variant.call.vjp(upstream).items():
        hint = "0/0, or 0 times infinity: is a norm or a square root differentiated at 0?"
        wrong = failed("the gradient is NaN where the value is finite", input=name, hint=hint)
        yield variant, wrong if gradient.isnan().any() else Outcome("passed", name)


def finite_differences(case: CheckCase) -> Outcomes:
    """The gradient agrees with finite differences in float64, in addition to the reference."""
    if case.reference is None:
        return
    if case.call.dtype != torch.float64:
        yield case.as_given, unsupported("the values are less accurate than float64")
        return
    for variant, outcome in compare_with_differences(case, case.as_given, case.upstream):
        yield variant, unsupported(outcome.message) if outcome.status == "inconclusive" else outcome


def _compare_with_reference(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """Compare the gradient of each input with the oracle's in the same dtype and in float64."""

    def evaluate(generator: torch.Generator | None) -> GradientTriple:
        call = variant.call.at([perturbed(x, generator) for x in variant.call.inputs])
        oracle, grad_output = call.of(case.oracle.function), perturbed(upstream, generator)
        hand, truth = call.vjp(grad_output), oracle.to(torch.float64).vjp(grad_output.double())
        if call.dtype == torch.float64:
            return hand, truth, truth
        return hand, oracle.vjp(grad_output), truth

    first = hand, _, truth = evaluate(None)
    for comparison in compare_all(evaluate, case.scales, first=first):
        name = comparison.name
        if comparison.passed:
            yield variant, comparison_outcome(comparison)
            continue
        if variant.call.dtype == torch.float64:
            comparison = replace(comparison, typical_error=_rounding_of_reference(case, variant, upstream, name))
        elif (comparison := _with_spread(case, variant, upstream, comparison)).passed:
            yield variant, comparison_outcome(comparison)
            continue
        hint = hints.for_gradient(comparison, hand[name], truth[name], variant.call, upstream)
        outcome = comparison_outcome(comparison, hint)
        yield variant, _decided(case, variant, upstream, outcome, hand[name], truth[name])


def _with_spread(case: CheckCase, variant: Variant, upstream: Tensor, comparison: Comparison) -> Comparison:
    """The comparison with the rounding errors of a reference that has float32 inside."""
    oracle = variant.call.of(case.oracle.function)
    spread = rounding_spread(lambda call: call.vjp(upstream)[comparison.name], oracle)
    return replace(comparison, typical_error=max(comparison.reference_error, max_abs(spread)))


def _rounding_of_reference(case: CheckCase, variant: Variant, upstream: Tensor, name: str) -> float:
    """How much the reference's gradient varies if all numbers change by some roundings.

    Two changes to the same side are compared, so that a step to one side of a kink does not count.
    """
    oracle = variant.call.of(case.oracle.function)
    largest = 0.0
    for side in (SMALL_CHANGE, -SMALL_CHANGE):
        try:
            near, far = (oracle.times(1 + count * side).vjp(upstream)[name] for count in (1, 3))
        except Exception:  # outside the domain, a function may raise anything
            continue
        largest = max(largest, max_abs(near - far))
    return largest


def _decided(
    case: CheckCase, variant: Variant, upstream: Tensor, outcome: Outcome, hand: Tensor, reference: Tensor
) -> Outcome:
    """A difference from the reference, decided by finite differences in float64 where they can."""
    comparison = outcome.comparison
    if comparison is None or comparison.passed or variant.call.dtype != torch.float64:
        return outcome
    if comparison.reference_error > ILL_CONDITIONED * max_abs(reference):
        return left_out("ill-conditioned: rounding errors of the inputs change the reference's gradient")
    if not case.decides or not hand.isfinite().all():
        return outcome
    oracle = replace(variant, call=variant.call.of(case.oracle.function))
    ours = side_of_differences(case, variant, upstream, comparison.name, hand)
    theirs = side_of_differences(case, oracle, upstream, comparison.name, reference)
    if ours == "subgradient" and theirs == "subgradient":
        message = re.sub("WRONG EQUATION|LOST TO ROUNDING", "OTHER SUBGRADIENT", outcome.message)
        return replace(outcome, hint=SUBGRADIENT, message=message)
    if ours in ("agrees", "subgradient") and theirs == "disagrees":
        return replace(outcome, status="reference", message=f"{REFERENCE_WRONG}\n{outcome.message}", hint="")
    return outcome


def _compare_value(case: CheckCase, variant: Variant) -> Outcome:
    oracle = variant.call.of(case.oracle.function)
    hand, builtin = variant.value, oracle.value()
    if hand.shape != builtin.shape or hand.dtype != builtin.dtype:
        shapes = f"{hand.dtype} {tuple(hand.shape)} but the reference {builtin.dtype} {tuple(builtin.shape)}"
        return failed(f"returns {shapes}")
    truth = builtin if variant.call.dtype == torch.float64 else oracle.to(torch.float64).value()
    comparison = compare(OUTPUT, hand, builtin, truth, scale=case.scales[OUTPUT])
    if not comparison.passed and not case.has_float64:
        comparison = replace(comparison, typical_error=max_abs(rounding_spread(Call.value, oracle)))
    return comparison_outcome(comparison)
