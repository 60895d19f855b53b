"""Check the gradients of a function."""

import copy
import functools
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from bp_torch.gradients import hints
from bp_torch.gradients.backward_lines import first_wrong_line
from bp_torch.gradients.by_design import with_gradients
from bp_torch.gradients.call import CannotCheck, as_calls
from bp_torch.gradients.case import CheckCase
from bp_torch.gradients.checks.first_order import gradient
from bp_torch.gradients.options import Options
from bp_torch.gradients.preparation import prepare
from bp_torch.gradients.report import GradientError, GradientReport, Result, left_out
from bp_torch.gradients.run_check import result_of, run_check
from bp_torch.gradients.sample_checks import SampleChecks
from bp_torch.gradients.variants import Variant
from bp_torch.threads import one_thread

SMALL = 100_000
"""Number of components of all inputs up to which one thread is used."""


def check_gradients(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    by_design: Callable[..., Any] | None = None,
    orders: int = 2,
    checks: Collection[str] | None = None,
    skip: Mapping[str, str] | None = None,
    rtol: Mapping[str, tuple[float, str]] | None = None,
    seed: int = 0,
    seconds: float = 20.0,
    isolate: bool = True,
    fail_fast: bool = False,
) -> GradientReport:
    """Check the gradients of a function: first order, invariants, transforms and precision.

    Args:
        function: a callable that takes Tensors and returns a Tensor, or a nested tuple, list or dict of them. It may be
            a `torch.autograd.Function`, or an `nn.Module`, whose parameters are then checked too. A random function
            is called with the same random numbers each time.
        samples: a list of argument tuples, or of `Sample`s. If some Tensors of a sample require a gradient, only those
            are checked; otherwise every Tensor of floating-point or complex numbers that is passed by position. The
            samples are not modified. A sample is checked in its own dtypes, and in float64 if the function supports it.
        reference: a function known to be correct, with the same signature; a plain function as the reference of a
            module takes the parameters as further arguments. Gradients are compared with its gradients, in the same
            dtype and in float64; failures that it shares do not count. Default: finite differences in float64.
        by_design: the intended gradients where they are not the derivative, as of a straight-through estimator:
            `by_design(grad_output, *args)` returns one gradient per argument, like a backward.
        orders: 1 to leave out second derivatives.
        checks: names of the checks to run, of `CHECKS`. Default: all.
        skip: checks to leave out, each with the reason, which the report prints.
        rtol: a relative tolerance for a check, with the reason: `{"gradient": (1e-6, "the series has 8 terms")}`.
        seed: seed of the random directions, upstream gradients and variants.
        seconds: time limit. The report says what was left out.
        isolate: run the variants in a child process, on a CPU, so that a crash of the function is reported.
        fail_fast: stop at the first failure.

    Returns:
        The report; `print` it.

    Raises:
        CannotCheck: if the function raises, or returns no Tensor or one that is not finite; if a sample has no
            differentiable input, or all inputs or outputs are empty; if the function is random without a seed; if the
            reference raises, has no gradient, or returns another shape or dtype than the function.
        ValueError: if an option is unknown.
    """
    options = Options(orders, checks, skip or {}, rtol or {}, seed, seconds, isolate)
    against = "finite differences" if reference is None else name_of(reference)
    if by_design is not None:
        if not callable(by_design):
            raise ValueError(f"by_design must be a function (grad_output, *args), got {type(by_design).__name__}")
        if reference is not None:
            raise ValueError("reference and by_design: give one of them")
        reference, against = with_gradients(as_calls(function, samples)[0].function, by_design), "its intended gradient"
        options = replace(options, checks=options.selected - {"finite differences", "forward mode", "double backward"})
    results: list[Result] = []
    with warnings.catch_warnings(action="ignore"), _threads(function, samples):
        cases = prepare(function, samples, reference, options, decides=by_design is None)
        for result in _results(cases, function, samples, reference, options):
            results.append(result)
            if fail_fast and result.status == "failed":
                break
        line = _wrong_line(cases, results)
    inputs = tuple(dict.fromkeys(name for case in cases for name in case.call.by_name))
    _require_conclusive(results, inputs if "gradient" in options.selected and not fail_fast else ())
    remarks = dict.fromkeys(remark for case in cases for remark in case.given.structure.remarks)
    return GradientReport(
        name_of(function),
        inputs,
        against,
        tuple(results),
        tuple(dict.fromkeys(case.call.dtypes for case in cases)),
        (*remarks, *options.remarks),
        (*line, *hints.for_report(results)),
    )


