"""Judged by finite differences: what the function's own values say its gradient must be."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.copies import Copy
from bp_torch.gradients.differences import Walk, even_direction, relative_direction, typical, walk_input
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import Subject
from bp_torch.gradients.verdict import ROUNDINGS_GRANTED_FLOAT64, compare

WHOLE = 256
"""An input of so many components is looked at component by component where that is needed;"""
SOME = 32
"""of a larger one, so many drawn at random."""
ERRORS_GRANTED = 20
"""A slope may differ from a finite difference by so many times the latter's own error,"""
PART_GRANTED = 1e-9
"""and by this part of the terms it is the sum of."""
RIGHT_ORDER = 1.5
"""The Taylor remainder of a right gradient has order 2, of a wrong one 1."""


@dataclass(frozen=True)
class Question:
    """The gradient of one input, for an upstream gradient, at a copy."""

    subject: Subject
    check: str
    copy: Copy
    upstream: Tensor
    name: str
    hand: Tensor

    @property
    def input(self) -> Tensor:
        """The input itself."""
        return self.copy.call.inputs[self.number]

    @property
    def number(self) -> int:
        """Which of the inputs it is."""
        return list(self.copy.call.names.values()).index(self.name)

    def walk(self, direction: Tensor) -> Walk:
        """From the input along a direction."""
        return walk_input(self.copy.call, self.number, direction, self.upstream)

    def allowed(self, error: float, terms: float, step: float) -> float:
        """How far a slope may be off.

        Args:
            error: of the finite difference.
            terms: the size of the terms that the slope is the sum of.
            step: the size of the direction.
        """
        rounding = ROUNDINGS_GRANTED_FLOAT64 * torch.finfo(torch.float64).eps * self.subject.scales[self.name] * step
        return ERRORS_GRANTED * error + PART_GRANTED * (terms if math.isfinite(terms) else 0.0) + rounding

    def passed(self, ratio: float = 0.0) -> Result:
        """In favour of the gradient."""
        return self.subject.passed(self.check, self.copy, input=self.name, ratio=ratio)

    def failed(self, message: str) -> Result:
        """Against it."""
        return self.subject.failed(self.check, self.copy, message, input=self.name)


@dataclass(frozen=True)
class Component:
    """One component of a gradient, and a walk along its axis, by steps in proportion to the number there."""

    place: int
    hand: float
    unit: float
    walk: Walk
    alone: bool
    """Whether no other number is equal: among equals, a kink may be one of their order, and more slopes are right."""

    @property
    def slope(self) -> float:
        """What the component must be."""
        return self.walk.slope / self.unit

    @property
    def regular(self) -> bool:
        """Whether the walk tells it."""
        return not self.walk.bend and not self.walk.irregular(abs(self.walk.slope))

    @property
    def sides(self) -> tuple[float, float]:
        """The smaller and the larger of the slopes beside a kink."""
        half = abs(self.walk.bend / self.unit) / 2
        return self.slope - half, self.slope + half


def by_differences(subject: Subject, check: str, copy: Copy, upstream: Tensor) -> Iterator[Result]:
    """Compare each input's gradient, by itself, with the slope along random signed directions."""
    directions = (relative_direction, even_direction) if copy.kind == "given" else (relative_direction,)
    for name, hand in copy.call.pull(upstream).items():
        question = Question(subject, check, copy, upstream, name, hand.detach())
        for direct in directions if hand.numel() else ():
            yield from _along(question, direct(question.input, subject.generator))


def _along(question: Question, direction: Tensor) -> Iterator[Result]:
    walk, terms = question.walk(direction), question.hand * direction
    slope, scale = terms.sum().item(), terms.abs().sum().item()
    if walk.bend or walk.irregular(scale):
        yield from _component_wise(question)
        return
    off = abs(slope - walk.slope)
    allowed = question.allowed(walk.error, scale, direction.abs().sum().item())
    agrees = off <= allowed
    if agrees:
        yield question.passed(ratio=off / allowed if off else 0.0)
    else:
        yield _at_length(question, f"the slope along a random direction is {walk.slope:.9g}, not {slope:.9g}")
    yield _taylor(question, walk.order(slope), agrees)


def _taylor(question: Question, order: float, agrees: bool) -> Result:
    """Whether the Taylor remainder shrinks as of a wrong gradient.

    That of a slope that agrees with the finite differences may look so too, where the curvature happens to vanish.
    """
    asked = replace(question, check="Taylor remainder")
    if agrees or order >= RIGHT_ORDER:
        return replace(asked.passed(), order=order)
    message = f"it shrinks with order {order:.2f}, where a right gradient's has order 2: WRONG EQUATION, not rounding"
    return replace(asked.failed(message), order=order)


def _at_length(question: Question, summary: str) -> Result:
    """A wrong slope, told by the component that is most wrong."""
    failures = [result for result in _component_wise(question) if result.status == "failed"]
    if not failures:  # in a component that was not looked at
        return question.failed(summary)
    return replace(failures[0], message=f"{summary}\n{failures[0].message}")


def _component_wise(question: Question) -> Iterator[Result]:
    """Look at the components one by one: where there is a kink, the gradient must lie between the slopes beside it."""
    components = _components(question)
    regular = [component for component in components if component.regular]
    bent = [component for component in components if component.walk.bend and component.alone]
    if regular:
        yield _compared(question, regular)
    for component in bent:
        yield _between(question, component)
    if not regular and not bent and question.copy.kind == "given":
        yield question.failed(
            "CANNOT BE JUDGED: the values are not smooth enough to tell a slope; are they computed in float64?"
        )


def _components(question: Question) -> list[Component]:
    numbers, size = question.input.detach().reshape(-1), question.input.numel()
    places = torch.randperm(size, generator=question.subject.generator)[: size if size <= WHOLE else SOME]
    components = []
    for place in places.sort().values.tolist():
        unit = abs(numbers[place].item()) or typical(numbers)
        axis = torch.zeros_like(numbers)
        axis[place] = unit
        walk = question.walk(axis.reshape(question.input.shape))
        hand, alone = question.hand.reshape(-1)[place].item(), int((numbers == numbers[place]).sum()) == 1
        components.append(Component(place, hand, unit, walk, alone))
    return components


def _compared(question: Question, components: list[Component]) -> Result:
    """Compare some components with their finite differences."""
    shape = question.input.shape
    hand, truth = (
        torch.tensor(x, dtype=torch.float64) for x in zip(*((c.hand, c.slope) for c in components), strict=True)
    )
    granted = max(question.allowed(c.walk.error, abs(c.walk.slope), c.unit) / c.unit for c in components)
    comparison = compare(question.name, hand, truth, truth, typical_error=granted / 2)
    place = torch.tensor(components[comparison.index[0]].place)
    comparison = replace(comparison, index=tuple(int(i) for i in torch.unravel_index(place, shape)))
    hint = ""
    if not comparison.passed and len(components) == question.input.numel():
        whole = hand.reshape(shape), truth.reshape(shape)
        hint = hints.of_gradient(hints.Mistake(comparison, *whole, question.copy.call, question.upstream))
    return question.subject.result(question.check, question.copy, comparison, hint)


def _between(question: Question, component: Component) -> Result:
    low, high = component.sides
    walk, unit = component.walk, component.unit
    allowed = question.allowed(walk.error + walk.noise, abs(walk.bend), unit) / unit
    if low - allowed <= component.hand <= high + allowed:
        return question.passed()
    return question.failed(
        f"at component {component.place}, a kink: hand-written {component.hand:.9g} is not between the slopes "
        f"{low:.9g} and {high:.9g}"
    )
