"""Properties of every backward: it is linear, leaves its arguments alone, and does not depend on circumstances."""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, copied, parts_of, pulled_back
from bp_torch.gradients.case import OUTPUT, CheckCase, Pairs
from bp_torch.gradients.report import Outcome, failed, unsupported
from bp_torch.gradients.variants import channels_last, displaced, expanded, strided, transposed

REPETITIONS = 8
MOST_SUBSETS = 64
"""Of more inputs than have this many subsets, those of one input and those of all but one are tried."""


def side_effects(case: CheckCase) -> Pairs:
    """Arguments and upstream gradient stay as they are, and the backward does not set .grad itself."""
    passed, upstream = case.call.fresh(), copied(case.upstream)
    for leaf in passed.inputs:
        leaf.requires_grad_()
    output = passed.output()
    value = output.detach().clone()
    found, expected = _tensors(passed), _tensors(case.call)
    yield from _unchanged(case, "the forward", found, expected)
    pulled_back(output, passed.inputs, upstream)
    found |= {"grad_output": upstream, OUTPUT: output}
    expected |= {"grad_output": case.upstream, OUTPUT: value}
    yield from _unchanged(case, "the backward", found, expected)
    for name, leaf in passed.by_name.items():
        if leaf.grad is not None:
            yield case.given, failed(f"the backward set {name}.grad itself", input=name)


def repeatability(case: CheckCase) -> Pairs:
    """Value and gradients are the same at every call, of the same graph again, and beside another call."""
    call, upstream = case.call, case.upstream
    yield from case.compare("called again", {OUTPUT: call.value()}, {OUTPUT: call.value()})
    for _ in range(REPETITIONS):
        yield from case.compare("called again", call.pull(upstream))
    output, leaves = call.run()
    moved = call.at([0.7 * x for x in call.inputs])
    other_output, other_leaves = (moved if case.admits(moved) else call).run()
    pulled_back(other_output, other_leaves, case.signed(other_output))
    for circumstances in ("two calls under way", "the same graph again"):
        gradients = pulled_back(output, leaves, upstream, retain_graph=True)
        yield from case.compare(circumstances, call.named(gradients))


def linearity(case: CheckCase) -> Pairs:
    """The gradient is linear in the upstream gradient: of every scale, for a sum, and for zeros."""
    one, other = case.upstream, case.signed(case.upstream)
    first, second = case.gradients, case.call.pull(other)
    power = {64: 100, 32: 20}.get(torch.finfo(one.dtype).bits, 4)
    for factor in (2.0**power, 2.0**-power):  # which floating-point numbers take without rounding
        scaled = {name: gradient / factor for name, gradient in case.call.pull(factor * one).items()}
        yield from case.compare(f"upstream gradient times {factor:.3g}", scaled)
    total = {name: first[name] / 2 + second[name] / 4 for name in first}
    yield from case.compare("a sum of two upstream gradients", case.call.pull(one / 2 + other / 4), total)
    if all(gradient.isfinite().all() for gradient in first.values()):
        nothing = {name: torch.zeros_like(gradient) for name, gradient in first.items()}
        yield from case.compare("upstream gradient of zeros", case.call.pull(torch.zeros_like(one)), nothing)


def subsets(case: CheckCase) -> Pairs:
    """Each gradient is the same whichever other inputs need one."""
    positions = list(case.call.names)
    every = 2 ** len(positions) <= MOST_SUBSETS
    for size in range(1, len(positions)) if every else (1, len(positions) - 1):
        for needing in combinations(positions, size):
            gradients = case.call.only(needing).pull(case.upstream)
            yield from case.compare(f"only {', '.join(gradients)} requires grad", gradients)


def unused_outputs(case: CheckCase) -> Pairs:
    """Of several outputs, each gives the same gradient whether the others are used or not."""
    call = case.call.fresh()
    zeros = [torch.zeros_like(part) for part in parts_of(call.function(*call.args, **call.options))]
    for number, zero in enumerate(zeros if len(zeros) > 1 else ()):
        upstreams = [*zeros[:number], case.signed(zero), *zeros[number + 1 :]]
        found = call.of(_one_output(call.function, number)).pull(upstreams[number])
        expected = call.pull(torch.cat([upstream.reshape(-1) for upstream in upstreams]))
        yield from case.compare(f"output {number} alone", found, expected)


def layouts(case: CheckCase) -> Pairs:
    """The gradient does not depend on how inputs and upstream gradient lie in memory: all inputs, and each alone.

    A module's parameters lie as it made them.
    """
    call, upstream = case.call, case.upstream
    names = tuple(name for position, name in call.names.items() if position < len(call.args) - len(call.parameters))
    for chosen in dict.fromkeys((names, *((name,) for name in names))):
        for how in (strided, transposed, channels_last, displaced, expanded):
            laid = call.at([how(x) if name in chosen else x for name, x in call.by_name.items()])
            if any(map(_lies_otherwise, laid.inputs, call.inputs)):
                label = f"{how.__name__} {', '.join(chosen)}"
                yield from _laid_out(case, label, laid, upstream, same=how is not expanded)
    for how in (strided, transposed, channels_last, displaced):
        if _lies_otherwise(how(upstream), upstream):
            yield from _laid_out(case, f"{how.__name__} upstream gradient", call, how(upstream), same=True)
    one = upstream.new_ones(()).expand(upstream.shape)  # what y.sum().backward() sends
    yield from _laid_out(case, "expanded upstream gradient", call, one, same=False)


def saved_tensors(case: CheckCase) -> Pairs:
    """The backward keeps what it needs by save_for_backward: a change in place meanwhile is noticed."""
    for what in (*case.call.by_name, OUTPUT):
        leaves = case.call.fresh().inputs
        inner = case.call.fresh().at([leaf.requires_grad_().clone() for leaf in leaves])
        output = inner.output()
        circumstances = f"{what} changed in place meanwhile"
        if not _changed({**inner.by_name, OUTPUT: output}[what]):
            continue  # PyTorch refuses the change: of a view, or of one number seen many times
        try:
            found = pulled_back(output, leaves, case.upstream)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error) and "modified inplace" not in str(error):
                raise
            yield case.given.under(circumstances), Outcome("passed")
            continue
        yield from case.compare(circumstances, case.call.named(found))


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


def _unchanged(case: CheckCase, phase: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Pairs:
    for name, tensor in found.items():
        before, after = expected[name].detach(), tensor.detach()
        same = before.shape == after.shape and torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)
        message = f"{phase} changed {name!r} in place"
        yield case.given.under(phase), Outcome("passed", name) if same else failed(message, input=name)


def _lies_otherwise(a: Tensor, b: Tensor) -> bool:
    return (a.stride(), a.storage_offset()) != (b.stride(), b.storage_offset())


def _laid_out(case: CheckCase, label: str, call: Call, upstream: Tensor, *, same: bool) -> Pairs:
    """Compare with the same numbers in contiguous memory: `same` if they are the sample's."""
    if same:
        expected = case.gradients
    else:
        dense = call.at([x.contiguous() for x in call.inputs])
        if not case.admits(dense):
            return
        expected = dense.pull(upstream.contiguous())
    try:
        output, leaves = call.run()
    except Exception as error:  # it takes no such input
        yield case.given.under(label), unsupported(error)
        return
    yield from case.compare(label, call.named(pulled_back(output, leaves, upstream)), expected)
