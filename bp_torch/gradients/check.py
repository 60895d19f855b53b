"""Run every check on every sample of a function."""

import copy
import functools
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.backward_lines import first_wrong_line
from bp_torch.gradients.by_design import with_gradients
from bp_torch.gradients.call import Call, CannotCheck, as_callable, as_calls, vjp
from bp_torch.gradients.case import CheckCase, Outcomes, catch_errors
from bp_torch.gradients.checks import composition, first_order, invariants, precision, transforms
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.isolation import Crash, can_fork, in_child
from bp_torch.gradients.preparation import prepared
from bp_torch.gradients.report import GradientError, GradientReport, Outcome, Result, failed, first_line, left_out
from bp_torch.gradients.tracing import has_custom_backward
from bp_torch.gradients.variants import Variant, variants
from bp_torch.threads import one_thread

Check = Callable[[CheckCase], Outcomes]
SMALL = 100_000
"""Number of components of all inputs up to which one thread is used."""
MAX_CRASHES = 5
MAX_SECONDS = 60
"""Longest time of one call."""
EXPLORING = "exploring sizes"
DEFINED = ", where the reference is finite"
VERDICT = 0.5
"""Part of the time that must remain for further checks after a failure of the first."""
SHARE = 0.3
"""Largest part of the remaining time that one check takes."""
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
    "aliased inputs": invariants.aliased_inputs,
    "saved tensors": invariants.saved_tensors,
}
SMOOTH: dict[str, Check] = {
    "finite differences": first_order.finite_differences,
    "double backward": transforms.double_backward,
    "forward mode": transforms.forward_mode,
    "batched gradients": transforms.batched_gradients,
    "vmap": transforms.vmap,
}
"""Checks that need a finite value."""
COMPOSITION: dict[str, Check] = {
    "accumulation": composition.accumulated,
    "checkpoint": composition.checkpointed,
    "autocast": composition.autocast,
    "torch.compile": composition.compiled,
}
"""Checks inside PyTorch's wrappers."""
VARIANTS: dict[str, Callable[[CheckCase, Variant], Outcomes]] = {
    "value": first_order.value_of_variant,
    "gradient": first_order.gradient_of_variant,
    "forward mode": transforms.forward_mode_of_variant,
}
"""Checks of each variant."""
CHECKS = (*dict.fromkeys((*FIRST, *REST, *SMOOTH, *VARIANTS)), *COMPOSITION, "precision")
"""The names of all checks."""


