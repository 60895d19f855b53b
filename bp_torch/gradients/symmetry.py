"""Functions of symmetric matrices, whose gradient is a matter of convention: on one side, or on both."""

from dataclasses import replace
from itertools import chain

import torch

from bp_torch.gradients.axes import property_of
from bp_torch.gradients.case import CheckCase
from bp_torch.gradients.checks.first_order import compare_gradients, finite_differences
from bp_torch.gradients.constraints import psd, symmetric


def along_symmetric(case: CheckCase) -> CheckCase:
    """The case with its symmetric inputs kept symmetric, if its gradient is correct only along such matrices."""
    projections = dict(case.call.structure.projections)
    for position, x in zip(case.call.names, case.call.inputs, strict=True):
        found = property_of(x)
        if found in (psd, symmetric):
            projections.setdefault(position, found)
    if len(projections) == len(case.call.structure.projections):
        return case
    structure = replace(case.call.structure, projections=projections)
    other = replace(case, call=replace(case.call, structure=structure), given=replace(case.given, structure=structure))
    return other if _is_right(other) and not _is_right(case) else case


def _is_right(case: CheckCase) -> bool:
    case = replace(case, generator=torch.Generator().manual_seed(0))  # the generator of the case stays as it is
    outcomes = chain(compare_gradients(case, case.as_given, case.upstream), finite_differences(case))
    return all(outcome.status != "failed" for _, outcome in outcomes)
