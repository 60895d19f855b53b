"""Checks under PyTorch's transforms: double backward, forward mode, batched gradients and vmap."""

import functools
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bp_torch.gradients.call import Call, Structure, vjp
from bp_torch.gradients.case import OUTPUT, CheckCase, Outcomes, exception_outcome
from bp_torch.gradients.checks.first_order import compare_gradients
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.report import Outcome, comparison_outcome, failed, left_out, unsupported
from bp_torch.gradients.tracing import saves_intermediate
from bp_torch.gradients.variants import Variant

BATCH = 3
REFUSAL = re.compile(r"support|implement", re.IGNORECASE)
"""Words of a rule that refuses what it cannot do."""
LARGE = 1000.0
"""Factor for the inputs at which exponentials overflow."""
SAVED = "an intermediate was saved: recompute it in the backward, or mark the backward once_differentiable"


@functools.cache
def load_transforms() -> None:
    """Import what forward mode and `vmap` import at their first call: a child process would do so each time."""
    with forward_ad.dual_level():
        forward_ad.make_dual(torch.ones(1), torch.ones(1))  # type: ignore[no-untyped-call]
    torch.func.vmap(torch.func.grad(torch.sin))(torch.ones(1))


def double_backward(case: CheckCase) -> Outcomes:
    """The gradient of the backward, as a function of inputs and upstream gradient, is correct."""
    derived = replace(case, call=gradient_call(case.call, case.upstream), reference=_reference_gradients(case))
    if outcome := _not_differentiable(derived):
        yield case.as_given, outcome
        return
    plain = torch.cat([gradient.reshape(-1) for gradient in case.gradients.values()])
    comparison = compare("gradients", derived.as_given.value, plain, plain.double(), scale=max(case.scales.values()))
    yield case.as_given.under("create_graph"), comparison_outcome(comparison)
    large = derived.call.at([*(LARGE * x for x in case.call.inputs), case.upstream])
    variants = [derived.as_given, Variant("scaled", f"scaled by {LARGE:g}", large)]
    for variant in variants[: 1 + derived.in_domain(large)]:
        for _, outcome in compare_gradients(derived, variant, derived.upstream):
            if outcome.status == "failed":
                message = outcome.message.replace("WRONG EQUATION", "SECOND DERIVATIVE WRONG")
                hint = SAVED if saves_intermediate(case.call) else outcome.hint
                outcome = replace(outcome, message=message, hint=hint)
            if outcome.status != "inconclusive":  # the gradient is discontinuous at a kink
                yield variant, replace(outcome, order=None)  # of the gradient as it is, which may be wrong


def forward_mode(case: CheckCase) -> Outcomes:
    """Forward mode is the transpose of reverse mode, for all inputs and for each, at the sample and at variants."""
    names = case.call.names
    try:
        yield case.as_given, _compare_jvp(case, case.call)
        for position in names if len(names) > 1 else ():
            single = case.call.with_respect_to([position])
            yield case.as_given.under(f"along {names[position]}"), _compare_jvp(case, single)
    except Exception as error:  # may come from a hand-written jvp
        yield case.as_given, _refused(error, "jvp")
        return


def forward_mode_of_variant(case: CheckCase, variant: Variant) -> Outcomes:
    """Forward mode is the transpose of reverse mode, at scaled inputs and other sizes."""
    if variant.kind in ("scaled", "size"):
        yield variant, _compare_jvp(case, variant.call)


def _compare_jvp(case: CheckCase, call: Call) -> Outcome:
    """Compare ⟨g, J v⟩ with ⟨Jᵀ g, v⟩."""
    tangents = {name: case.random_like(input) for name, input in call.by_name.items()}
    output_tangent = _jvp(call, tangents.values())
    upstream = case.random_like(output_tangent)
    gradients = call.vjp(upstream)
    forward = output_tangent * upstream
    reverse = [gradients[name] * tangent for name, tangent in tangents.items()]
    reverse_sum = sum((term.sum() for term in reverse), start=forward.new_zeros(()))
    terms = sum(term.abs().sum().item() for term in [forward, *reverse])
    scale = terms + sum(case.scales[name] * tangent.abs().sum().item() for name, tangent in tangents.items())
    actual, expected = forward.sum(), reverse_sum.to(forward.dtype)
    return comparison_outcome(compare("tangent", actual, expected, expected.double(), scale=scale))


def batched_gradients(case: CheckCase) -> Outcomes:
    """A batch of upstream gradients gives the same gradients as one at a time."""
    upstreams = torch.stack([case.random_like(case.upstream) for _ in range(BATCH)])
    output, leaves = case.call.run()
    try:
        gradients = vjp(output, leaves, upstreams, is_grads_batched=True)
    except Exception as error:  # may come from a hand-written backward
        yield case.as_given, unsupported(error)
        return
    each = [case.call.vjp(upstream) for upstream in upstreams]
    yield from case.compare("a batch of upstream gradients", case.call.named(gradients), _stack(each))


