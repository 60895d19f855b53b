"""Baselines: other gradient checkers in common use, each run on every sample.

A baseline is a function of (function, reference, samples) that returns whether it raises an alarm. An exception from
the function under test counts as an alarm. All baselines work on copies of the samples.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.checks.transforms import UNSUPPORTED
from planted.bug import Samples

Differentiable = Callable[..., Tensor]
Baseline = Callable[[Differentiable, Differentiable, Samples], bool]


def gradcheck(function: Differentiable, reference: Differentiable, samples: Samples) -> bool:
    """`torch.autograd.gradcheck` with default options: float64, every element by finite differences."""
    return _alarms(lambda args: torch.autograd.gradcheck(function, args), samples, torch.float64)


def gradcheck_fast(function: Differentiable, reference: Differentiable, samples: Samples) -> bool:
    """`torch.autograd.gradcheck(fast_mode=True)`: along one random direction."""
    return _alarms(lambda args: torch.autograd.gradcheck(function, args, fast_mode=True), samples, torch.float64)


def gradcheck_in_full(function: Differentiable, reference: Differentiable, samples: Samples) -> bool:
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

    def passes(args: tuple[Any, ...]) -> bool:
        return all(_passes_or_unsupported(check, function, args) for check in checks)

    return _alarms(passes, samples, torch.float64)


def allclose_of_ones(function: Differentiable, reference: Differentiable, samples: Samples) -> bool:
    """`torch.allclose` in float32 after `y.sum().backward()`: an upstream gradient of ones."""

    def agree(args: tuple[Any, ...]) -> bool:
        actual, expected = (_gradients(f, args, torch.ones(()).expand_as) for f in (function, reference))
        return all(torch.allclose(a, b) for a, b in zip(actual, expected, strict=True))

    return _alarms(agree, samples, torch.float32)


def assert_close_of_random(function: Differentiable, reference: Differentiable, samples: Samples) -> bool:
    """`torch.testing.assert_close` in float32, for a random upstream gradient."""
    return _alarms(lambda args: _assert_close(function, reference, args), samples, torch.float32)


def assert_close_in_bfloat16(function: Differentiable, reference: Differentiable, samples: Samples) -> bool:
    """`torch.testing.assert_close` in bfloat16 with atol = rtol = 0.05 (as in Liger-Kernel's test_softmax.py)."""
    return _alarms(lambda args: _assert_close(function, reference, args, tolerance=5e-2), samples, torch.bfloat16)


BASELINES: dict[str, Baseline] = {
    "gradcheck": gradcheck,
    "gradcheck, fast": gradcheck_fast,
    "gradcheck, in full": gradcheck_in_full,
    "allclose, ones, float32": allclose_of_ones,
    "assert_close, random, float32": assert_close_of_random,
    "assert_close, 0.05, bfloat16": assert_close_in_bfloat16,
}


def _passes_or_unsupported(check: Callable[..., bool], function: Differentiable, args: tuple[Any, ...]) -> bool:
    try:
        return check(function, args)
    except RuntimeError as error:
        if UNSUPPORTED.search(str(error)):
            return True
        raise


def _assert_close(
    function: Differentiable, reference: Differentiable, args: tuple[Any, ...], tolerance: float | None = None
) -> bool:
    upstream = torch.randn_like(reference(*args))
    actual, expected = (_gradients(f, args, lambda _: upstream.clone()) for f in (function, reference))
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)
    return True


def _alarms(passes: Callable[[tuple[Any, ...]], bool], samples: Samples, dtype: torch.dtype) -> bool:
    """Whether the check fails or raises for any sample."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            return not all(passes(_leaves(args, dtype)) for args in samples)
        except Exception:  # AssertionError, GradcheckError, or an exception from the function
            return True


def _leaves(args: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """Copies in another dtype; floating-point Tensors require gradients."""
    return tuple(
        arg.detach().to(dtype, copy=True).requires_grad_()
        if isinstance(arg, Tensor) and arg.is_floating_point()
        else arg
        for arg in args
    )


def _gradients(function: Differentiable, args: tuple[Any, ...], upstream: Callable[[Tensor], Tensor]) -> list[Any]:
    """The `.grad` of copies of the arguments after `y.backward(upstream(y))`."""
    copies = tuple(arg.detach().clone().requires_grad_() if _differentiable(arg) else arg for arg in args)
    output = function(*copies)
    torch.autograd.backward(output, upstream(output))
    return [arg.grad for arg in copies if _differentiable(arg)]


def _differentiable(arg: object) -> bool:
    return isinstance(arg, Tensor) and arg.requires_grad
