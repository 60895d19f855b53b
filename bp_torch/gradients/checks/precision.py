"""Is the gradient as exact as its dtype allows? Below float64, where rounding must be told from a wrong equation."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from bp_torch.gradients.by_reference import by_reference
from bp_torch.gradients.nudging import Three, compare_all, nudged
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import Subject, first_line, largest_of


def precision(subject: Subject) -> Iterator[Result]:
    """The gradient in the sample's own dtype.

    With a reference, by the rule: as near to the truth as the reference in the same dtype. Without one, the truth is
    the function's own gradient in float64, which finite differences have judged, and nobody knows how much rounding is
    in order: an error then counts if it is a wrong equation's, or takes more than half of the digits.
    """
    check = f"gradient in {str(subject.call.dtype).removeprefix('torch.')}"
    try:
        subject.call.value()
        subject.judge.value()
    except Exception as error:  # whatever a function, or its reference, raises for a dtype it does not take
        yield subject.not_offered(check, subject.given, f"raised {first_line(error)}")
        return
    if subject.reference is not None:
        yield from by_reference(subject, check, subject.given, subject.upstream)
        return
    first = _beside_float64(subject, None)
    sizes = {name: max(size, subject.uncancelled[name]) for name, size in subject.scales.items()}
    comparisons = compare_all(lambda nudge: _beside_float64(subject, nudge), sizes, first=first)
    for comparison in comparisons:
        result = subject.result(check, subject.given, comparison)
        half = math.sqrt(torch.finfo(subject.call.dtype).eps) * largest_of(first[2][comparison.name])
        if comparison.lost_to_rounding and comparison.error <= half:
            result = replace(result, status="passed", ratio=comparison.error / half)
        yield result


def _beside_float64(subject: Subject, generator: torch.Generator | None) -> Three:
    call = subject.call.at([nudged(x, generator) for x in subject.call.inputs])
    upstream = nudged(subject.upstream, generator)
    truth = call.to(torch.float64).pull(upstream.double())
    rounded = {name: gradient.to(call.dtype) for name, gradient in truth.items()}
    return call.pull(upstream), rounded, truth
