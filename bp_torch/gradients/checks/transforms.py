"""Is the function right under PyTorch's transforms? Double backward, forward mode, batched gradients, vmap."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bp_torch.gradients.call import Call, pulled_back
from bp_torch.gradients.case import OUTPUT, CheckCase, Pairs, raised
from bp_torch.gradients.checks.first_order import compare_gradients
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.report import Outcome, compared, first_line, unsupported
from bp_torch.gradients.variants import Variant

BATCH = 3
FAR_OUT = 1000.0
"""Inputs times this, where exponentials overflow."""
UNSUPPORTED = re.compile(
    "|".join(
        [
            "You must implement the jvp function for custom autograd.Function",
            "Trying to use forward AD with .* that does not support it",
            "it must override the setup_context staticmethod",
            "it does not have vmap support. Please override and implement the vmap staticmethod",
            "(^|: )vmap: ",  # data-dependent control flow, .item(), an in-place operation that it cannot follow
            "Batching rule not implemented for",
            "Batch norm got a batched tensor as input",
            "doesn't match the broadcast shape",  # an in-place operation of vmap's
            "element 0 of tensors does not require grad and does not have a grad_fn",
            "trying to differentiate twice a function that was marked with @once_differentiable",
            r"Can't call numpy\(\) on Tensor that requires grad",
            "Cannot access data pointer of Tensor that doesn't have storage",
            "derivative for .* is not implemented",
            "don't support automatic differentiation",
        ]
    )
)
"""PyTorch's messages where a function does not offer something."""


def double_backward(case: CheckCase) -> Pairs:
    """The backward is itself a function, of the inputs and the upstream gradient: its gradient is checked like any."""
    derived = replace(case, call=gradient_call(case.call, case.upstream), reference=_reference_gradients(case))
    if outcome := _not_differentiable(derived):
        yield case.given, outcome
        return
    plain = torch.cat([gradient.reshape(-1) for gradient in case.gradients.values()])
    comparison = compare("gradients", derived.given.value, plain, plain.double(), scale=max(case.scales.values()))
    yield case.given.under("create_graph"), compared(comparison)
    for variant, outcome in compare_gradients(derived, derived.given, derived.upstream):
        if outcome.status != "inconclusive":  # it may jump, as at a kink
            yield variant, outcome
    large = derived.call.at([*(FAR_OUT * x for x in case.call.inputs), case.upstream])
    if derived.admits(large):
        yield from compare_gradients(derived, Variant("scaled", f"scaled by {FAR_OUT:g}", large), derived.upstream)


def forward_mode(case: CheckCase) -> Pairs:
    """Forward mode is the transpose of reverse mode: for all inputs together, for each alone, and at variants."""
    names = case.call.names
    try:
        yield case.given, _transposed(case, case.call)
        for position in names if len(names) > 1 else ():
            yield case.given.under(f"along {names[position]}"), _transposed(case, case.call.only([position]))
    except Exception as error:  # also what a hand-written jvp raises
        yield case.given, _unsupported_or_raised(error)
        return
    for variant, refusal in case.variants:
        if variant.kind in ("scaled", "size"):
            yield variant, unsupported(refusal) if refusal else _transposed(case, variant.call)


def _transposed(case: CheckCase, call: Call) -> Outcome:
    """Compare ⟨g, J v⟩ with ⟨Jᵀ g, v⟩."""
    tangents = {name: case.signed(input) for name, input in call.by_name.items()}
    pushed = _pushed_forward(call, tangents.values())
    upstream = case.signed(pushed)
    gradients = call.pull(upstream)
    forward = pushed * upstream
    reverse = [gradients[name] * tangent for name, tangent in tangents.items()]
    pulled = sum((term.sum() for term in reverse), start=forward.new_zeros(()))
    terms = sum(term.abs().sum().item() for term in [forward, *reverse])
    scale = terms + sum(case.scales[name] * tangent.abs().sum().item() for name, tangent in tangents.items())
    found, expected = forward.sum(), pulled.to(forward.dtype)
    return compared(compare("tangent", found, expected, expected.double(), scale=scale))


def batched_gradients(case: CheckCase) -> Pairs:
    """Many upstream gradients at once give what they give one by one."""
    upstreams = torch.stack([case.signed(case.upstream) for _ in range(BATCH)])
    output, leaves = case.call.run()
    try:
        found = pulled_back(output, leaves, upstreams, is_grads_batched=True)
    except Exception as error:  # also what a hand-written backward raises
        yield case.given, _unsupported_or_raised(error)
        return
    each = [case.call.pull(upstream) for upstream in upstreams]
    yield from case.compare("a batch of upstream gradients", case.call.named(found), _stacked(each))


