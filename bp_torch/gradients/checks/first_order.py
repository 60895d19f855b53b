"""Is the gradient right, at the sample and at its variants?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bp_torch.gradients.by_differences import by_differences
from bp_torch.gradients.by_reference import by_reference, value
from bp_torch.gradients.differences import stands_still
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import Subject
from bp_torch.gradients.variants import Variant

MOST_ONE_HOTS = 6


def judged(subject: Subject, check: str, variant: Variant, upstream: Tensor) -> Iterator[Result]:
    """Whether the gradient is right there, by the judge there is."""
    judge = by_differences if subject.reference is None else by_reference
    try:
        yield from judge(subject, check, variant, upstream)
    except Exception as error:  # whatever a hand-written backward raises; the judge was asked before
        yield subject.raised(check, variant, error)


def gradient(subject: Subject) -> Iterator[Result]:
    """The gradient at the sample, for upstream gradients that are random, ones as of a sum, and one-hot."""
    if subject.reference is not None:
        yield value(subject, subject.given)
    for upstream, label in _upstreams(subject):
        yield from judged(subject, "gradient", subject.given.under(label) if label else subject.given, upstream)


def gradient_of_variants(subject: Subject) -> Iterator[Result]:
    """The gradient at other values and sizes; where all numbers are equal, only a reference knows what is right."""
    kinds = ("scaled", "kink", "size") if subject.reference is None else ("scaled", "kink", "size", "constant")
    for variant in subject.variants("gradient", *kinds):
        if isinstance(variant, Result):
            yield variant
            continue
        if subject.reference is not None:
            yield value(subject, variant)
        yield from judged(subject, "gradient", variant, subject.signed(variant.value))


def differences(subject: Subject) -> Iterator[Result]:
    """The gradient against the function's own values, in float64, also where there is a reference."""
    check = "finite differences"
    if subject.reference is None:
        return
    if subject.call.dtype != torch.float64 or stands_still(subject.call):
        yield subject.not_offered(check, subject.given, "the values are less exact than float64")
        return
    for result in by_differences(subject, check, subject.given, subject.upstream):
        rough = result.status == "not judged"
        yield subject.not_offered(check, subject.given, result.message) if rough else result


def _upstreams(subject: Subject) -> Iterator[tuple[Tensor, str]]:
    yield subject.upstream, ""
    yield torch.ones_like(subject.upstream), "upstream gradient of ones"
    size = subject.upstream.numel()
    chosen = torch.randperm(size, generator=subject.generator)[: MOST_ONE_HOTS if size > 1 else 0]
    for place in chosen.tolist():
        one_hot = torch.zeros_like(subject.upstream, memory_format=torch.contiguous_format)
        one_hot.view(-1)[place] = 1
        yield one_hot, f"one-hot upstream gradient at {place}"
