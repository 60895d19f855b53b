"""Is the gradient right, at the sample and at its variants?"""

import torch
from torch import Tensor

from bp_torch.gradients.by_differences import by_differences
from bp_torch.gradients.by_reference import by_reference, value_by_reference
from bp_torch.gradients.case import CheckCase, Pairs, attempt
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.report import unsupported
from bp_torch.gradients.variants import Variant

MOST_ONE_HOTS = 6


def compare_gradients(case: CheckCase, variant: Variant, upstream: Tensor) -> Pairs:
    """Whether the gradients are right there, by the reference or else by finite differences."""
    method = by_differences if case.reference is None else by_reference
    return attempt(variant, method(case, variant, upstream))


def value(case: CheckCase) -> Pairs:
    """The value at the sample is the reference's."""
    if case.reference is not None:
        yield case.given, value_by_reference(case, case.given)


def value_of_variants(case: CheckCase) -> Pairs:
    """The value at other numbers and sizes is the reference's."""
    for variant, error in case.variants if case.reference is not None else ():
        if error is None:
            yield variant, value_by_reference(case, variant)


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