def vmap(case: CheckCase) -> Pairs:
    """Under `torch.func.vmap`, many inputs at once give what they give one by one: values, and per-example gradients.

    All inputs in a batch, along the first dimension and along the last; and one input alone. Also the gradient of a
    whole batch, for which the backward goes through the rule for vmap.
    """
    everything = tuple(case.call.by_name)
    for batched, dim in [(everything, 0), (everything, -1), *(((name,), 0) for name in everything if everything[1:])]:
        label = f"a batch of {', '.join(batched)} along dimension {dim}"
        dims = tuple(dim if name in batched else None for name in everything)
        try:
            yield from _vmapped(case, label, dims)
        except Exception as error:  # also what a hand-written rule raises
            yield case.given.under(label), _unsupported_or_raised(error)


def _vmapped(case: CheckCase, label: str, dims: tuple[int | None, ...]) -> Pairs:
    call, upstream = case.call, case.upstream
    rows = [
        [x if d is None else x * (1 - i / 10) for x, d in zip(call.inputs, dims, strict=True)] for i in range(BATCH)
    ]
    columns = [
        x if d is None else torch.stack(column, d)
        for x, d, column in zip(call.inputs, dims, zip(*rows, strict=True), strict=True)
    ]
    value, gradients = torch.func.vmap(lambda *xs: _func_gradients(call.at(xs), upstream), dims)(*columns)
    each = _stacked([{**call.at(row).pull(upstream), OUTPUT: call.at(row).value()} for row in rows])
    yield from case.compare(label, {**call.named(gradients), OUTPUT: value}, each)
    if set(dims) == {0}:
        leaves = [column.requires_grad_() for column in columns]
        values = torch.func.vmap(lambda *xs: call.at(xs).output())(*leaves)
        found = call.named(pulled_back(values, leaves, upstream.expand_as(values)))
        yield from case.compare(f"{label}, then differentiated", found, each)


def gradient_call(call: Call, upstream: Tensor) -> Call:
    """The gradients of a call, end to end, as a function of its inputs and of the upstream gradient."""

    def gradients(*args: Any, **options: Any) -> Tensor:
        here = replace(call, args=args[:-1], options=options)
        with torch.enable_grad():
            here = here.at([x if x.requires_grad else x.detach().requires_grad_() for x in here.inputs])
            found = pulled_back(here.output(), here.inputs, args[-1], create_graph=True)
        return torch.cat([gradient.reshape(-1) for gradient in found])

    names = {**call.names, len(call.args): "grad_output"}
    return replace(call, function=gradients, args=(*call.args, upstream), names=names)


def _reference_gradients(case: CheckCase) -> Callable[..., Any] | None:
    """The reference's gradients as such a function; None if they have none themselves."""
    if case.reference is None:
        return None
    derived = gradient_call(case.oracle, case.upstream)
    try:
        derived.pull(derived.value())
    except Exception:  # PyTorch lacks the second derivative of some of its functions
        return None
    return derived.function


def _not_differentiable(derived: CheckCase) -> Outcome | None:
    """Why a backward cannot be differentiated, if it cannot."""
    try:
        gradients, leaves = derived.call.run()
        if not gradients.requires_grad:
            return unsupported("the backward's result is cut off from its inputs")
        *_, by_upstream = torch.autograd.grad(gradients, leaves, torch.ones_like(gradients), allow_unused=True)
    except Exception as error:  # also what a hand-written backward raises
        return _unsupported_or_raised(error)
    if by_upstream is None and gradients.any():
        reason = "the backward's graph does not lead back to grad_output: is it once_differentiable, or detached?"
        return unsupported(reason)
    return None


def _pushed_forward(call: Call, tangents: Iterable[Tensor]) -> Tensor:
    """J v."""
    with forward_ad.dual_level():
        pairs = zip(call.inputs, tangents, strict=True)
        duals = [forward_ad.make_dual(x.detach().contiguous(), v.contiguous()) for x, v in pairs]  # type: ignore[no-untyped-call]
        output = call.at(duals).output()
        pushed = forward_ad.unpack_dual(output).tangent  # type: ignore[no-untyped-call]
        return torch.zeros_like(output) if pushed is None else pushed.clone()


def _func_gradients(call: Call, upstream: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    output, pull, *_ = torch.func.vjp(lambda *inputs: call.at(inputs).output(), *call.inputs)
    return output, pull(upstream)


def _stacked(each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def _unsupported_or_raised(error: Exception) -> Outcome:
    """Unsupported, if PyTorch says so; otherwise a failure."""
    known = isinstance(error, RuntimeError) and UNSUPPORTED.search(str(error))
    return unsupported(first_line(error)) if known else raised(error)
