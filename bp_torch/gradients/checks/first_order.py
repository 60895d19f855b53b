"""Is the gradient right, at the sample and at copies of it?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bp_torch.gradients.by_differences import by_differences
from bp_torch.gradients.by_reference import by_reference, reference_gradients, value
from bp_torch.gradients.copies import Copy, copies
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import Subject, first_line

MOST_ONE_HOTS = 6


def judged(subject: Subject, check: str, copy: Copy, upstream: Tensor) -> Iterator[Result]:
    """Whether the gradient is right there, by the judge there is."""
    judge = by_differences if subject.reference is None else by_reference
    try:
        yield from judge(subject, check, copy, upstream)
    except Exception as error:  # whatever a hand-written backward raises; the judge was asked before
        yield subject.raised(check, copy, error)


def gradient(subject: Subject) -> Iterator[Result]:
    """The gradient at the sample, for random and one-hot upstream gradients."""
    if subject.reference is not None:
        yield value(subject, subject.given)
    for upstream, label in _upstreams(subject):
        yield from judged(subject, "gradient", subject.given.under(label) if label else subject.given, upstream)


def gradient_of_copies(subject: Subject) -> Iterator[Result]:
    """The gradient at other values and sizes."""
    for copy in copies(subject.call, subject.generator):
        if not in_domain(subject, copy):
            continue
        try:
            found = copy.call.value()
        except Exception as error:  # it takes fewer arguments than its judge
            yield subject.not_offered("gradient", copy, f"raised {first_line(error)}")
            continue
        if subject.reference is not None:
            yield value(subject, copy)
        yield from judged(subject, "gradient", copy, subject.signed(found))


def differences(subject: Subject) -> Iterator[Result]:
    """The gradient against the function's own values, also where there is a reference.

    A reference that is itself not the derivative of its value, as one that reverses or clips a gradient, is believed.
    """
    if subject.reference is None:
        return
    found = list(by_differences(subject, "finite differences", subject.given, subject.upstream))
    if any(result.status == "failed" for result in found):
        call = subject.call.of(subject.reference)
        reference = by_differences(subject, "", Copy("given", "", call), subject.upstream)
        if any(result.status == "failed" for result in reference):
            reason = "the reference's gradient is not the derivative of its value either"
            yield subject.not_offered("finite differences", subject.given, reason)
            return
    yield from found


def _upstreams(subject: Subject) -> Iterator[tuple[Tensor, str]]:
    yield subject.upstream, ""
    yield subject.signed(subject.upstream), "another upstream gradient"
    size = subject.upstream.numel()
    chosen = torch.randperm(size, generator=subject.generator)[: MOST_ONE_HOTS if size > 1 else 0]
    for place in chosen.tolist():
        one_hot = torch.zeros_like(subject.upstream, memory_format=torch.contiguous_format)
        one_hot.view(-1)[place] = 1
        yield one_hot, f"one-hot upstream gradient at {place}"


def in_domain(subject: Subject, copy: Copy) -> bool:
    """Whether the judge is defined at a copy: it raises nothing, and its value and gradients are finite."""
    try:
        found = copy.call.of(subject.reference or subject.call.function).value()
        if not found.isfinite().all():
            return False
        if subject.reference is None:
            return True
        gradients, _ = reference_gradients(subject, copy.call, torch.ones_like(found))
    except Exception:  # whatever a function raises outside of its domain
        return False
    return all(gradient.isfinite().all() for gradient in gradients.values())
