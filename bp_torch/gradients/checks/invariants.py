"""Checks of properties that every backward has: linearity, no side effects, independence of layout and context."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, clone_with_layout, vjp
from bp_torch.gradients.case import OUTPUT, CheckCase, Outcomes, exception_outcome, is_accident, is_refusal
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.containers import float_tensors
from bp_torch.gradients.report import Outcome, comparison_outcome, failed, left_out, unsupported
from bp_torch.gradients.variants import channels_last, expanded, offset, strided, transposed

REPETITIONS = 8
NOT_REPEATABLE = "the gradient differs from call to call: are random numbers drawn anew in the backward?"
MAX_SUBSETS = 64
"""Largest number of subsets of inputs that are all checked; beyond it, only single inputs and all but one."""


def side_effects(case: CheckCase) -> Outcomes:
    """Arguments and upstream gradient are not modified, and the backward does not set `.grad` itself."""
    call, upstream = case.call.clone(), clone_with_layout(case.upstream)
    for leaf in call.inputs:
        leaf.requires_grad_()
    output = call.output()
    value = output.detach().clone()
    actual, expected = _tensors(call), _tensors(case.call)
    yield from _unchanged(case, "the forward", actual, expected)
    if not output.requires_grad:
        return  # there is no backward: the check of the gradient says so
    try:
        torch.autograd.grad(output, call.inputs, upstream, allow_unused=True)
    except RuntimeError as error:
        if ".backward()" not in str(error):
            raise
        yield case.as_given, unsupported(error)
        return
    actual |= {"grad_output": upstream, OUTPUT: output}
    expected |= {"grad_output": case.upstream, OUTPUT: value}
    yield from _unchanged(case, "the backward", actual, expected)
    for name, leaf in call.by_name.items():
        if leaf.grad is not None:
            yield case.as_given, failed(f"the backward set {name}.grad itself", input=name)


def buffers(case: CheckCase) -> Outcomes:
    """The arguments that the function updates in place hold the same numbers as the reference's."""
    if case.reference is None:
        return
    expected = case.oracle.updated_buffers()
    for name, buffer in case.call.updated_buffers().items():
        yield case.as_given, comparison_outcome(compare(name, buffer, expected[name], expected[name].double()))


def repeatability(case: CheckCase) -> Outcomes:
    """Repeated calls, a repeated backward and interleaved calls give the same value and gradients."""
    call, upstream = case.call, case.upstream
    yield from case.compare("called again", {OUTPUT: call.value()}, {OUTPUT: call.value()})
    for _ in range(REPETITIONS):
        for variant, outcome in case.compare("called again", call.vjp(upstream)):
            yield variant, replace(outcome, hint=NOT_REPEATABLE) if outcome.status == "failed" else outcome
    output, leaves = call.run()
    # -0.7 changes signs and order too, where it stays in the domain
    others = (call.at([factor * x for x in call.inputs]) for factor in (-0.7, 0.7))
    other_output, other_leaves = next(filter(case.in_domain, others), call).run()
    vjp(other_output, other_leaves, case.random_like(other_output))
    yield from case.compare("two interleaved calls", call.named(vjp(output, leaves, upstream, retain_graph=True)))
    again = case.as_given.under("the same graph again")
    try:
        gradients = vjp(output, leaves, upstream, retain_graph=True)
    except RuntimeError as error:  # a graph that is used once
        yield again, unsupported(error)
        return
    yield from case.compare("the same graph again", call.named(gradients))


def linearity(case: CheckCase) -> Outcomes:
    """The gradient is linear in the upstream gradient: large and small factors, a sum, and zeros."""
    one, other = case.upstream, case.random_like(case.upstream)
    first, second = case.gradients, case.call.vjp(other)
    power = {64: 100, 32: 20}.get(torch.finfo(one.dtype).bits, 4)
    for factor in (2.0**power, 2.0**-power):  # powers of 2, so scaling does not round
        condition = f"upstream gradient times {factor:.3g}"
        try:
            scaled = {name: gradient / factor for name, gradient in case.call.vjp(factor * one).items()}
        except Exception as error:
            yield case.as_given.under(condition), unsupported(error) if is_refusal(error) else exception_outcome(error)
            continue
        yield from case.compare(condition, scaled)
    total = {name: first[name] / 2 + second[name] / 4 for name in first}
    yield from case.compare("a sum of two upstream gradients", case.call.vjp(one / 2 + other / 4), total)
    if all(gradient.isfinite().all() for gradient in first.values()):
        zeros = {name: torch.zeros_like(gradient) for name, gradient in first.items()}
        yield from case.compare("upstream gradient of zeros", case.call.vjp(torch.zeros_like(one)), zeros)


