"""Check the gradients of a function: every check, on every sample."""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, CannotCheck, as_calls, callable_of
from bp_torch.gradients.case import CheckCase, attempt
from bp_torch.gradients.checks import FIRST, REST, SMOOTH, VARIANTS, Check, precision
from bp_torch.gradients.report import GradientReport, Outcome, Result, compared
from bp_torch.gradients.validation import in_float64, validate_case


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
    if not any(result.status == "failed" for result in results):
        _require_conclusive(results)
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
    check_gradients(function, samples, reference=reference, seed=seed).raise_if_failed()


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
    cases = [CheckCase(number, in_float64(call), oracle, generator) for number, call in enumerate(calls)]
    for case in cases:
        validate_case(case)
    if not any(case.given.value.numel() for case in cases):
        raise CannotCheck("every output is empty: there is no gradient to check")
    for case, call in zip(cases, calls, strict=True):
        yield from _check_sample(case, call)


def _require_conclusive(results: Sequence[Result]) -> None:
    """Raise CannotCheck if there is a result that neither passed nor failed."""
    for result in results:
        if result.status == "inconclusive":
            raise CannotCheck(f"sample {result.sample}, input {result.input!r}: {result.message}")


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
            yield from _run(f"gradient in {dtype}".replace("torch.", ""), precision, narrow)


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
    for variant, found in attempt(case.given, check(case)):
        outcome = found if isinstance(found, Outcome) else compared(found)
        yield Result(**vars(outcome), check=name, sample=case.sample, kind=variant.kind, variant=variant.label)


def _signature(result: Result) -> tuple[str, ...]:
    """What makes two failures the same: the variant, the input, and the exception if there is one."""
    return result.variant, str(result.input), result.message if result.message.startswith("raised") else ""
