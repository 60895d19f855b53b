"""Find out how a function must be called: random numbers, changes in place, outputs without a gradient."""

import random
import sys
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, CannotCheck
from bp_torch.gradients.containers import float_tensors, leaves
from bp_torch.gradients.tracing import trace

RANDOM = "random: the random numbers are the same in each call; call .eval to check a layer without its dropout"
IN_PLACE = "changes its input in place, as declared: each call is given copies"


def prepared(call: Call, seed: int) -> tuple[Call, list[str]]:
    """The call as it must be made, and remarks for the report.

    Raises:
        CannotCheck: if two calls with the same random numbers return different values.
    """
    remarks = []
    if _is_random(call):
        call = replace(call, structure=replace(call.structure, seed=seed))
        remarks.append(RANDOM)
    if not torch.allclose(call.value(), call.value(), rtol=1e-6, atol=0, equal_nan=True):
        raise CannotCheck("returns different values in two calls with the same random numbers")
    try:
        returned, inputs = _called(call)
    except CannotCheck:
        raise
    except Exception:  # the checks report what the function raises
        return call, remarks
    if any(x is part and x._version for part in returned for x in inputs):
        call = replace(call, structure=replace(call.structure, copies=True))
        remarks.append(IN_PLACE)
    with_gradient = tuple(i for i, part in enumerate(float_tensors(returned)) if part.requires_grad)
    without = [f"output {i}" for i in range(len(float_tensors(returned))) if i not in with_gradient]
    if with_gradient and without:
        call = replace(call, structure=replace(call.structure, outputs=with_gradient))
        remarks.append(f"no gradient, as if marked non-differentiable: {', '.join(without)}")
    return call, remarks


def _is_random(call: Call) -> bool:
    """Whether a call changes the state of a random number generator, or its value changes from call to call."""
    before = _states()
    first = call.value()
    changed = trace(call).is_random or any(map(_differ, before, _states()))
    return changed or not torch.allclose(first, call.value(), rtol=1e-6, atol=0, equal_nan=True)


def _states() -> list[Any]:
    numpy = sys.modules.get("numpy")
    return [torch.get_rng_state(), random.getstate(), repr(numpy.random.get_state(legacy=False)) if numpy else None]


def _differ(a: Any, b: Any) -> bool:
    return not torch.equal(a, b) if isinstance(a, Tensor) else a != b


def _called(call: Call) -> tuple[list[Any], list[Tensor]]:
    """The leaves of the result for Tensors that may be changed in place, and these Tensors."""
    inputs = [x.detach().requires_grad_().clone() for x in call.clone().inputs]
    with torch.enable_grad():
        returned = [leaf for _, leaf in leaves(call.at(inputs).result())]
    if any(x.numel() and not x.untyped_storage().nbytes() for x in inputs):
        raise CannotCheck("frees the storage of its input: later calls would read freed memory")
    return returned, inputs
