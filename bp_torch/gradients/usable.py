"""What must be so before anything can be judged: numbers of the right kind, from function and reference alike."""

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, CannotCheck, pulled_back
from bp_torch.gradients.differences import stands_still
from bp_torch.gradients.subject import Subject, first_line


def in_float64(call: Call) -> Call:
    """The call in float64, or as it is if the function does not compute in it."""
    wide = call.to(torch.float64)
    try:
        return wide if wide.value().dtype == torch.float64 else call
    except (Exception, SystemExit):  # whatever a function raises for a dtype it does not take
        return call


def require_usable(subject: Subject) -> None:
    """Raise CannotCheck unless function and reference return numbers that can be judged."""
    sample = f"sample {subject.sample}"
    value = _value(subject.call, f"{sample}: the function")
    if subject.reference is None:
        _require_differences(subject.call, value, f"{sample}: the function")
        return
    expected, again = (_value(subject.judge, f"{sample}: the reference") for _ in range(2))
    kinds = {"shape": (tuple(value.shape), tuple(expected.shape)), "dtype": (value.dtype, expected.dtype)}
    for what, (ours, theirs) in kinds.items():
        if ours != theirs:
            raise CannotCheck(f"{sample}: the function returns {what} {ours}, but the reference {theirs}")
    if not torch.allclose(expected, again, equal_nan=True):
        raise CannotCheck(f"{sample}: the reference returns other values at every call")
    if not value.isfinite().all() and expected.isfinite().all():
        raise CannotCheck(f"{sample}: the function returns {_odd(value)}, where the reference is finite")
    _require_gradient(subject.judge, expected, f"{sample}: the reference")


def _require_differences(call: Call, value: Tensor, whose: str) -> None:
    """Raise CannotCheck if finite differences can tell nothing."""
    if call.dtype != torch.float64:
        raise CannotCheck(f"{whose} does not return float64 for float64, and there is no reference to judge by")
    for what, numbers in {"takes": torch.cat([x.flatten() for x in call.inputs]), "returns": value}.items():
        if not numbers.isfinite().all():
            raise CannotCheck(f"{whose} {what} {_odd(numbers)}, which has no finite differences")
    if stands_still(call):
        raise CannotCheck(f"{whose}'s values are less exact than float64, and there is no reference")


def _require_gradient(judge: Call, value: Tensor, whose: str) -> None:
    try:
        output, leaves = judge.run()
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


def _odd(value: Tensor) -> float:
    return value[~value.isfinite()].flatten()[0].item()
