"""Is it right wherever PyTorch can take it? Double backward, forward mode, batched gradients, vmap."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bp_torch.gradients.call import Call, as_tensor, pulled_back
from bp_torch.gradients.checks.first_order import in_domain, judged
from bp_torch.gradients.copies import Copy, copies
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import OUTPUT, Subject, first_line
from bp_torch.gradients.verdict import compare

BATCH = 3
FAR_OUT = 1000.0
"""There, exponentials overflow."""
_UNSUPPORTED = (
    "functorch", "vmap", "Batching rule", "batching rule", "jvp function", "forward AD", "forward mode",
    "does not require grad", "requires grad", "differentiate twice", "data-dependent", "setup_context",
)  # fmt: skip
"""What PyTorch's messages say where a function does not support something."""


def double_backward(subject: Subject) -> Iterator[Result]:
    """The backward is itself a function, of the inputs and the upstream gradient: its gradient is judged like any."""
    check = "double backward"
    derived = replace(subject, call=gradient_call(subject.call, subject.upstream), reference=_derived(subject))
    if reason := _not_differentiable(derived):
        yield subject.not_offered(check, subject.given, reason)
        return
    yield from judged(derived, check, derived.given, derived.upstream)
    large = derived.call.at([*(FAR_OUT * x for x in subject.call.inputs), subject.upstream])
    copy = Copy("scaled", f"scaled by {FAR_OUT:g}", large)
    if in_domain(derived, copy):
        yield from judged(derived, check, copy, derived.upstream)


def forward_mode(subject: Subject) -> Iterator[Result]:
    """Forward mode is the transpose of reverse mode: for all inputs together, for each alone, and at copies."""
    check, names = "forward mode", subject.call.names
    try:
        yield _transposed(subject, check, subject.given, list(names))
        for position in names if len(names) > 1 else ():
            yield _transposed(subject, check, subject.given.under(f"along {names[position]}"), [position])
    except Exception as error:  # also what a hand-written jvp raises
        yield _unsupported(subject, check, error)
        return
    for copy in copies(subject.call, subject.generator):
        if copy.kind != "kink" and in_domain(subject, copy):
            yield _transposed(subject, check, copy, list(names))


def _transposed(subject: Subject, check: str, copy: Copy, positions: list[int]) -> Result:
    """Whether ⟨g, J v⟩ is ⟨Jᵀ g, v⟩."""
    call = copy.call
    tangents = {position: subject.signed(call.args[position]) for position in positions}
    pushed = _pushed_forward(call, tangents)
    upstream = subject.signed(pushed)
    gradients = call.pull(upstream)
    forward = pushed * upstream
    reverse = [gradients[call.names[position]] * tangent for position, tangent in tangents.items()]
    pulled = sum((term.sum() for term in reverse), start=forward.new_zeros(()))
    terms = sum(term.abs().sum().item() for term in [forward, *reverse])
    scale = terms + sum(subject.scales[call.names[i]] * tangent.abs().sum().item() for i, tangent in tangents.items())
    return subject.result(check, copy, compare("tangent", forward.sum(), pulled, pulled.double(), scale=scale))


def batched_gradients(subject: Subject) -> Iterator[Result]:
    """Many upstream gradients at once give what they give one by one."""
    upstreams = torch.stack([subject.signed(subject.upstream) for _ in range(BATCH)])
    output, leaves = subject.call.run()
    try:
        found = pulled_back(output, leaves, upstreams, is_grads_batched=True)
    except Exception as error:  # also what a hand-written backward raises
        yield _unsupported(subject, "batched gradients", error)
        return
    each = [subject.call.pull(upstream) for upstream in upstreams]
    named = dict(zip(subject.call.names.values(), found, strict=True))
    yield from _stacked(subject, "batched gradients", subject.given, named, each)


def vmap(subject: Subject) -> Iterator[Result]:
    """Under `torch.func.vmap`, many inputs at once give what they give one by one: values, and per-example gradients.

    All inputs in a batch, along the first dimension and along the last; and one input alone.
    """
    everything = tuple(subject.call.names.values())
    yield from _vmapped(subject, everything, dim=0)
    yield from _vmapped(subject, everything, dim=-1)
    if len(everything) > 1:
        for name in everything:
            yield from _vmapped(subject, (name,), dim=0)


