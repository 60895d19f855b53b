"""A call of a sample with a constraint, for tests that run the function alone."""

from dataclasses import replace

from bp_torch.gradients.call import Call


def unconstrained(call: Call) -> Call:
    """The same call with its inputs in their sets from the start, so that no projection comes before the function."""
    projected = {position: project(call.args[position]) for position, project in call.structure.projections.items()}
    return replace(call.with_args(projected), structure=replace(call.structure, projections={}))