def vmap(case: CheckCase) -> Outcomes:
    """Values and per-example gradients under `torch.func.vmap` are the same as for one example at a time.

    The batch dimension is the first or the last, of all inputs or of a single one. The gradient of a batched call is
    checked too: its backward goes through the vmap rule. The examples of a random function have the same random
    numbers; what draws others for a batch than for one example cannot be compared.
    """
    everything, works = tuple(case.call.by_name), False
    for batched, dim in [(everything, 0), (everything, -1), *(((name,), 0) for name in everything if everything[1:])]:
        label = f"a batch of {', '.join(batched)} along dimension {dim}"
        dims = tuple(dim if name in batched else None for name in everything)
        try:
            yield from _vmapped(case, label, dims)
            works |= dim == 0
        except Exception as error:  # may come from a hand-written vmap rule
            outcome = exception_outcome(error) if works and dim == -1 else _refused(error, "vmap")
            yield case.as_given.under(label), outcome


def _vmapped(case: CheckCase, label: str, dims: tuple[int | None, ...]) -> Outcomes:
    call, upstream = case.call, case.upstream
    rows = [
        [x if d is None else x * (1 - i / 10) for x, d in zip(call.inputs, dims, strict=True)] for i in range(BATCH)
    ]
    columns = [
        x if d is None else torch.stack(column, d)
        for x, d, column in zip(call.inputs, dims, zip(*rows, strict=True), strict=True)
    ]
    is_random = call.structure.seed is not None
    vmapped = functools.partial(torch.func.vmap, in_dims=dims, randomness="same" if is_random else "error")
    value, gradients = vmapped(lambda *xs: _func_gradients(call.at(xs), upstream))(*columns)
    each = _stack([{**call.at(row).vjp(upstream), OUTPUT: call.at(row).value()} for row in rows])
    if is_random and not torch.allclose(value, each[OUTPUT]):
        yield case.as_given.under(label), left_out("the random numbers differ under vmap")
        return
    yield from case.compare(label, {**call.named(gradients), OUTPUT: value}, each)
    if set(dims) == {0}:
        leaves = [column.requires_grad_() for column in columns]
        values = vmapped(lambda *xs: call.at(xs).output())(*leaves)
        batched = call.named(vjp(values, leaves, upstream.expand_as(values)))
        yield from case.compare(f"{label}, then differentiated", batched, each)


def gradient_call(call: Call, upstream: Tensor) -> Call:
    """The concatenated gradients of a call, as a function of its inputs and the upstream gradient."""

    def gradients(*args: Any) -> Tensor:
        inner = replace(call, args=args[:-1])
        with torch.enable_grad():
            inner = inner.at([x if x.requires_grad else x.detach().requires_grad_() for x in inner.inputs])
            results = vjp(inner.output(), inner.inputs, args[-1], create_graph=True)
        return torch.cat([gradient.reshape(-1) for gradient in results])

    names = {**call.names, len(call.args): "grad_output"}
    return replace(call, function=gradients, args=(*call.args, upstream), names=names, structure=Structure())


def _reference_gradients(case: CheckCase) -> Callable[..., Any] | None:
    """The reference's gradients as such a function; None if it has no second derivative."""
    if case.reference is None:
        return None
    derived = gradient_call(case.oracle, case.upstream)
    try:
        derived.vjp(derived.value())
    except Exception:  # some functions of PyTorch have no second derivative
        return None
    return derived.function


def _not_differentiable(derived: CheckCase) -> Outcome | None:
    """The outcome if the backward cannot be differentiated, otherwise None."""
    try:
        gradients, leaves = derived.call.run()
        if not gradients.requires_grad:
            return _detached(derived)
        *_, by_upstream = torch.autograd.grad(gradients, leaves, torch.ones_like(gradients), allow_unused=True)
    except Exception as error:  # may come from a hand-written backward
        return unsupported(error)
    if by_upstream is None and gradients.any():
        reason = (
            "the backward's result does not depend on grad_output in the graph: is it once_differentiable, or detached?"
        )
        return unsupported(reason)
    return None


def _refused(error: Exception, rule: str) -> Outcome:
    """Unsupported, but a failure if a hand-written rule raises anything else than a refusal."""
    frames = traceback.extract_tb(error.__traceback__)
    torch_folder = str(Path(torch.__file__).parent)
    own = any(frame.name == rule and not frame.filename.startswith((torch_folder, __file__)) for frame in frames)
    refuses = isinstance(error, NotImplementedError) or REFUSAL.search(str(error))
    return unsupported(error) if refuses or not own else exception_outcome(error)


def _detached(derived: CheckCase) -> Outcome:
    """Unsupported, but a failure if the backward's result is part of the graph for other inputs."""
    other = derived.call.at([derived.random_like(x) for x in derived.call.inputs])
    if derived.reference is None or not other.run()[0].requires_grad:
        return unsupported("the backward's result is detached from its inputs")
    return failed("the backward's result is detached from its inputs for these numbers, and not for others")


def _jvp(call: Call, tangents: Iterable[Tensor]) -> Tensor:
    """The Jacobian-vector product J v."""
    with forward_ad.dual_level():
        pairs = zip(call.inputs, tangents, strict=True)
        duals = [forward_ad.make_dual(x.detach().contiguous(), v.contiguous()) for x, v in pairs]  # type: ignore[no-untyped-call]
        output = call.at(duals).output()
        tangent = forward_ad.unpack_dual(output).tangent  # type: ignore[no-untyped-call]
        return torch.zeros_like(output) if tangent is None else tangent.clone()


def _func_gradients(call: Call, upstream: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    output, pull, *_ = torch.func.vjp(lambda *inputs: call.at(inputs).output(), *call.inputs)
    return output, pull(upstream)


def _stack(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}