def _vmapped(subject: Subject, batched: tuple[str, ...], *, dim: int) -> Iterator[Result]:
    call, names = subject.call, tuple(subject.call.names.values())
    copy = subject.given.under(f"a batch of {', '.join(batched)} along dimension {dim}")
    dims = tuple(dim if name in batched else None for name in names)
    rows = [
        [x if d is None else x * (1 - i / 10) for x, d in zip(call.inputs, dims, strict=True)] for i in range(BATCH)
    ]
    columns = [
        x if d is None else torch.stack(xs, d)
        for x, d, xs in zip(call.inputs, dims, zip(*rows, strict=True), strict=True)
    ]
    try:
        value, gradients = torch.func.vmap(lambda *xs: _func_gradients(call.at(xs), subject.upstream), dims)(*columns)
    except Exception as error:  # also what a hand-written rule raises
        yield _unsupported(subject, "vmap", error)
        return
    found = {**dict(zip(names, gradients, strict=True)), OUTPUT: value}
    each = [{**call.at(row).pull(subject.upstream), OUTPUT: call.at(row).value()} for row in rows]
    yield from _stacked(subject, "vmap", copy, found, each)


def gradient_call(call: Call, upstream: Tensor) -> Call:
    """The gradients of a call, end to end, as a function of its inputs and of the upstream gradient."""

    def gradients(*args: Any, **options: Any) -> Tensor:
        *args_, grad_output = args
        with torch.enable_grad():
            for position in call.names:
                arg = args_[position]
                args_[position] = arg if arg.requires_grad else arg.detach().requires_grad_()
            output = as_tensor(call.function(*args_, **options))
            found = pulled_back(output, [args_[i] for i in call.names], grad_output, create_graph=True)
        return torch.cat([gradient.reshape(-1) for gradient in found])

    names = {**call.names, len(call.args): "grad_output"}
    return replace(call, function=gradients, args=(*call.args, upstream), names=names)


def _derived(subject: Subject) -> Callable[..., Any] | None:
    """The reference's gradients as such a function; None if they have none themselves."""
    if subject.reference is None:
        return None
    derived = gradient_call(subject.call.of(subject.reference), subject.upstream)
    try:
        derived.pull(derived.value())
    except Exception:  # PyTorch lacks the second derivative of some of its functions
        return None
    return derived.function


def _not_differentiable(derived: Subject) -> str:
    """Why a backward cannot be differentiated, if it cannot."""
    try:
        gradients, leaves = derived.call.run()
        if not gradients.requires_grad:
            return "the backward's result is cut off from its inputs"
        *_, by_upstream = torch.autograd.grad(gradients, leaves, torch.ones_like(gradients), allow_unused=True)
    except RuntimeError as error:
        if any(said in str(error) for said in _UNSUPPORTED):
            return first_line(error)
        raise
    if by_upstream is None and gradients.any():
        return "the backward's graph does not lead back to grad_output: is it once_differentiable, or detached?"
    return ""


def _pushed_forward(call: Call, tangents: Mapping[int, Tensor]) -> Tensor:
    """J v."""
    args = list(call.args)
    with forward_ad.dual_level():
        for position, tangent in tangents.items():
            args[position] = forward_ad.make_dual(  # type: ignore[no-untyped-call]
                args[position].detach().contiguous(), tangent.contiguous()
            )
        output = as_tensor(call.function(*args, **call.options))
        pushed = forward_ad.unpack_dual(output).tangent  # type: ignore[no-untyped-call]
        return torch.zeros_like(output) if pushed is None else pushed.clone()


def _func_gradients(call: Call, upstream: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    output, pull, *_ = torch.func.vjp(lambda *inputs: call.at(inputs).output(), *call.inputs)
    return output, pull(upstream)


def _stacked(
    subject: Subject, check: str, copy: Copy, found: Mapping[str, Tensor], each: list[dict[str, Tensor]]
) -> Iterator[Result]:
    expected = {name: torch.stack([one[name] for one in each]) for name in found}
    for result in subject.same(check, "", found, expected):
        yield replace(result, copy=copy.label)


def _unsupported(subject: Subject, check: str, error: Exception) -> Result:
    """Not offered, if PyTorch says so; otherwise a failure."""
    if isinstance(error, RuntimeError) and any(said in str(error) for said in _UNSUPPORTED):
        return subject.not_offered(check, subject.given, first_line(error))
    return subject.raised(check, subject.given, error)
