"""A mini-batch's way forward and back in sizes: how large everything is, and where numbers stop being finite."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bp_torch.engine import backward
from bp_torch.training.learner import Learner


class Stage(NamedTuple):
    """What is met on the way.

    Attributes:
        name: such as "output of layer 0 (Linear)".
        largest: the largest magnitude, of those that are finite.
        odd: how many are not.
        numbers: how many there are.
    """

    name: str
    largest: float
    odd: int
    numbers: int


def stages(learner: Learner, inputs: Tensor, targets: Tensor) -> list[Stage]:
    """All that backpropagation meets on a mini-batch, in the order in which it is computed."""
    return [_stage(name, tensor.detach()) for name, tensor in _met(learner, inputs, targets)]


def first_odd(met: Sequence[Stage]) -> str:
    """Where numbers that are not finite begin, as the end of a sentence."""
    found = next((stage.name for stage in met if stage.odd), None)
    return f"first in the {found}" if found else "but when computed once more, everything is"


def tell(met: Sequence[Stage]) -> str:
    """A line for each stage; an arrow at the first that is not finite."""
    lines, found = [], False
    for stage in met:
        mark = "->" if stage.odd and not found else "  "
        found = found or stage.odd > 0
        largest = "" if stage.odd == stage.numbers else f"{stage.largest:.4g}"
        odd = f"{stage.odd:,} of {stage.numbers:,} not finite" if stage.odd else ""
        lines.append(f"{mark} {stage.name:<44} {largest:>11}  {odd}".rstrip())
    return "\n".join([f"   {'what':<44} {'largest':>11}", *lines])


def _met(learner: Learner, inputs: Tensor, targets: Tensor) -> Iterator[tuple[str, Tensor]]:
    parameters = dict(learner.hand.named_parameters())
    yield from ((f"parameter {name}", parameter) for name, parameter in parameters.items())
    cost, tape = learner.trace(inputs, targets)
    calls = [call for call in tape if call.module]
    yield from ((f"output of module {call.module}", call.output) for call in calls)
    yield "cost", cost
    with torch.no_grad():
        gradients_of = backward(tape, cost)
    for call in reversed(calls):
        yield f"gradient of the output of module {call.module}", gradients_of[call.output]
    gradients = learner.gradients_alone(inputs, targets)
    yield from ((f"gradient of {name}", gradients[name]) for name in reversed(parameters))


def _stage(name: str, tensor: Tensor) -> Stage:
    finite = tensor.isfinite()
    largest = torch.where(finite, tensor, 0).abs().max().item()
    return Stage(name, largest, int((~finite).sum()), tensor.numel())
