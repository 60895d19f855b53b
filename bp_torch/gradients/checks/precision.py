"""Is the gradient as exact as its dtype allows? Below float64, rounding must be distinguished from a wrong equation."""

import math
from dataclasses import replace

import torch

from bp_torch.gradients.by_reference import by_reference
from bp_torch.gradients.case import CheckCase, Pairs, largest_of
from bp_torch.gradients.perturbation import GradientTriple, compare_all, perturbed
from bp_torch.gradients.report import compared, unsupported


def precision(case: CheckCase) -> Pairs:
    """The gradient in the sample's own dtype.

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
    if case.reference is not None:
        yield from by_reference(case, case.given, case.upstream)
        return
    first = _beside_float64(case, None)
    sizes = {name: max(size, case.uncancelled[name]) for name, size in case.scales.items()}
    for comparison in compare_all(lambda generator: _beside_float64(case, generator), sizes, first=first):
        outcome = compared(comparison)
        half = math.sqrt(torch.finfo(case.call.dtype).eps) * largest_of(first[2][comparison.name])
        if comparison.lost_to_rounding and comparison.error <= half:
            outcome = replace(outcome, status="passed", ratio=comparison.error / half)
        yield case.given, outcome


def _beside_float64(case: CheckCase, generator: torch.Generator | None) -> GradientTriple:
    call = case.call.at([perturbed(x, generator) for x in case.call.inputs])
    upstream = perturbed(case.upstream, generator)
    truth = call.to(torch.float64).pull(upstream.double())
    rounded = {name: gradient.to(call.dtype) for name, gradient in truth.items()}
    return call.pull(upstream), rounded, truth
