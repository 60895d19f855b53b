"""Checks of a function inside PyTorch's wrappers: checkpointing, accumulation into `.grad`, `torch.compile`."""

import functools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bp_torch.gradients.call import Call
from bp_torch.gradients.case import CheckCase, Outcomes, max_abs
from bp_torch.gradients.containers import float_tensors
from bp_torch.gradients.report import Outcome, failed, left_out, unsupported
from bp_torch.gradients.tracing import has_custom_backward

MAX_SECONDS = 0.001
"""Longest time of a call that is also compiled: tracing takes many times as long."""
LARGEST_ERROR = 0.25
"""Relative error under autocast above which the gradient is wrong."""


def checkpointed(case: CheckCase) -> Outcomes:
    """The gradient is the same if the function is checkpointed."""
    if case.call.structure.seed is not None:
        return  # the random numbers are replayed outside the checkpoint
    for name, reentrant in {"checkpoint": False, "reentrant checkpoint": True}.items():
        yield from _wrapped(case, name, partial(checkpoint, _flat(case.call.function), use_reentrant=reentrant))


def compiled(case: CheckCase) -> Outcomes:
    """The gradient of a custom Function is the same under `torch.compile`, if Dynamo traces it quickly."""
    if case.call.parameters or case.call.structure.seed is not None or not has_custom_backward(case.call):
        return
    if case.seconds > MAX_SECONDS:
        yield case.as_given.under("torch.compile"), left_out(f"one call takes more than {MAX_SECONDS} s")
        return
    function = torch.compile(_wrapper(case.call.function), backend=_as_traced, dynamic=False)
    yield from _wrapped(case, "torch.compile", function)


@functools.cache
def load_compiler() -> None:
    """Import what `torch.compile` imports at its first call: a child process would do so each time."""
    torch.compile(_wrapper(torch.sin), backend=_as_traced)(torch.ones(1))


def _as_traced(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """A backend that runs what Dynamo traced."""
    return graph.forward


def autocast(case: CheckCase) -> Outcomes:
    """The gradient under autocast is that of float32, up to rounding in bfloat16."""
    call = case.call.to(torch.float32)
    inside = call.of(torch.autocast("cpu", torch.bfloat16)(_wrapper(call.function)))
    upstream = case.upstream.float()
    try:
        gradients, expected = inside.vjp(upstream), call.vjp(upstream)
    except Exception as error:  # as a backward whose dtypes do not match
        yield case.as_given, unsupported(error)
        return
    for name, gradient in gradients.items():
        difference, size = max_abs(gradient - expected[name]), max(max_abs(expected[name]), case.scales[name])
        message = f"error {difference:.3g} of {size:.3g}, more than rounding in bfloat16 explains"
        is_right = difference <= LARGEST_ERROR * size
        yield case.as_given, Outcome("passed", name) if is_right else failed(message, input=name)


def _wrapped(case: CheckCase, name: str, function: Callable[..., Any]) -> Outcomes:
    try:
        gradients = _gradients(case.call.of(function), case.upstream)
    except Exception as error:  # a wrapper may reject the function
        yield case.as_given.under(name), unsupported(error)
        return
    yield from case.compare(name, gradients)


def _flat(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with nested outputs as one tuple: reentrant checkpointing loses the gradients of nested ones."""
    results = _wrapper(function)
    return lambda *args, **options: y if isinstance(y := results(*args, **options), Tensor) else (*float_tensors(y),)


def _wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: function(*args, **options)


def _gradients(call: Call, upstream: Tensor) -> dict[str, Tensor]:
    """The gradients by `backward`: reentrant checkpointing takes no other."""
    level = logging.root.manager.disable
    logging.disable()  # Dynamo's warnings are about its own limits
    try:
        output, leaves = call.run()
        output.backward(upstream)  # type: ignore[no-untyped-call]
    finally:
        logging.disable(level)
    return call.named([torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves])


def accumulated(case: CheckCase) -> Outcomes:
    """`backward` adds to `.grad`, once, so that hooks on the accumulation run once."""
    output, leaves = case.call.run()
    if not output.requires_grad:
        return
    calls: list[Tensor] = []
    for name, leaf in case.call.named(leaves).items():
        leaf.grad = case.gradients[name].clone()
        leaf.register_post_accumulate_grad_hook(calls.append)  # type: ignore[no-untyped-call]
    output.backward(case.upstream)  # type: ignore[no-untyped-call]
    added = {name: leaf.grad / 2 for name, leaf in case.call.named(leaves).items() if leaf.grad is not None}
    yield from case.compare("added to .grad", added)
    used = sum(bool(gradient.any()) for gradient in case.gradients.values())
    once = used <= len(calls) <= len(leaves)
    outcome = Outcome("passed") if once else failed(f"{len(calls)} gradients accumulated for {len(leaves)} inputs")
    yield case.as_given.under("hooks"), outcome
