"""Does the backward behave? It is linear, leaves its arguments alone, and does not depend on circumstances."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, copied, parts_of, pulled_back
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import OUTPUT, Subject, first_line
from bp_torch.gradients.variants import channels_last, displaced, expanded, strided, transposed

REPETITIONS = 8
MOST_SUBSETS = 64
"""Of more inputs than have so many subsets, those of one input and those of all but one are tried."""


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
    found |= {"grad_output": upstream, OUTPUT: output}
    expected |= {"grad_output": subject.upstream, OUTPUT: value}
    yield from _unchanged(subject, "the backward", found, expected)
    for name, leaf in passed.by_name.items():
        if leaf.grad is not None:
            yield subject.failed("side effects", subject.given, f"the backward set {name}.grad itself", input=name)


def repeatability(subject: Subject) -> Iterator[Result]:
    """The same question has the same answer: asked anew, of the same graph, and with another call under way."""
    call, upstream, expected = subject.call, subject.upstream, subject.gradients
    again = subject.given.under("asked again")
    yield from subject.same("repeatability", again, {OUTPUT: call.value()}, {OUTPUT: call.value()})
    for _ in range(REPETITIONS):
        yield from subject.same("repeatability", again, call.pull(upstream), expected)
    output, leaves = call.run()
    moved = call.at([0.7 * x for x in call.inputs])
    other_output, other_leaves = (moved if subject.admits(moved) else call).run()
    pulled_back(other_output, other_leaves, subject.signed(other_output))
    for asked in ("two calls under way", "the same graph again"):
        gradients = pulled_back(output, leaves, upstream, retain_graph=True)
        found = dict(zip(call.by_name, gradients, strict=True))
        yield from subject.same("repeatability", subject.given.under(asked), found, expected)


def linearity(subject: Subject) -> Iterator[Result]:
    """The gradient is linear in the upstream gradient: of every scale, for a sum, and for zeros."""
    one, other = subject.upstream, subject.signed(subject.upstream)
    first, second = subject.gradients, subject.call.pull(other)
    power = {64: 100, 32: 20}.get(torch.finfo(one.dtype).bits, 4)
    for factor in (2.0**power, 2.0**-power):  # which floating-point numbers take without rounding
        scaled = {name: gradient / factor for name, gradient in subject.call.pull(factor * one).items()}
        variant = subject.given.under(f"upstream gradient times {factor:.3g}")
        yield from subject.same("linearity", variant, scaled, first)
    total = {name: first[name] / 2 + second[name] / 4 for name in first}
    variant = subject.given.under("a sum of two upstream gradients")
    yield from subject.same("linearity", variant, subject.call.pull(one / 2 + other / 4), total)
    if all(gradient.isfinite().all() for gradient in first.values()):
        nothing = {name: torch.zeros_like(gradient) for name, gradient in first.items()}
        variant = subject.given.under("upstream gradient of zeros")
        yield from subject.same("linearity", variant, subject.call.pull(torch.zeros_like(one)), nothing)


def subsets(subject: Subject) -> Iterator[Result]:
    """Each gradient is the same whichever other inputs need one."""
    positions = list(subject.call.names)
    every = 2 ** len(positions) <= MOST_SUBSETS
    for size in range(1, len(positions)) if every else (1, len(positions) - 1):
        for needing in combinations(positions, size):
            names = ", ".join(subject.call.names[position] for position in needing)
            found = subject.call.pull(subject.upstream, needing)
            variant = subject.given.under(f"only {names} in need")
            yield from subject.same("subsets of inputs", variant, found, subject.gradients)


def unused_outputs(subject: Subject) -> Iterator[Result]:
    """Of several outputs, each gives the same gradient whether the others are used or not."""
    call = subject.call.fresh()
    zeros = [torch.zeros_like(part) for part in parts_of(call.function(*call.args, **call.options))]
    for number, zero in enumerate(zeros if len(zeros) > 1 else ()):
        upstreams = [*zeros[:number], subject.signed(zero), *zeros[number + 1 :]]
        found = call.of(_one_output(call.function, number)).pull(upstreams[number])
        expected = call.pull(torch.cat([upstream.reshape(-1) for upstream in upstreams]))
        yield from subject.same("unused outputs", subject.given.under(f"output {number} alone"), found, expected)


def layouts(subject: Subject) -> Iterator[Result]:
    """The gradient does not depend on how inputs and upstream gradient lie in memory: all inputs, and each alone.

    A module's parameters lie as it made them.
    """
    call, upstream = subject.call, subject.upstream
    names = tuple(name for position, name in call.names.items() if position < len(call.args) - len(call.parameters))
    same = _Dense(subject, call, upstream)  # the same numbers in most layouts
    for chosen in dict.fromkeys((names, *((name,) for name in names))):
        for how in (strided, transposed, channels_last, displaced, expanded):
            laid = call.at([how(x) if name in chosen else x for name, x in call.by_name.items()])
            if any(map(_lies_otherwise, laid.inputs, call.inputs)):
                dense = _Dense(subject, laid, upstream) if how is expanded else same
                yield from _laid_out(subject, f"{how.__name__} {', '.join(chosen)}", laid, upstream, dense)
    for how in (strided, transposed, channels_last, displaced):
        if _lies_otherwise(how(upstream), upstream):
            yield from _laid_out(subject, f"{how.__name__} upstream gradient", call, how(upstream), same)
    one = upstream.new_ones(()).expand(upstream.shape)  # what y.sum().backward() sends
    yield from _laid_out(subject, "expanded upstream gradient", call, one, _Dense(subject, call, one))


def saved_tensors(subject: Subject) -> Iterator[Result]:
    """What the backward needs is kept by save_for_backward: if it is changed meanwhile, that is noticed."""
    check = "saved tensors"
    for what in (*subject.call.by_name, OUTPUT):
        leaves = subject.call.fresh().inputs
        inner = subject.call.fresh().at([leaf.requires_grad_().clone() for leaf in leaves])
        output = inner.output()
        variant = subject.given.under(f"{what} changed in place meanwhile")
        if not _changed({**inner.by_name, OUTPUT: output}[what]):
            continue  # PyTorch does not let it be changed: a view, or one number seen many times
        try:
            found = pulled_back(output, leaves, subject.upstream)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error) and "modified inplace" not in str(error):
                raise
            yield subject.passed(check, variant)  # it is noticed
            continue
        gradients = dict(zip(subject.call.by_name, found, strict=True))
        yield from subject.same(check, variant, gradients, subject.gradients)


@torch.no_grad()
def _changed(tensor: Tensor) -> bool:
    try:
        tensor.add_(1).mul_(-0.5)
    except RuntimeError:
        return False
    return True


def _one_output(function: Callable[..., Any], number: int) -> Callable[..., Tensor]:
    return lambda *args, **options: parts_of(function(*args, **options))[number]


def _tensors(call: Call) -> dict[str, Tensor]:
    named = {call.names.get(i, f"argument {i}"): arg for i, arg in enumerate(call.args)}
    return {name: value for name, value in {**named, **call.options}.items() if isinstance(value, Tensor)}


def _unchanged(
    subject: Subject, phase: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> Iterator[Result]:
    variant = subject.given.under(phase)
    for name, tensor in found.items():
        if tensor.shape == expected[name].shape and _equal(tensor.detach(), expected[name].detach()):
            yield subject.passed("side effects", variant, input=name)
        else:
            yield subject.failed("side effects", variant, f"{phase} changed {name!r} in place", input=name)


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _lies_otherwise(a: Tensor, b: Tensor) -> bool:
    return (a.stride(), a.storage_offset()) != (b.stride(), b.storage_offset())


def _compact(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class _Dense:
    """The same numbers in memory of their own, contiguous; what is asked of them is asked once."""

    subject: Subject
    given: Call
    upstream: Tensor

    @cached_property
    def call(self) -> Call:
        return self.given.at([_compact(x) for x in self.given.inputs])

    @cached_property
    def admitted(self) -> bool:
        return self.subject.admits(self.call)

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        return self.call.pull(_compact(self.upstream))


def _laid_out(subject: Subject, how: str, call: Call, upstream: Tensor, dense: _Dense) -> Iterator[Result]:
    """Compare with the same numbers, dense."""
    check, variant = "layouts", subject.given.under(how)
    if not dense.admitted:
        return
    try:
        output, leaves = call.run()
    except Exception as error:  # it takes no such input
        yield subject.not_offered(check, variant, f"raised {first_line(error)}")
        return
    found = dict(zip(call.by_name, pulled_back(output, leaves, upstream), strict=True))
    yield from subject.same(check, variant, found, dense.gradients)
