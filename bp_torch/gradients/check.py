"""Check the gradients of a function: every check, on every sample."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, CannotCheck, as_calls, callable_of, pulled_back
from bp_torch.gradients.case import CheckCase, Pairs, attempt
from bp_torch.gradients.checks import first_order, invariants, transforms
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.report import GradientError, GradientReport, Result, first_line

Check = Callable[[CheckCase], Pairs]
FIRST: dict[str, Check] = {
    "side effects": invariants.side_effects,
    "repeatability": invariants.repeatability,
    "value": first_order.value,
    "gradient": first_order.gradient,
}
"""If one of these fails, the others are of little use."""
REST: dict[str, Check] = {
    "linearity": invariants.linearity,
    "subsets of inputs": invariants.subsets,
    "unused outputs": invariants.unused_outputs,
    "layouts": invariants.layouts,
    "saved tensors": invariants.saved_tensors,
}
VARIANTS: dict[str, Check] = {"value": first_order.value_of_variants, "gradient": first_order.gradient_of_variants}
"""Skipped where one of the first fails: they add nothing to a gradient that is wrong as given."""
SMOOTH: dict[str, Check] = {
    "finite differences": first_order.finite_differences,
    "forward mode": transforms.forward_mode,
    "batched gradients": transforms.batched_gradients,
    "vmap": transforms.vmap,
    "double backward": transforms.double_backward,
}
"""Skipped where the value is not finite, as of the mean of no numbers."""


def check_gradients(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    fail_fast: bool = False,
) -> GradientReport:
    """Check the gradients of a function, in every way they can be wrong.

    Args:
        function: any callable of Tensors that returns a Tensor, or several in tuples, lists or dicts: a function, a
            `torch.autograd.Function`, or an `nn.Module`, whose parameters are then checked too.
        samples: a list of argument tuples. Where some Tensor of a tuple requires a gradient, those that do are checked
            and the others held fixed; otherwise every Tensor of floating-point numbers is checked. Nothing in them is
            changed. Samples below float64 are checked in float64 too, if the function takes it.
        reference: a function known to be right, with the same signature; it may take a module's parameters as further
            arguments. The gradients are compared with its gradients, in the same dtype and in float64; failures that
            it shares do not count. Without one, they are compared with finite differences of the function's own
            values, in float64.
        seed: of directions, upstream gradients and copies of the samples.
        fail_fast: stop at the first failure.

    Returns:
        The report: `print` it.

    Raises:
        CannotCheck: if there is nothing to compare: a function that raises, returns no Tensor, or something not finite;
            values too rough for finite differences; a sample without an input that needs a gradient; a reference that
            cannot be called in the same way, returns another shape or dtype, or other values at every call, or has no
            gradient; nothing but empty inputs or outputs.
    """
    calls = as_calls(function, samples)
    results: list[Result] = []
    with warnings.catch_warnings(action="ignore"):
        for result in _results(calls, reference, seed):
            results.append(result)
            if fail_fast and result.status == "failed":
                break
    unclear = [result for result in results if result.status == "inconclusive"]
    if unclear and not any(result.status == "failed" for result in results):
        raise CannotCheck(f"sample {unclear[0].sample}, input {unclear[0].input!r}: {unclear[0].message}")
    against = "finite differences" if reference is None else name_of(reference)
    inputs = tuple(dict.fromkeys(name for call in calls for name in call.by_name))
    return GradientReport(name_of(function), inputs, against, tuple(results), tuple(hints.of_report(results)))


def assert_gradients(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> None:
    """For a test: `check_gradients`, and raise GradientError with the report as its message if anything failed."""
    report = check_gradients(function, samples, reference=reference, seed=seed)
    if not report.passed:
        raise GradientError(str(report))


def name_of(function: Any) -> str:
    """What to call a function in a report."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return getattr(function, "__name__", None) or type(function).__name__


def _results(calls: Sequence[Call], reference: Callable[..., Any] | None, seed: int) -> Iterator[Result]:
    if not any(x.numel() for call in calls for x in call.inputs):
        raise CannotCheck("every input is empty: there is no gradient to check")
    oracle = None if reference is None else callable_of(reference, calls[0].parameters, "the reference")
    generator = torch.Generator().manual_seed(seed)
    cases = [CheckCase(number, _in_float64(call), oracle, generator) for number, call in enumerate(calls)]
    for case in cases:
        _require_comparable(case)
    if not any(case.given.value.numel() for case in cases):
        raise CannotCheck("every output is empty: there is no gradient to check")
    for case, call in zip(cases, calls, strict=True):
        yield from _check_sample(case, call)


