"""Run every check on every sample of a function."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, CannotCheck, as_callable, as_calls, vjp
from bp_torch.gradients.case import CheckCase, Outcomes, catch_errors
from bp_torch.gradients.checks import first_order, invariants, transforms
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.report import GradientError, GradientReport, Result, first_line
from bp_torch.threads import one_thread

Check = Callable[[CheckCase], Outcomes]
SMALL = 100_000
"""Number of components of all inputs up to which one thread is used."""
FIRST: dict[str, Check] = {
    "side effects": invariants.side_effects,
    "repeatability": invariants.repeatability,
    "value": first_order.value,
    "gradient": first_order.gradient,
}
"""Checks that run first; after a failure the variants are skipped."""
REST: dict[str, Check] = {
    "linearity": invariants.linearity,
    "subsets of inputs": invariants.subsets,
    "unused outputs": invariants.unused_outputs,
    "layouts": invariants.layouts,
    "saved tensors": invariants.saved_tensors,
}
VARIANTS: dict[str, Check] = {"value": first_order.value_of_variants, "gradient": first_order.gradient_of_variants}
"""Checks of the variants; skipped if one of the first checks fails."""
SMOOTH: dict[str, Check] = {
    "finite differences": first_order.finite_differences,
    "forward mode": transforms.forward_mode,
    "batched gradients": transforms.batched_gradients,
    "vmap": transforms.vmap,
    "double backward": transforms.double_backward,
}
"""Checks that need a finite value."""


def check_gradients(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    fail_fast: bool = False,
) -> GradientReport:
    """Check the gradients of a function: first order, invariants, transforms and precision.

    Args:
        function: a callable that takes Tensors and returns a Tensor, or a nested tuple, list or dict of them. It may be
            a `torch.autograd.Function`, or an `nn.Module`, whose parameters are then checked too.
        samples: a list of argument tuples. If some Tensors of a tuple require a gradient, only those are checked;
            otherwise every floating-point Tensor is. The samples are not modified. A sample in another dtype is also
            checked in float64, if the function supports it.
        reference: a function known to be correct, with the same signature; a plain function as the reference of a
            module takes the parameters as further arguments. Gradients are compared with its gradients, in the same
            dtype and in float64; failures that it shares do not count. Default: finite differences in float64.
        seed: seed of the random directions, upstream gradients and variants.
        fail_fast: stop at the first failure.

    Returns:
        The report; `print` it.

    Raises:
        CannotCheck: if the function raises, or returns no Tensor or one that is not finite; if its values are not
            accurate enough for finite differences; if a sample has no differentiable input, or all inputs or outputs
            are empty; if the reference raises, is not deterministic, has no gradient, or returns another shape or
            dtype than the function.
    """
    calls = as_calls(function, samples)
    results: list[Result] = []
    small = sum(x.numel() for call in calls for x in call.inputs) <= SMALL
    with warnings.catch_warnings(action="ignore"), one_thread() if small else nullcontext():
        for result in _results(calls, reference, seed):
            results.append(result)
            if fail_fast and result.status == "failed":
                break
    inconclusive = [result for result in results if result.status == "inconclusive"]
    if inconclusive and not any(result.status == "failed" for result in results):
        first = inconclusive[0]
        raise CannotCheck(f"sample {first.sample}, input {first.input!r}: {first.message}")
    against = "finite differences" if reference is None else name_of(reference)
    inputs = tuple(dict.fromkeys(name for call in calls for name in call.by_name))
    return GradientReport(name_of(function), inputs, against, tuple(results), tuple(hints.for_report(results)))


def assert_gradients(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> None:
    """Run `check_gradients` in a test.

    Raises:
        GradientError: if a check failed; the message is the report.
        CannotCheck: see `check_gradients`.
    """
    report = check_gradients(function, samples, reference=reference, seed=seed)
    if not report.passed:
        raise GradientError(str(report))


def name_of(function: Any) -> str:
    """The name of a function in a report."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return getattr(function, "__name__", None) or type(function).__name__


def _results(calls: Sequence[Call], reference: Callable[..., Any] | None, seed: int) -> Iterator[Result]:
    if not any(x.numel() for call in calls for x in call.inputs):
        raise CannotCheck("every input is empty: there is no gradient to check")
    oracle = None if reference is None else as_callable(reference, calls[0].parameters, "the reference")
    generator = torch.Generator().manual_seed(seed)
    cases = [CheckCase(number, _in_float64(call), oracle, generator) for number, call in enumerate(calls)]
    for case in cases:
        _require_comparable(case)
    if not any(case.as_given.value.numel() for case in cases):
        raise CannotCheck("every output is empty: there is no gradient to check")
    for case, call in zip(cases, calls, strict=True):
        yield from _check_sample(case, call)


