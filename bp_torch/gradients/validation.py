"""Preconditions of a check: function and reference return numbers that can be compared."""

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, CannotCheck, pulled_back
from bp_torch.gradients.case import CheckCase
from bp_torch.gradients.differences import has_reduced_precision
from bp_torch.gradients.report import first_line


def in_float64(call: Call) -> Call:
    """The call in float64, or as it is if the function does not compute in it."""
    wide = call.to(torch.float64)
    try:
        return wide if wide.value().dtype == torch.float64 else call
    except (Exception, SystemExit):  # whatever a function raises for a dtype it does not take
        return call


def validate_case(case: CheckCase) -> None:
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
        if not output.requires_grad:
            raise CannotCheck(f"{whose} has no gradient: its output is cut off from its inputs")
        pulled_back(output, leaves, torch.ones_like(value))
    except CannotCheck:
        raise
    except Exception as error:
        raise CannotCheck(f"{whose} has no gradient: {first_line(error)}") from error


def _value(call: Call, whose: str) -> Tensor:
    try:
        return call.value()
    except CannotCheck as error:
        raise CannotCheck(f"{whose} {error}") from None
    except (Exception, SystemExit) as error:
        raise CannotCheck(f"{whose} raised {first_line(error)}") from error


def _non_finite(value: Tensor) -> float:
    return value[~value.isfinite()].flatten()[0].item()