def _check_sample(case: CheckCase, given: Call) -> Iterator[Result]:
    """Every check of one sample: in float64 if that is possible, the gradient in its own dtype and in float32 too."""
    failed = False
    for name, check in FIRST.items():
        for result in _run(name, check, case):
            failed = failed or result.status == "failed"
            yield result
        if failed and name == "side effects":
            return  # what follows would compare numbers that change
    smooth = SMOOTH if case.given.value.isfinite().all() else {}
    for name, check in [*REST.items(), *(() if failed else VARIANTS.items()), *smooth.items()]:
        yield from _run(name, check, case)
    for dtype in dict.fromkeys((given.dtype, torch.float32)):
        if dtype != torch.float64:
            narrow = replace(case, call=given.to(dtype))
            yield from _run(f"gradient in {dtype}".replace("torch.", ""), first_order.precision, narrow)


def _run(name: str, check: Check, case: CheckCase) -> Iterator[Result]:
    """The results of one check; failures that the reference shares do not count."""
    of_reference = _named(name, check, replace(case, call=case.oracle))  # nothing is run until something fails
    shared = set()
    for result in _named(name, check, case):
        if result.status == "failed" and case.reference is not None:
            for its in of_reference:
                if its.status == "failed":
                    shared.add(_signature(its))
                if (its.variant, its.input) == (result.variant, result.input):
                    break
            if _signature(result) in shared:
                message = "the reference fails this too"
                result = replace(result, status="unsupported", message=message, comparison=None)
        yield result


def _named(name: str, check: Check, case: CheckCase) -> Iterator[Result]:
    """What a check finds, as results."""
    for variant, outcome in attempt(case.given, check(case)):
        yield Result(**vars(outcome), check=name, sample=case.sample, kind=variant.kind, variant=variant.label)


def _signature(result: Result) -> tuple[str, ...]:
    """What makes two failures the same: the variant, the input, and the exception if there is one."""
    return result.variant, str(result.input), result.message if result.message.startswith("raised") else ""


def _in_float64(call: Call) -> Call:
    """The call in float64, or as it is if the function does not compute in it."""
    wide = call.to(torch.float64)
    try:
        return wide if wide.value().dtype == torch.float64 else call
    except (Exception, SystemExit):  # whatever a function raises for a dtype it does not take
        return call


def _require_comparable(case: CheckCase) -> None:
    """Raise CannotCheck unless function and reference return numbers that can be compared."""
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
        raise CannotCheck(f"{sample}: the reference returns other values at every call")
    if not value.isfinite().all() and expected.isfinite().all():
        raise CannotCheck(f"{sample}: the function returns {_non_finite(value)}, where the reference is finite")
    _require_gradient(case.oracle, expected, f"{sample}: the reference")


def _require_differences(call: Call, value: Tensor, whose: str) -> None:
    """Raise CannotCheck if there can be no finite differences."""
    if call.dtype != torch.float64:
        raise CannotCheck(f"{whose} does not return float64 for float64, and there is no reference")
    for what, numbers in {"takes": torch.cat([x.flatten() for x in call.inputs]), "returns": value}.items():
        if not numbers.isfinite().all():
            raise CannotCheck(f"{whose} {what} {_non_finite(numbers)}, which has no finite differences")
    if has_reduced_precision(call):
        raise CannotCheck(f"{whose}'s values are less exact than float64, and there is no reference")


def _require_gradient(oracle: Call, value: Tensor, whose: str) -> None:
    try:
        output, leaves = oracle.run()
        pulled_back(output, leaves, torch.ones_like(value))
    except Exception as error:
        raise CannotCheck(f"{whose} has no gradient: {first_line(error)}") from error
    if not output.requires_grad:
        raise CannotCheck(f"{whose} has no gradient: its output is cut off from its inputs")


def _value(call: Call, whose: str) -> Tensor:
    try:
        return call.value()
    except CannotCheck as error:
        raise CannotCheck(f"{whose} {error}") from None
    except (Exception, SystemExit) as error:
        raise CannotCheck(f"{whose} raised {first_line(error)}") from error


def _non_finite(value: Tensor) -> float:
    return value[~value.isfinite()].flatten()[0].item()
