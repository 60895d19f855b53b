"""Check the gradients of a function: every question, of every sample."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, CannotCheck, as_calls, callable_of, quiet
from bp_torch.gradients.checks import FIRST, REST, SMOOTH, Check, precision
from bp_torch.gradients.report import GradientReport, Result
from bp_torch.gradients.subject import Subject
from bp_torch.gradients.usable import in_float64, require_usable


def check_gradients(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> GradientReport:
    """Check the gradients of a function, in every way they can be wrong.

    Args:
        function: any callable of Tensors that returns a Tensor, or several in tuples, lists or dicts: a function, a
            `torch.autograd.Function`, or an `nn.Module`, whose parameters are then checked too.
        samples: a list of argument tuples. Where some Tensor of a tuple requires a gradient, those that do are checked
            and the others held fixed; otherwise every Tensor of floating-point numbers is checked. Nothing in them is
            changed. Samples below float64 are examined in float64 too, if the function takes it.
        reference: what is known to be right, with the same signature; it may take a module's parameters as further
            arguments. Its gradients, in the same dtype and in float64, are the judge, and what it fails itself, in the
            same way, is not asked. Without one, finite differences of the function's own values are the judge, in
            float64.
        seed: of directions, upstream gradients and copies of the samples.

    Returns:
        What was asked and what came of it; `print` it.

    Raises:
        CannotCheck: if there is nothing to judge: a function that raises, returns no Tensor, or something not finite;
            values too rough for finite differences; a sample without an input that needs a gradient; a reference that
            cannot be called in the same way, returns another shape or dtype, or other values at every call, or has no
            gradient; nothing but empty inputs or outputs.
    """
    calls = as_calls(function, samples)
    with quiet():
        results = tuple(_results(calls, reference, seed))
    if not any(result.status == "failed" for result in results):
        _require_judged(results)
    judge = "finite differences" if reference is None else name_of(reference)
    inputs = tuple(dict.fromkeys(name for call in calls for name in call.by_name))
    return GradientReport(name_of(function), inputs, judge, results, tuple(hints.of_report(results)))


def first_failure(
    function: Callable[..., Any],
    samples: Sequence[Any],
    *,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> Result | None:
    """The first thing that `check_gradients` finds wrong: for anyone who only wants to know whether something is."""
    calls, asked = as_calls(function, samples), []
    with quiet():
        for result in _results(calls, reference, seed):
            if result.status == "failed":
                return result
            asked.append(result)
    _require_judged(asked)
    return None


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
    judge = None if reference is None else callable_of(reference, calls[0].parameters, "the reference")
    generator = torch.Generator().manual_seed(seed)
    subjects = [Subject(number, in_float64(call), judge, generator) for number, call in enumerate(calls)]
    for subject in subjects:
        require_usable(subject)
    if not any(subject.call.value().numel() for subject in subjects):
        raise CannotCheck("every output is empty: there is no gradient to check")
    for subject, call in zip(subjects, calls, strict=True):
        yield from _of_sample(subject, call)


def _require_judged(results: Sequence[Result]) -> None:
    """Raise CannotCheck if there is a result that neither passed nor failed."""
    for result in results:
        if result.status == "not judged":
            raise CannotCheck(f"sample {result.sample}, input {result.input!r}: {result.message}")


def _of_sample(subject: Subject, given: Call) -> Iterator[Result]:
    """Every question about one sample, in float64 if that can be, and about its own dtype."""
    failed = False
    for name, check in FIRST.items():
        for result in _asked(name, check, subject):
            failed = failed or result.status == "failed"
            yield result
        if failed and name == "side effects":
            return  # what follows would be judged on numbers that change
    smooth = SMOOTH if subject.call.value().isfinite().all() else {}
    for name, check in [*REST.items(), *smooth.items()]:
        if not (failed and name == "gradient"):  # variants say nothing new of a gradient that is wrong as given
            yield from _asked(name, check, subject)
    for dtype in dict.fromkeys((given.dtype, torch.float32)):
        if dtype != torch.float64:
            narrow = replace(subject, call=given.to(dtype))
            yield from _asked(f"gradient in {dtype}".replace("torch.", ""), precision, narrow)


def _asked(name: str, check: Check, subject: Subject) -> Iterator[Result]:
    """The answers to one question. Where the reference itself fails in the same way, nobody need do better."""
    theirs: set[tuple[str, ...]] | None = None
    for result in _answers(name, check, subject):
        if result.status == "failed" and subject.reference is not None:
            if theirs is None:
                reference = _answers(name, check, replace(subject, call=subject.judge))
                theirs = {_way(its) for its in reference if its.status == "failed"}
            if _way(result) in theirs:
                result = replace(result, status="not offered", message="the reference fails that too", comparison=None)
        yield result


def _way(result: Result) -> tuple[str, ...]:
    """In which way something failed: where, and with which exception."""
    return result.variant, str(result.input), result.message if result.message.startswith("raised") else ""


def _answers(name: str, check: Check, subject: Subject) -> Iterator[Result]:
    try:
        yield from check(subject)
    except Exception as error:  # whatever a hand-written backward raises when it is asked in a way it did not expect
        yield subject.raised(name, subject.given, error)