def assert_gradients(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> None:
    """Run `check_gradients` in a test, with the same options.

    Raises:
        GradientError: if a check failed; the message is the report.
        CannotCheck: see `check_gradients`.
    """
    report = check_gradients(function, samples, reference=reference, seed=seed, **options)
    if not report.passed:
        raise GradientError(str(report))


def name_of(function: Any) -> str:
    """The name of a function in a report."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return getattr(function, "__name__", None) or type(function).__name__


def _threads(function: Any, samples: Sequence[Any]) -> Any:
    """One thread for small inputs."""
    components = sum(x.numel() for call in as_calls(function, samples) for x in call.inputs)
    return one_thread() if components <= SMALL else nullcontext()


def _results(
    cases: Sequence[CheckCase], function: Any, samples: Sequence[Any], reference: Any, options: Options
) -> Iterator[Result]:
    """The results for each sample, in an equal part of the time, and for the other mode of a module."""
    for number, case in enumerate(cases):
        now = time.monotonic()
        share = now + (case.deadline - now) / (len(cases) - number)
        yield from SampleChecks(replace(case, deadline=share), options).results()
    yield from _other_mode(cases[0], function, samples, reference, options)


def _other_mode(
    case: CheckCase, function: Any, samples: Sequence[Any], reference: Any, options: Options
) -> Iterator[Result]:
    """The gradient of a module in evaluation mode, if it is in training mode, or the other way round."""
    modules = [function] if reference is None else [function, reference]
    if not all(isinstance(each, torch.nn.Module) for each in modules) or time.monotonic() > case.deadline:
        return
    training = not function.training
    label = f"in {'training' if training else 'evaluation'} mode"
    changed, *oracle = [copy.deepcopy(each).train(training) for each in modules]
    try:
        (other,) = prepare(changed, samples[:1], oracle[0] if oracle else None, options)
    except CannotCheck as error:  # the module is made for one mode
        yield result_of("gradient", case, Variant("mode", label, case.call), left_out(str(error)))
        return
    if _same(case, other):
        return
    for result in run_check("gradient", gradient, replace(other, deadline=case.deadline), options):
        yield replace(result, kind="mode", variant=f"{result.variant}, {label}")


def _same(case: CheckCase, other: CheckCase) -> bool:
    """Whether values and gradients of two cases are equal."""
    if not torch.equal(case.as_given.value, other.as_given.value):
        return False
    gradients = other.call.vjp(case.upstream)
    return all(torch.equal(gradient, gradients[name]) for name, gradient in case.gradients.items())


def _wrong_line(cases: Sequence[CheckCase], results: Sequence[Result]) -> list[str]:
    """The first line of a backward whose value has no counterpart, if the gradient at a sample is wrong."""
    right = {result.sample for result in results if result.status == "reference"}  # the function, not the reference
    for result in results:
        if result.check == "gradient" and result.status == "failed" and result.kind == "given":
            case = cases[result.sample]
            oracle = None if case.sample in right else case.reference
            return [*filter(None, [first_wrong_line(case.call, oracle, case.upstream)])]
    return []


def _require_conclusive(results: Sequence[Result], inputs: Sequence[str]) -> None:
    """Raise CannotCheck if nothing failed, and nothing was checked, or not the gradient of each input."""
    if any(result.status in ("failed", "reference") for result in results):
        return
    for result in results:
        if result.status == "inconclusive":
            raise CannotCheck(f"sample {result.sample}, input {result.input!r}: {result.message}")
    passed = [result for result in results if result.status == "passed"]
    if not passed:
        reasons = dict.fromkeys(f"{result.check}: {result.message}" for result in results)
        raise CannotCheck(f"nothing was checked: {'; '.join(reasons) or 'no check applies'}")
    checked = {result.input for result in results if result.check == "gradient" and result.input}
    if missing := [name for name in inputs if name not in checked]:
        raise CannotCheck(f"no time for the gradient of {', '.join(map(repr, missing))}: give more by seconds=")
