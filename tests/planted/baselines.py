"""Baselines: other gradient checkers in common use, each run on every sample.

A baseline is a function of (function, reference, samples) that returns whether it raises an alarm. An exception from
the function under test counts as an alarm. All baselines work on copies of the samples, converted to one dtype.

What no baseline takes is unpacked for it: nested arguments and keywords become a list of Tensors, a module's parameters
are inputs, complex numbers become pairs of real ones, several outputs one, and a constrained input is projected first.
Without a reference, the baselines that need one raise no alarm; nor does bfloat16 for complex numbers, or `gradcheck`,
except in fast mode, for more than `LARGEST` components.
"""

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, as_callable, as_calls
from planted.bug import Reference, Samples

UNSUPPORTED = re.compile(
    "|".join(
        [
            "You must implement the jvp function for custom autograd.Function",
            "Trying to use forward AD with .* that does not support it",
            "it must override the setup_context staticmethod",
            "it does not have vmap support. Please override and implement the vmap staticmethod",
            "(^|: )vmap: ",  # data-dependent control flow, .item(), unsupported in-place operations
            "Batching rule not implemented for",
            "Batch norm got a batched tensor as input",
            "doesn't match the broadcast shape",  # an in-place operation under vmap
            "element 0 of tensors does not require grad and does not have a grad_fn",
            "trying to differentiate twice a function that was marked with @once_differentiable",
            r"Can't call numpy\(\) on Tensor that requires grad",
            "Cannot access data pointer of Tensor that doesn't have storage",
            "derivative for .* is not implemented",
            "don't support automatic differentiation",
        ]
    )
)
"""PyTorch's messages for an unsupported transform."""
Baseline = Callable[[Callable[..., Any], Reference, Samples], bool]
Differentiable = Callable[..., Tensor]
LARGEST = 1_000
"""Largest number of components of inputs and output for which `gradcheck` computes every element of the Jacobian."""


def gradcheck(function: Callable[..., Any], reference: Reference, samples: Samples) -> bool:
    """`torch.autograd.gradcheck` with default options: float64, every element by finite differences."""
    return _alarms(lambda call: _is_large(call) or torch.autograd.gradcheck(*_flat(call)), function, samples)


def gradcheck_fast(function: Callable[..., Any], reference: Reference, samples: Samples) -> bool:
    """`torch.autograd.gradcheck(fast_mode=True)`: along one random direction."""
    check = partial(torch.autograd.gradcheck, fast_mode=True)
    return _alarms(lambda call: check(*_flat(call)), function, samples)


def gradcheck_in_full(function: Callable[..., Any], reference: Reference, samples: Samples) -> bool:
    """Every check of `torch.autograd` that the function supports.

    `gradcheck` with batched gradients and forward mode, and `gradgradcheck` for second derivatives.
    """
    gradcheck, gradgradcheck = torch.autograd.gradcheck, torch.autograd.gradgradcheck
    checks = (
        gradcheck,
        partial(gradcheck, check_batched_grad=True),
        partial(gradcheck, check_forward_ad=True, check_backward_ad=False),
        gradgradcheck,
    )

    def passes(call: Call) -> bool:
        return _is_large(call) or all(_passes_or_unsupported(check, *_flat(call)) for check in checks)

    return _alarms(passes, function, samples)


def allclose_of_ones(function: Callable[..., Any], reference: Reference, samples: Samples) -> bool:
    """`torch.allclose` in float32 after `y.sum().backward()`: an upstream gradient of ones."""

    def agree(call: Call) -> bool:
        actual, expected = (
            _gradients(each, torch.ones(()).expand_as) for each in (call, _of_reference(call, reference))
        )
        return all(torch.allclose(a, b) for a, b in zip(actual, expected, strict=True))

    return reference is not None and _alarms(agree, function, samples, torch.float32)


def assert_close_of_random(function: Callable[..., Any], reference: Reference, samples: Samples) -> bool:
    """`torch.testing.assert_close` in float32, for a random upstream gradient."""
    agree = partial(_assert_close, reference=reference)
    return reference is not None and _alarms(agree, function, samples, torch.float32)


def assert_close_in_bfloat16(function: Callable[..., Any], reference: Reference, samples: Samples) -> bool:
    """`torch.testing.assert_close` in bfloat16 with atol = rtol = 0.05 (as in Liger-Kernel's test_softmax.py)."""

    def agree(call: Call) -> bool:
        return bool(call.structure.complex_positions) or _assert_close(call, reference, tolerance=5e-2)

    return reference is not None and _alarms(agree, function, samples, torch.bfloat16)


BASELINES: dict[str, Baseline] = {
    "gradcheck": gradcheck,
    "gradcheck, fast": gradcheck_fast,
    "gradcheck, in full": gradcheck_in_full,
    "allclose, ones, float32": allclose_of_ones,
    "assert_close, random, float32": assert_close_of_random,
    "assert_close, 0.05, bfloat16": assert_close_in_bfloat16,
}


def _passes_or_unsupported(check: Callable[..., bool], function: Differentiable, inputs: tuple[Tensor, ...]) -> bool:
    try:
        return check(function, inputs)
    except RuntimeError as error:
        if UNSUPPORTED.search(str(error)):
            return True
        raise


def _assert_close(call: Call, reference: Reference, tolerance: float | None = None) -> bool:
    of_reference = _of_reference(call, reference)
    upstream = torch.randn_like(of_reference.output())
    actual, expected = (_gradients(each, lambda _: upstream.clone()) for each in (call, of_reference))
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)
    return True


def _alarms(
    passes: Callable[[Call], bool],
    function: Callable[..., Any],
    samples: Samples,
    dtype: torch.dtype = torch.float64,
) -> bool:
    """Whether the check fails or raises for any sample."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            return not all(passes(call.to(dtype)) for call in as_calls(function, samples))
        except Exception:  # AssertionError, GradcheckError, or an exception from the function
            return True


def _is_large(call: Call) -> bool:
    return sum(x.numel() for x in (*call.inputs, call.value())) > LARGEST


def _flat(call: Call) -> tuple[Differentiable, tuple[Tensor, ...]]:
    """A function of the differentiable inputs alone, and copies of these that require gradients."""
    return lambda *inputs: call.at(inputs).output(), tuple(x.clone().requires_grad_() for x in call.inputs)


def _of_reference(call: Call, reference: Reference) -> Call:
    return call.of(as_callable(reference, call.parameters, "the reference"))


def _gradients(call: Call, upstream: Callable[[Tensor], Tensor]) -> list[Any]:
    """The `.grad` of copies of the inputs after `y.backward(upstream(y))`."""
    function, inputs = _flat(call.clone())
    output = function(*inputs)
    torch.autograd.backward(output, upstream(output))
    return [x.grad for x in inputs]