def _check_sample(case: CheckCase, sample: Call) -> Iterator[Result]:
    """Run every check in float64 if possible, then compare the gradient in the sample's dtype and in float32."""
    failed = False
    for name, check in FIRST.items():
        for result in _run(name, check, case):
            failed = failed or result.status == "failed"
            yield result
        if failed and name == "side effects":
            return  # the other checks would compare values that change
    smooth = SMOOTH if case.as_given.value.isfinite().all() else {}
    for name, check in [*REST.items(), *(() if failed else VARIANTS.items()), *smooth.items()]:
        yield from _run(name, check, case)
    for dtype in dict.fromkeys((sample.dtype, torch.float32)):
        if dtype != torch.float64:
            narrow = replace(case, call=sample.to(dtype))
            yield from _run(f"gradient in {dtype}".replace("torch.", ""), first_order.precision, narrow)


def _run(name: str, check: Check, case: CheckCase) -> Iterator[Result]:
    """Run one check; a failure that the reference shares becomes unsupported."""
    of_reference = _results_of(name, check, replace(case, call=case.oracle))  # a generator: runs only after a failure
    shared = set()
    for result in _results_of(name, check, case):
        if result.status == "failed" and case.reference is not None:
            for other in of_reference:
                if other.status == "failed":
                    shared.add(_failure_signature(other))
                if (other.variant, other.input) == (result.variant, result.input):
                    break
            if _failure_signature(result) in shared:
                message = "the reference fails this too"
                result = replace(result, status="unsupported", message=message, comparison=None)
        yield result


def _results_of(name: str, check: Check, case: CheckCase) -> Iterator[Result]:
    """The outcomes of a check, as results."""
    for variant, outcome in catch_errors(case.as_given, check(case)):
        yield Result(**vars(outcome), check=name, sample=case.sample, kind=variant.kind, variant=variant.label)


def _failure_signature(result: Result) -> tuple[str, ...]:
    """Two failures with the same variant, input and exception count as the same."""
    return result.variant, str(result.input), result.message if result.message.startswith("raised") else ""


def _in_float64(call: Call) -> Call:
    """The call in float64, or unchanged if the function does not support float64."""
    wide = call.to(torch.float64)
    try:
        return wide if wide.value().dtype == torch.float64 else call
    except (Exception, SystemExit):  # an unsupported dtype may raise anything
        return call


def _require_comparable(case: CheckCase) -> None:
    """Raise CannotCheck unless function and reference return values that can be compared."""
    sample = f"sample {case.sample}"
    value = _value(case.call, f"{sample}: the function")
    if case.reference is None:
        _require_differences(case.call, value, f"{sample}: the function")
        return
    expected, again = (_value(case.oracle, f"{sample}: the reference") for _ in range(2))
    kinds = {"shape": (tuple(value.shape), tuple(expected.shape)), "dtype": (value.dtype, expected.dtype)}
    for what, (ours, theirs) in kinds.items():
        if ours != theirs:
            raise CannotCheck(f"{sample}: the function returns {what} {ours}, but the reference {theirs}")
    if not torch.allclose(expected, again, equal_nan=True):
        raise CannotCheck(f"{sample}: the reference is not deterministic: two calls return different values")
    if not value.isfinite().all() and expected.isfinite().all():
        raise CannotCheck(f"{sample}: the function returns {_non_finite(value)}, where the reference is finite")
    _require_gradient(case.oracle, expected, f"{sample}: the reference")


def _require_differences(call: Call, value: Tensor, label: str) -> None:
    """Raise CannotCheck if finite differences are impossible."""
    if call.dtype != torch.float64:
        raise CannotCheck(f"{label} does not return float64 for float64; give a reference")
    for what, numbers in {"takes": torch.cat([x.flatten() for x in call.inputs]), "returns": value}.items():
        if not numbers.isfinite().all():
            raise CannotCheck(f"{label} {what} {_non_finite(numbers)}; finite differences need finite values")
    if has_reduced_precision(call):
        raise CannotCheck(f"{label}'s values are less accurate than float64; give a reference")


def _require_gradient(oracle: Call, value: Tensor, label: str) -> None:
    try:
        output, leaves = oracle.run()
        vjp(output, leaves, torch.ones_like(value))
    except Exception as error:
        raise CannotCheck(f"{label} has no gradient: {first_line(error)}") from error
    if not output.requires_grad:
        raise CannotCheck(f"{label} has no gradient: its output is detached from its inputs")


def _value(call: Call, label: str) -> Tensor:
    try:
        return call.value()
    except CannotCheck as error:
        raise CannotCheck(f"{label} {error}") from None
    except (Exception, SystemExit) as error:
        raise CannotCheck(f"{label} raised {first_line(error)}") from error


def _non_finite(value: Tensor) -> float:
    return value[~value.isfinite()].flatten()[0].item()