@dataclass(frozen=True)
class Options:
    """What `check_gradients` checks, and how long."""

    checks: frozenset[str] = frozenset(CHECKS)
    tolerances: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    isolate: bool = True
    seconds: float = 20.0
    deadline: float = float("inf")


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
    options = _options(orders, checks, skip or {}, rtol or {}, isolate, seconds)
    if by_design is not None:
        if reference is not None:
            raise ValueError("reference and by_design: give one of them")
        function_as_called = as_calls(function, samples)[0].function
        reference = with_gradients(function_as_called, by_design)
        options = replace(options, checks=options.checks - {"finite differences", "forward mode"})
    calls = as_calls(function, samples)
    results: list[Result] = []
    remarks: list[str] = []
    lines: list[str] = []
    small = sum(x.numel() for call in calls for x in call.inputs) <= SMALL
    with warnings.catch_warnings(action="ignore"), one_thread() if small else nullcontext():
        found = _results(calls, reference, seed, options, remarks, lines, decides=by_design is None)
        for result in chain(found, _other_mode(function, samples, reference, seed, options)):
            results.append(result)
            if fail_fast and result.status == "failed":
                break
    inconclusive = [result for result in results if result.status == "inconclusive"]
    if inconclusive and not any(result.status == "failed" for result in results):
        first = inconclusive[0]
        raise CannotCheck(f"sample {first.sample}, input {first.input!r}: {first.message}")
    against = "its intended gradient" if by_design else "finite differences" if not reference else name_of(reference)
    inputs = tuple(dict.fromkeys(name for call in calls for name in call.by_name))
    remarks += [f"left out: {name}: {reason}" for name, reason in (skip or {}).items()]
    remarks += [f"relative tolerance of {name}: {size:g}: {reason}" for name, (size, reason) in (rtol or {}).items()]
    return GradientReport(
        name_of(function),
        inputs,
        against,
        tuple(results),
        tuple(dict.fromkeys(remarks)),
        (*lines, *hints.for_report(results)),
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


def _options(
    orders: int,
    checks: Collection[str] | None,
    skip: Mapping[str, str],
    rtol: Mapping[str, tuple[float, str]],
    isolate: bool,
    seconds: float,
) -> Options:
    if orders not in (1, 2):
        raise ValueError(f"orders must be 1 or 2, got {orders}")
    if not seconds > 0:
        raise ValueError(f"seconds must be a positive number, got {seconds}")
    chosen = frozenset(CHECKS if checks is None else [checks] if isinstance(checks, str) else checks)
    if unknown := (chosen | {*skip} | {*rtol}) - {*CHECKS}:
        raise ValueError(f"unknown check {min(unknown)!r}: must be one of {', '.join(CHECKS)}")
    for name, value in rtol.items():
        if not (isinstance(value, tuple) and len(value) == 2 and value[0] > 0 and isinstance(value[1], str)):
            raise ValueError(f"rtol of {name!r} must be a tolerance and a reason, as in (1e-6, 'why'), got {value!r}")
    chosen -= {*skip} | ({"double backward"} if orders == 1 else set())
    return Options(chosen, dict(rtol), isolate and can_fork(), seconds, time.monotonic() + seconds)


def _results(
    calls: Sequence[Call],
    reference: Callable[..., Any] | None,
    seed: int,
    options: Options,
    remarks: list[str],
    lines: list[str],
    *,
    decides: bool,
) -> Iterator[Result]:
    if not any(x.numel() for call in calls for x in call.inputs):
        raise CannotCheck("every input is empty: there is no gradient to check")
    oracle = None if reference is None else as_callable(reference, calls[0].parameters, "the reference")
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for number, call in enumerate(calls):
        if options.isolate:
            _require_survival(call, f"sample {number}: the function")
        _value(call, f"sample {number}: the function")
        try:
            call, new = prepared(call, seed)
        except CannotCheck as error:
            raise CannotCheck(f"sample {number}: the function {error}") from None
        remarks += new
        wide = _widest(call)
        case = CheckCase(number, wide, oracle, generator, decides, wide.dtype == torch.float64, options.deadline)
        pairs.append((case, call))
    for case, _ in pairs:
        _require_comparable(case)
    if not any(case.as_given.value.numel() for case, _ in pairs):
        raise CannotCheck("every output is empty: there is no gradient to check")
    start, searched = time.monotonic(), False
    for count, (case, call) in enumerate(pairs, 1):
        share = start + (options.deadline - start) * count / len(pairs)
        for result in _check_sample(replace(case, deadline=share), call, replace(options, deadline=share)):
            if result.status == "reference":
                case = replace(case, reference=None)
            if result.check == "gradient" and result.status == "failed" and result.kind == "given" and not searched:
                searched = True
                lines += filter(None, [first_wrong_line(case.call, case.reference, case.upstream)])
            yield result


def _other_mode(function: Any, samples: Sequence[Any], reference: Any, seed: int, options: Options) -> Iterator[Result]:
    """The gradient of a module in evaluation mode, if it is in training mode, or the other way round."""
    modules = [function] if reference is None else [function, reference]
    if not all(isinstance(each, torch.nn.Module) for each in modules) or time.monotonic() > options.deadline:
        return
    training = not function.training
    others = [copy.deepcopy(each).train(training) for each in modules]
    try:
        call, _ = prepared(as_calls(others[0], samples)[0], seed)
    except Exception:  # the module is made for one mode
        return
    oracle = as_callable(others[1], call.parameters, "the reference") if reference is not None else None
    case = CheckCase(0, _widest(call), oracle, torch.Generator().manual_seed(seed), deadline=options.deadline)
    given = as_calls(function, samples)[0].to(case.call.dtype)
    if torch.equal(case.as_given.value, given.value()):
        return  # the modes do not differ
    label = f"in {'training' if training else 'evaluation'} mode"
    for result in _run("gradient", first_order.gradient, case, options):
        yield replace(result, kind="mode", variant=f"{result.variant}, {label}")


def _check_sample(case: CheckCase, sample: Call, options: Options) -> Iterator[Result]:
    """Run every check in float64 if possible, then compare the gradient in the sample's dtypes and in float32."""
    wrong = set()
    for name, check in FIRST.items():
        case = replace(case, decides=case.decides and "value" not in wrong)
        for result in _run(name, check, case, options):
            if result.status == "reference":
                yield result
                yield from _check_sample(replace(case, reference=None), sample, options)
                return
            wrong |= {name} if result.status == "failed" else set()
            yield result
    for result in _narrow(case, sample, options):
        wrong |= {result.check} if result.status == "failed" else set()
        yield result
    case = replace(case, decides=case.decides and not wrong)  # only of a right gradient is the derivative known
    smooth = SMOOTH if case.as_given.value.isfinite().all() else {}
    supports_forward = False
    for name, check in [*REST.items(), *smooth.items()]:
        if wrong and time.monotonic() > options.deadline - VERDICT * options.seconds:
            yield _result(name, case, Variant("time", name, case.call), left_out("the verdict is clear"))
            continue
        for result in _run(name, check, case, options):
            supports_forward |= name == "forward mode" and result.status == "passed"
            yield result
    if not wrong:
        yield from _isolated(case, options, supports_forward)


def _narrow(case: CheckCase, sample: Call, options: Options) -> Iterator[Result]:
    """The gradient in the sample's own dtypes, and in float32."""
    own = sorted({str(x.dtype).removeprefix("torch.") for x in sample.inputs})
    calls = {"gradient in " + ", ".join(own): sample, "gradient in float32": sample.to(torch.float32)}
    if case.reference is None and not case.has_float64:
        return  # there is no truth: the checks so far were in the sample's own dtypes
    for name, call in calls.items() if "precision" in options.checks else ():
        if name != "gradient in float64":
            narrow = replace(case, call=call)
            yield from _run(name, precision.precision, narrow, replace(options, checks=options.checks | {name}))


def _isolated(case: CheckCase, options: Options, supports_forward: bool) -> Iterator[Result]:
    """The checks of the variants, in a child process; a crash is reported, and the next variant is checked."""
    if "torch.compile" in options.checks and has_custom_backward(case.call):
        composition.load_compiler()  # here, for every child process to have it
    run = partial(_check_variants, case, options, supports_forward)
    if not options.isolate:
        yield from (result for result in run(0, explore=True) if isinstance(result, Result))
        return
    at, explore = (-1, ""), True
    for _ in range(MAX_CRASHES):
        try:
            for result in in_child(partial(run, at[0] + 1, explore=explore), options.deadline):
                if isinstance(result, Result):
                    yield result
                else:
                    at = result
            return
        except Crash as crash:
            if at[1] == EXPLORING and explore:
                at, explore = (at[0] - 1, ""), False
            else:
                yield _crashed(case, at[1], crash)
        except TimeoutError:
            yield _result("gradient", case, Variant("time", at[1], case.call), left_out("no time left"))
            return
    yield _result("gradient", case, Variant("time", "the rest", case.call), left_out(f"{MAX_CRASHES} crashes"))


def _crashed(case: CheckCase, label: str, crash: Crash) -> Result:
    """A crash is a failure of a custom Function, or where the reference is finite; others may be called wrongly."""
    message = f"CRASH: the function ended the process ({crash}): name the sizes that it takes by axes="
    fails = label.endswith(DEFINED) or has_custom_backward(case.call)
    outcome = failed(message) if fails else left_out(message)
    return _result("crash", case, Variant("crash", label.removesuffix(DEFINED), case.call), outcome)


def _check_variants(
    case: CheckCase, options: Options, supports_forward: bool, start: int, *, explore: bool
) -> Iterator[Result | tuple[int, str]]:
    """Check the variants from a number on; before each, its number and label."""
    needed = options.checks & {*VARIANTS}
    number, remaining = 0, variants(case.call, case.generator, explore=explore) if needed else iter(())
    while True:
        yield max(number, start), EXPLORING
        variant = next(remaining, None)
        if variant is None:
            break
        if number >= start:
            yield number, variant.label
            outcome = case.outside_reference(variant)
            yield number, variant.label if outcome or not case.reference else f"{variant.label}{DEFINED}"
            if outcome := outcome or case.outside_domain(variant):
                yield _result("gradient", case, variant, outcome)
            else:
                yield from _check_variant(case, variant, options, supports_forward)
        number += 1
    for name, check in COMPOSITION.items():
        if number >= start:
            yield number, name
            yield from _run(name, check, case, options)
        number += 1


def _check_variant(case: CheckCase, variant: Variant, options: Options, supports_forward: bool) -> Iterator[Result]:
    for name, check in VARIANTS.items():
        if name != "forward mode" or (supports_forward and variant.kind in ("scaled", "size")):
            yield from _run(name, partial(_on_variant, check, variant), case, options)


def _on_variant(check: Callable[[CheckCase, Variant], Outcomes], variant: Variant, case: CheckCase) -> Outcomes:
    """A check of a variant, for the function of the case."""
    return check(case, replace(variant, call=variant.call.of(case.call.function)))


def _run(name: str, check: Check, case: CheckCase, options: Options) -> Iterator[Result]:
    """Run one check; a failure that the reference shares becomes unsupported."""
    if name not in options.checks:
        return
    of_reference = _results_of(name, check, replace(case, call=case.oracle))  # a generator: runs only after a failure
    shared = set()
    limit = time.monotonic() + SHARE * (options.deadline - time.monotonic())
    for result in _results_of(name, check, case):
        if result.status == "failed" and name in options.tolerances:
            result = _with_tolerance(result, options.tolerances[name][0])
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
        if time.monotonic() > limit:
            yield _result(name, case, Variant("time", "the rest", case.call), left_out("no time left"))
            return


def _with_tolerance(result: Result, rtol: float) -> Result:
    """A result that passes within a relative tolerance."""
    comparison = result.comparison
    if comparison is None or comparison.error > rtol * comparison.magnitude:
        return result
    return replace(result, status="passed", ratio=comparison.error / (rtol * comparison.magnitude), message="", hint="")


def _results_of(name: str, check: Check, case: CheckCase) -> Iterator[Result]:
    """The outcomes of a check, as results."""
    for variant, outcome in catch_errors(case.as_given, check(case)):
        yield _result(name, case, variant, outcome)


def _result(name: str, case: CheckCase, variant: Variant, outcome: Outcome) -> Result:
    return Result(**vars(outcome), check=name, sample=case.sample, kind=variant.kind, variant=variant.label)


def _failure_signature(result: Result) -> tuple[str, ...]:
    """Two failures with the same variant, input and exception count as the same."""
    return result.variant, str(result.input), result.message if result.message.startswith("raised") else ""


def _widest(call: Call) -> Call:
    """The call in float64; in float32 or unchanged if the function does not support or use float64."""
    wide = call.to(torch.float64)
    if not _differentiable(wide) and _differentiable(call):
        return call
    if has_reduced_precision(wide):
        narrow = call.to(torch.float32)
        return narrow if _differentiable(narrow) else call
    return wide


def _differentiable(call: Call) -> bool:
    """Whether value and gradients can be computed in the call's dtype."""
    try:
        output, leaves = call.run()
        vjp(output, leaves, torch.ones_like(output))
    except (Exception, SystemExit):  # an unsupported dtype may raise anything
        return False
    return output.dtype == call.dtype


def _require_comparable(case: CheckCase) -> None:
    """Raise CannotCheck unless function and reference return values that can be compared."""
    sample = f"sample {case.sample}"
    value = _value(case.call, f"{sample}: the function")
    if case.reference is None:
        for what, numbers in {"takes": torch.cat([x.flatten() for x in case.call.inputs]), "returns": value}.items():
            if not numbers.isfinite().all():
                message = f"{_non_finite(numbers)}; finite differences need finite values"
                raise CannotCheck(f"{sample}: the function {what} {message}")
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


def _require_gradient(oracle: Call, value: Tensor, label: str) -> None:
    try:
        output, leaves = oracle.run()
        vjp(output, leaves, torch.ones_like(value))
    except Exception as error:
        raise CannotCheck(f"{label} has no gradient: {first_line(error)}") from error
    if not output.requires_grad:
        raise CannotCheck(f"{label} has no gradient: its output is detached from its inputs")


def _require_survival(call: Call, label: str) -> None:
    """Raise CannotCheck if value and gradient, computed in a child process, end it."""
    try:
        deque(in_child(lambda: iter([_differentiable(call)]), time.monotonic() + MAX_SECONDS), maxlen=0)
    except Crash as crash:
        raise CannotCheck(f"{label} ended the process ({crash})") from None
    except TimeoutError:
        raise CannotCheck(f"{label} takes more than {MAX_SECONDS} s") from None


def _value(call: Call, label: str) -> Tensor:
    try:
        return call.value()
    except CannotCheck as error:
        raise CannotCheck(f"{label} {error}") from None
    except (Exception, SystemExit) as error:
        raise CannotCheck(f"{label} raised {first_line(error)}") from error


def _non_finite(value: Tensor) -> float:
    return value[~value.isfinite()].flatten()[0].item()
