"""Does the backward behave? It is linear, leaves its arguments alone, and does not depend on circumstances."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, copied, pulled_back
from bp_torch.gradients.copies import expanded, strided, transposed
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import OUTPUT, Subject, first_line
from bp_torch.gradients.verdict import distance

REPETITIONS = 8
MOST_INPUTS = 4
"""With more, not every subset of them is tried."""


def side_effects(subject: Subject) -> Iterator[Result]:
    """Arguments and upstream gradient are left as they were, and no gradient is put where nobody asked for it."""
    passed, upstream = subject.call.fresh(), copied(subject.upstream)
    for leaf in passed.inputs:
        leaf.requires_grad_()
    output = passed.output()
    value = output.detach().clone()
    found, expected = _tensors(passed), _tensors(subject.call)
    yield from _unchanged(subject, "the forward", found, expected)
    pulled_back(output, passed.inputs, upstream)
    found |= {"grad_output": upstream, "output": output}
    expected |= {"grad_output": subject.upstream, "output": value}
    yield from _unchanged(subject, "the backward", found, expected)
    for name, leaf in zip(passed.names.values(), passed.inputs, strict=True):
        if leaf.grad is not None:
            yield subject.failed("side effects", subject.given, f"the backward set {name}.grad itself", input=name)


def linearity(subject: Subject) -> Iterator[Result]:
    """The gradient is linear in the upstream gradient: of every scale, for a sum, and for zeros."""
    one, other = subject.upstream, subject.signed(subject.upstream)
    first, second = subject.gradients, subject.call.pull(other)
    power = 4 if torch.finfo(one.dtype).bits < 32 else 20
    for factor in (2.0**power, 2.0**-power):  # which floating-point numbers take without rounding
        scaled = {name: gradient / factor for name, gradient in subject.call.pull(factor * one).items()}
        yield from subject.same("linearity", f"upstream gradient times {factor:.3g}", scaled, first)
    total = {name: first[name] / 2 + second[name] / 4 for name in first}
    summed = subject.call.pull(one / 2 + other / 4)
    yield from subject.same("linearity", "a sum of two upstream gradients", summed, total)
    if all(gradient.isfinite().all() for gradient in first.values()):
        nothing = {name: torch.zeros_like(gradient) for name, gradient in first.items()}
        found = subject.call.pull(torch.zeros_like(one))
        yield from subject.same("linearity", "upstream gradient of zeros", found, nothing)


def subsets(subject: Subject) -> Iterator[Result]:
    """Each gradient is the same whichever other inputs need one."""
    positions = list(subject.call.names)
    sizes = range(1, len(positions)) if len(positions) <= MOST_INPUTS else (1, len(positions) - 1)
    for size in sizes:
        for needing in combinations(positions, size):
            names = ", ".join(subject.call.names[position] for position in needing)
            found = subject.call.pull(subject.upstream, needing)
            yield from subject.same("subsets of inputs", f"only {names} in need", found, subject.gradients)


def layouts(subject: Subject) -> Iterator[Result]:
    """The gradient does not depend on how inputs and upstream gradient lie in memory."""
    call, upstream = subject.call, subject.upstream
    for how in (strided, transposed):
        restrided = call.at([how(x) for x in call.inputs])
        yield from _laid_out(subject, f"{how.__name__} inputs", restrided, upstream, subject.gradients)
        yield from _laid_out(subject, f"{how.__name__} upstream gradient", call, how(upstream), subject.gradients)
    repeated = call.at([expanded(x) for x in call.inputs])
    dense = call.at([x.contiguous() for x in repeated.inputs]).pull(upstream)
    yield from _laid_out(subject, "expanded inputs", repeated, upstream, dense)
    ones = torch.ones_like(upstream, memory_format=torch.contiguous_format)
    single = ones.new_ones(()).expand(ones.shape)  # what y.sum().backward() sends
    yield from _laid_out(subject, "expanded upstream gradient", call, single, call.pull(ones))


def repeatability(subject: Subject) -> Iterator[Result]:
    """The same question has the same answer: asked anew, of the same graph, and with another call under way."""
    call, upstream, expected = subject.call, subject.upstream, subject.gradients
    names = list(call.names.values())
    for _ in range(REPETITIONS):
        yield from subject.same("repeatability", "asked again", call.pull(upstream), expected)
    output, leaves = call.run()
    other_output, other_leaves = call.at([0.7 * x for x in call.inputs]).run()
    pulled_back(other_output, other_leaves, subject.signed(other_output))
    for asked in ("two calls under way", "the same graph again"):
        found = dict(zip(names, pulled_back(output, leaves, upstream, retain_graph=True), strict=True))
        yield from subject.same("repeatability", asked, found, expected)


def saved_tensors(subject: Subject) -> Iterator[Result]:
    """What the backward needs is kept by save_for_backward: if it is changed meanwhile, that is noticed."""
    for what in (*subject.call.names.values(), OUTPUT):
        leaves = subject.call.fresh().inputs
        inner = subject.call.fresh().at([leaf.requires_grad_().clone() for leaf in leaves])
        output = inner.output()
        changed = {**dict(zip(inner.names.values(), inner.inputs, strict=True)), OUTPUT: output}[what]
        under = f"{what} changed in place meanwhile"
        try:
            with torch.no_grad():
                changed.add_(1).mul_(-0.5)
            found = pulled_back(output, leaves, subject.upstream)
        except RuntimeError:  # it is noticed
            yield subject.passed("saved tensors", subject.given.under(under))
            continue
        gradients = dict(zip(subject.call.names.values(), found, strict=True))
        yield from subject.same("saved tensors", under, gradients, subject.gradients)


def _tensors(call: Call) -> dict[str, Tensor]:
    named = {call.names.get(i, f"argument {i}"): arg for i, arg in enumerate(call.args)}
    return {name: value for name, value in {**named, **call.options}.items() if isinstance(value, Tensor)}


def _unchanged(
    subject: Subject, phase: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Iterator[Result]:
    for name, tensor in found.items():
        copy = subject.given.under(phase)
        if tensor.shape == expected[name].shape and not distance(tensor.detach(), expected[name].detach()).any():
            yield subject.passed("side effects", copy, input=name)
        else:
            yield subject.failed("side effects", copy, f"{phase} changed {name!r} in place", input=name)


def _laid_out(
    subject: Subject, how: str, call: Call, upstream: Tensor, expected: Mapping[str, Tensor]
) -> Iterator[Result]:
    try:
        output, leaves = call.run()
    except Exception as error:  # it takes no such input
        yield subject.not_offered("layouts", subject.given.under(how), f"raised {first_line(error)}")
        return
    found = dict(zip(call.names.values(), pulled_back(output, leaves, upstream), strict=True))
    yield from subject.same("layouts", how, found, expected)
