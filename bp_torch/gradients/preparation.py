"""Find out how a function must be called, and in which dtype it can be checked; refuse what cannot be checked."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.axes import named_axes
from bp_torch.gradients.call import Call, CannotCheck, as_callable, as_calls, vjp
from bp_torch.gradients.case import CheckCase, is_refusal
from bp_torch.gradients.containers import float_tensors, leaves
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.isolation import Crash, in_child
from bp_torch.gradients.options import Options
from bp_torch.gradients.randomness import states
from bp_torch.gradients.report import first_line
from bp_torch.gradients.symmetry import along_symmetric
from bp_torch.gradients.tracing import trace


def prepare(function: Any, samples: Any, reference: Any, options: Options, *, decides: bool = True) -> list[CheckCase]:
    """A case for each sample.

    Args:
        function: the function.
        samples: the samples.
        reference: the reference, or None.
        options: the options.
        decides: whether finite differences decide between function and reference.

    Raises:
        CannotCheck: if one cannot be checked.
    """
    calls = as_calls(function, samples)
    if not any(x.numel() for call in calls for x in call.inputs):
        raise CannotCheck("every input is empty: there is no gradient to check")
    oracle = None if reference is None else as_callable(reference, calls[0].parameters, "the reference")
    generator = torch.Generator().manual_seed(options.seed)
    deadline = time.monotonic() + options.seconds
    cases = []
    for number, call in enumerate(calls):
        given = _prepared(call, f"sample {number}: the function", options)
        wide = _widest(given, oracle)
        _require_gradient(wide, f"sample {number}: the function")
        cases.append(CheckCase(number, wide, given, oracle, generator, decides, wide.dtype == torch.float64, deadline))
    for case in cases:
        _require_comparable(case)
    if not any(case.as_given.value.numel() for case in cases):
        raise CannotCheck("every output is empty: there is no gradient to check")
    return [along_symmetric(case) for case in cases]


def _prepared(call: Call, label: str, options: Options) -> Call:
    """The call as it must be made: with the same random numbers, on copies, without outputs that have no gradient."""
    _require_valid_sample(call, label.partition(":")[0])
    if options.in_child:
        _require_survival(call, label, options.seconds)
    value = _value(call, label)
    if call.structure.seed is None and _is_random(call, value):
        call = replace(call, structure=replace(call.structure, seed=options.seed))
    if not _equal(call.value(), call.value()):
        raise CannotCheck(f"{label} returns different values in two calls with the same random numbers")
    inputs = [x.detach().requires_grad_().clone() for x in call.clone().inputs]
    try:
        with torch.enable_grad():
            returned = [leaf for _, leaf in leaves(call.at(inputs).result())]
    except Exception:  # the checks report what the function raises
        return call
    if any(x.numel() and not x.untyped_storage().nbytes() for x in inputs):
        raise CannotCheck(f"{label} frees the storage of its input: later calls would read freed memory")
    copies = any(x is part and x._version for part in returned for x in inputs)
    outputs = [part.requires_grad for part in float_tensors(returned)]
    chosen = tuple(i for i, has_gradient in enumerate(outputs) if has_gradient) if not all(outputs) else ()
    return replace(call, structure=replace(call.structure, copies=copies, outputs=chosen))


def _require_valid_sample(call: Call, label: str) -> None:
    """Raise CannotCheck if the sample's axes or constraint do not fit its arguments."""
    try:
        named_axes(call)
        for position, project in call.structure.projections.items():
            if project(call.args[position]).shape != call.args[position].shape:
                raise CannotCheck(f"the constraint of {call.names.get(position)!r} changes the shape")
    except CannotCheck as error:
        raise CannotCheck(f"{label}: {error}") from None
    except Exception as error:  # a projection may raise anything
        raise CannotCheck(f"{label}: the constraint raised {first_line(error)}") from None


def _is_random(call: Call, value: Tensor) -> bool:
    """Whether a call changes the state of a random number generator, or its value changes from call to call."""
    before = states()
    again = call.value()
    changed = any(map(_differ, before, states())) or trace(call).is_random
    return changed or not _equal(value, again)


def _differ(a: Any, b: Any) -> bool:
    return not torch.equal(a, b) if isinstance(a, Tensor) else a != b


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True)


def _widest(call: Call, oracle: Callable[..., Any] | None) -> Call:
    """The call in float64; in float32 or unchanged if the function or its reference does not support or use it."""
    wide = call.to(torch.float64)
    if not _differentiable(wide) and _differentiable(call):
        return call
    if has_reduced_precision(wide) or (oracle is not None and has_reduced_precision(wide.of(oracle))):
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


def _require_gradient(call: Call, label: str) -> None:
    """Raise CannotCheck if the backward refuses the sample; an error by accident is a failure of its checks."""
    try:
        call.vjp(torch.ones_like(call.value()))
    except Exception as error:
        if is_refusal(error):
            raise CannotCheck(f"{label} raised {first_line(error)}") from error


def _require_comparable(case: CheckCase) -> None:
    """Raise CannotCheck unless function and reference return values that can be compared."""
    label = f"sample {case.sample}: the function"
    value = _value(case.call, label)
    if case.reference is not None:
        _require_reference(case, value)
        return
    for what, numbers in {"takes": torch.cat([x.flatten() for x in case.call.inputs]), "returns": value}.items():
        if not numbers.isfinite().all():
            raise CannotCheck(f"{label} {what} {_non_finite(numbers)}; finite differences need finite values")


def _require_reference(case: CheckCase, value: Tensor) -> None:
    label = f"sample {case.sample}: {'the reference' if case.decides else 'by_design'}"
    expected, again = (_value(case.oracle, label) for _ in range(2))
    kinds = {"shape": (tuple(value.shape), tuple(expected.shape)), "dtype": (value.dtype, expected.dtype)}
    for what, (ours, theirs) in kinds.items():
        if ours != theirs:
            raise CannotCheck(f"sample {case.sample}: the function returns {what} {ours}, but the reference {theirs}")
    if not torch.allclose(expected, again, equal_nan=True):
        raise CannotCheck(f"{label} is not deterministic: two calls return different values")
    if not value.isfinite().all() and expected.isfinite().all():
        message = f"returns {_non_finite(value)}, where the reference is finite"
        raise CannotCheck(f"sample {case.sample}: the function {message}")
    try:
        output, leaves = case.oracle.run()
        vjp(output, leaves, torch.ones_like(output))
    except Exception as error:
        raise CannotCheck(f"{label} has no gradient: {first_line(error)}") from error
    if not output.requires_grad:
        raise CannotCheck(f"{label} has no gradient: its output is detached from its inputs")


def _require_survival(call: Call, label: str, seconds: float) -> None:
    """Raise CannotCheck if value and gradient, computed in a child process, end it."""
    try:
        deque(in_child(lambda: iter([_differentiable(call)]), time.monotonic() + seconds), maxlen=0)
    except Crash as crash:
        raise CannotCheck(f"{label} ended the process ({crash})") from None
    except TimeoutError:
        raise CannotCheck(f"{label} takes more than {seconds:g} s for one call: give more by seconds=") from None


def _value(call: Call, label: str) -> Tensor:
    try:
        return call.value()
    except CannotCheck as error:
        raise CannotCheck(f"{label} {error}") from None
    except (Exception, SystemExit) as error:
        raise CannotCheck(f"{label} raised {first_line(error)}") from error


def _non_finite(value: Tensor) -> float:
    return value[~value.isfinite()].flatten()[0].item()