def subsets(case: CheckCase) -> Outcomes:
    """Each gradient does not depend on which other inputs require one."""
    positions = list(case.call.names)
    exhaustive = 2 ** len(positions) <= MAX_SUBSETS
    for size in range(1, len(positions)) if exhaustive else (1, len(positions) - 1):
        for subset in combinations(positions, size):
            label = f"only {', '.join(case.call.names[position] for position in subset)} requires grad"
            try:
                gradients = _or_warning(case, case.call.with_respect_to(subset))
            except Exception as error:  # usually from a hand-written backward
                outcome = exception_outcome(error) if is_accident(error) else unsupported(error)
                yield case.as_given.under(label), outcome
                continue
            yield from case.compare(label, gradients)


def _or_warning(case: CheckCase, call: Call) -> dict[str, Tensor]:
    """The gradients; raises the warning if one comes with a missing gradient, as from a reentrant checkpoint."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradients = call.vjp(case.upstream)
    missing = [name for name, gradient in gradients.items() if case.gradients[name].any() and not gradient.any()]
    if caught and missing:
        raise caught[0].category(caught[0].message)
    return gradients


def unused_outputs(case: CheckCase) -> Outcomes:
    """The gradient of each of several outputs does not depend on whether the others are used."""
    call = case.call.clone()
    zeros = [torch.zeros_like(part) for part in call.parts()]
    for number, zero in enumerate(zeros if len(zeros) > 1 else ()):
        upstreams = [*zeros[:number], case.random_like(zero), *zeros[number + 1 :]]
        chosen = call.structure.outputs[number] if call.structure.outputs else number
        actual = call.of(_one_output(call.function, chosen)).vjp(upstreams[number])
        expected = call.vjp(torch.cat([upstream.reshape(-1) for upstream in upstreams]))
        yield from case.compare(f"output {number} alone", actual, expected)


def layouts(case: CheckCase) -> Outcomes:
    """The gradient does not depend on the memory layout of the inputs or the upstream gradient.

    The layout of all inputs changes, then of each one. A module's parameters keep theirs.
    """
    call, upstream = case.call, case.upstream
    names = tuple(name for position, name in call.names.items() if position < len(call.args) - len(call.parameters))
    for changed in dict.fromkeys((names, *((name,) for name in names))):
        for layout in (strided, transposed, channels_last, offset, expanded):
            other = call.at([layout(x) if name in changed else x for name, x in call.by_name.items()])
            if any(map(_has_other_layout, other.inputs, call.inputs)):
                label = f"{layout.__name__} {', '.join(changed)}"
                yield from _compare_layout(case, label, other, upstream, same=layout is not expanded)
    for layout in (strided, transposed, channels_last, offset):
        if _has_other_layout(layout(upstream), upstream):
            yield from _compare_layout(case, f"{layout.__name__} upstream gradient", call, layout(upstream), same=True)
    one = upstream.new_ones(()).expand(upstream.shape)  # what y.sum().backward() sends
    yield from _compare_layout(case, "expanded upstream gradient", call, one, same=False)


def aliased_inputs(case: CheckCase) -> Outcomes:
    """One Tensor in two places gets the sum of both gradients."""
    call, inputs = case.call, case.call.by_name
    pairs = [pair for pair in combinations(inputs, 2) if inputs[pair[0]].shape == inputs[pair[1]].shape]
    for first, second in pairs[:1]:
        if inputs[first].dtype != inputs[second].dtype or call.structure.copies:
            return
        apart = call.at([inputs[first] if name == second else x for name, x in inputs.items()])
        if not case.in_domain(apart):
            return
        output, leaves = apart.run()
        upstream = case.random_like(output)
        expected = apart.named(vjp(output, leaves, upstream))
        copy = apart.clone()
        shared = copy.by_name[first].requires_grad_()
        together = copy.at([shared if name in (first, second) else x for name, x in copy.by_name.items()])
        label = f"{first} and {second} are the same Tensor"
        try:
            with torch.enable_grad():
                (gradient,) = vjp(together.output(), [shared], upstream)
        except Exception as error:  # usually from a hand-written backward
            yield case.as_given.under(label), unsupported(error)
            return
        yield from case.compare(label, {first: gradient}, {first: expected[first] + expected[second]})


def saved_tensors(case: CheckCase) -> Outcomes:
    """Saved Tensors are registered by save_for_backward: autograd detects a modification before the backward."""
    changeable = {i: x for i, x in case.call.fixed.items() if x.is_floating_point() or x.dtype == torch.bool}
    fixed = {f"argument {i}": i for i in changeable}
    for name in (*case.call.by_name, *fixed, OUTPUT):
        leaves = case.call.clone().inputs
        inner = case.call.clone().at([leaf.requires_grad_().clone() for leaf in leaves])
        output = inner.output()
        condition = f"{name} modified in place before the backward"
        modified = inner.args[fixed[name]] if name in fixed else {**inner.by_name, OUTPUT: output}[name]
        if not _change_in_place(modified):
            continue  # PyTorch rejects the modification: of a view, or of an expanded Tensor
        try:
            gradients = vjp(output, leaves, case.upstream)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error) and "modified inplace" not in str(error):
                raise
            yield case.as_given.under(condition), Outcome("passed")
            continue
        if name.startswith("self.") and _calls_modules(case):
            yield case.as_given.under(condition), unsupported("the backward calls modules again, with new parameters")
            continue
        yield from case.compare(condition, case.call.named(gradients))


def _calls_modules(case: CheckCase) -> bool:
    """Whether the backward calls modules, as with checkpointing."""
    output, leaves = case.call.run()
    calls: list[Any] = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(lambda *args: calls.append(1))
    try:
        vjp(output, leaves, case.upstream)
    finally:
        handle.remove()
    return bool(calls)


@torch.no_grad()
def _change_in_place(tensor: Tensor) -> bool:
    try:
        if tensor.dtype == torch.bool:
            tensor.logical_not_()
        else:
            tensor.add_(1).mul_(-0.5)
    except RuntimeError:
        return False
    return True


def _one_output(function: Callable[..., Any], number: int) -> Callable[..., Tensor]:
    return lambda *args, **options: float_tensors(function(*args, **options))[number]


def _tensors(call: Call) -> dict[str, Tensor]:
    named = {call.names.get(i, f"argument {i}"): arg for i, arg in enumerate(call.args)}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def _unchanged(case: CheckCase, phase: str, actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Outcomes:
    for name, tensor in actual.items():
        before, after = expected[name].detach(), tensor.detach()
        same = before.shape == after.shape and torch.allclose(before, after, rtol=0, atol=0, equal_nan=True)
        message = f"{phase} modified {name!r} in place"
        yield case.as_given.under(phase), Outcome("passed", name) if same else failed(message, input=name)


def _has_other_layout(a: Tensor, b: Tensor) -> bool:
    return (a.stride(), a.storage_offset()) != (b.stride(), b.storage_offset())


def _compare_layout(case: CheckCase, label: str, call: Call, upstream: Tensor, *, same: bool) -> Outcomes:
    """Compare with the gradient for contiguous Tensors; with `same`, their values are the sample's."""
    dense = call if same else call.at([x.contiguous() for x in call.inputs])
    if not same and not case.in_domain(dense):
        return
    try:
        output, leaves = call.run()
    except Exception as error:  # the layout is not supported
        yield case.as_given.under(label), unsupported(error)
        return
    expected = case.gradients if same else dense.vjp(upstream.contiguous())
    value = case.as_given.value if same else dense.value()
    if call.structure.seed is not None and not torch.allclose(output, value):
        yield case.as_given.under(label), left_out("the random numbers differ in this layout")
        return
    try:
        gradients = vjp(output, leaves, upstream)
    except Exception as error:  # usually from a hand-written backward
        yield case.as_given.under(label), exception_outcome(error)
        return
    yield from case.compare(label, call.named(gradients), expected)
