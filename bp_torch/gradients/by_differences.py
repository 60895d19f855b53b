"""Judged by finite differences: what the function's own values say its gradient must be."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.differences import Walk, even_direction, relative_direction, typical, walk_input
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import Subject
from bp_torch.gradients.variants import Variant
from bp_torch.gradients.verdict import ROUNDINGS_GRANTED_FLOAT64, compare

WHOLE = 256
"""An input of so many components is looked at component by component where that is needed;"""
SOME = 32
"""of a larger one, so many drawn at random."""
ERRORS_GRANTED = 20
"""A slope may differ from a finite difference by so many times the latter's own error,"""
PART_GRANTED = 1e-9
"""and by this part of the terms it is the sum of."""
WRONG_ORDER = 1.5
"""The Taylor remainder of a right gradient has order 2, of a wrong one 1."""


@dataclass(frozen=True)
class Question:
    """The gradient of one input, for an upstream gradient, at a variant."""

    subject: Subject
    check: str
    variant: Variant
    upstream: Tensor
    name: str
    hand: Tensor

    @property
    def input(self) -> Tensor:
        """The input itself."""
        return self.variant.call.by_name[self.name]

    def walk(self, direction: Tensor) -> Walk:
        """From the input along a direction."""
        number = list(self.variant.call.by_name).index(self.name)
        return walk_input(self.variant.call, number, direction, self.upstream)

    def rounding(self, step: float) -> float:
        """What rounding may make of a slope along a direction of this size."""
        return ROUNDINGS_GRANTED_FLOAT64 * torch.finfo(torch.float64).eps * self.subject.scales[self.name] * step


@dataclass(frozen=True)
class Slope:
    """A slope beside the finite difference, and how far apart they may be.

    Attributes:
        hand: what the gradient says.
        walk: what the values say.
        terms: the size of the terms that `hand` is the sum of.
        rounding: what rounding may make of it.
    """

    hand: float
    walk: Walk
    terms: float
    rounding: float

    @property
    def error(self) -> float:
        """How far apart they are; infinite if the gradient is not a number."""
        return abs(self.hand - self.walk.slope) if math.isfinite(self.hand) else math.inf

    @property
    def allowed(self) -> float:
        """How far apart they may be."""
        return ERRORS_GRANTED * self.walk.error + PART_GRANTED * self._terms + self.rounding

    @property
    def ratio(self) -> float:
        """The one in units of the other."""
        return self.error / self.allowed if self.error else 0.0

    @property
    def _terms(self) -> float:
        return self.terms if math.isfinite(self.terms) else 0.0

    def in_words(self, unit: float = 1.0) -> str:
        """Both, the tolerance and what it is made of, in units of the direction's step."""
        return (
            f"hand-written {self.hand / unit:.9g}, finite difference {self.walk.slope / unit:.9g}\n"
            f"error {self.error / unit:.3g}, allowed {self.allowed / unit:.3g} = {ERRORS_GRANTED} x the difference's "
            f"own error {self.walk.error / unit:.3g} + {PART_GRANTED:g} x terms {self._terms / unit:.3g} + rounding "
            f"{self.rounding / unit:.3g}"
        )


@dataclass(frozen=True)
class Component:
    """One component of a gradient: the slope along its axis, by steps in proportion to the number there.

    Among equal numbers, which of them comes first may be anybody's choice: they count as one, and move together.

    Attributes:
        place: where it stands, or the first of several.
        axis: 1 where it stands, and 0 elsewhere.
        unit: the size of a step.
        slope: along the axis, in such steps.
    """

    place: int
    axis: Tensor
    unit: float
    slope: Slope

    @property
    def regular(self) -> bool:
        """Whether the values tell the slope."""
        walk = self.slope.walk
        return not walk.bend and not walk.irregular(abs(walk.slope))

    @property
    def outside(self) -> bool:
        """Of a kink, whether the gradient lies outside the slopes to both sides."""
        walk = self.slope.walk
        return not self.slope.error <= abs(walk.bend) / 2 + self.slope.allowed + ERRORS_GRANTED * walk.noise


def by_differences(subject: Subject, check: str, variant: Variant, upstream: Tensor) -> Iterator[Result]:
    """Compare each input's gradient, by itself, with the slope along random signed directions."""
    directions = (relative_direction, even_direction) if variant.kind == "given" else (relative_direction,)
    for name, hand in variant.call.pull(upstream).items():
        question = Question(subject, check, variant, upstream, name, hand.detach())
        for direct in directions if hand.numel() else ():
            yield from _along(question, direct(question.input, subject.generator))


def _along(question: Question, direction: Tensor) -> Iterator[Result]:
    walk, terms = question.walk(direction), question.hand * direction
    step = question.rounding(direction.abs().sum().item())
    slope = Slope(terms.sum().item(), walk, terms.abs().sum().item(), step)
    if walk.bend or walk.irregular(slope.terms):
        yield from _component_wise(question)
        return
    passed = question.subject.passed(question.check, question.variant, input=question.name, ratio=slope.ratio)
    result = passed if slope.error <= slope.allowed else _at_length(question, slope)
    yield replace(result, order=walk.order(slope.hand))


def _at_length(question: Question, slope: Slope) -> Result:
    """A wrong slope, told by the component that is most wrong; by itself if that was not looked at."""
    order = slope.walk.order(slope.hand)
    nature = "WRONG EQUATION" if order < WRONG_ORDER else "WRONG"
    verdict = f"{nature}: the Taylor remainder shrinks with order {order:.2f}; of a right gradient with 2"
    failures = [result for result in _component_wise(question) if result.status == "failed"]
    if failures:
        return replace(failures[0], message=f"{failures[0].message}\n{verdict}")
    return _failed(question, f"along a random direction: {slope.in_words()}\n{verdict}")


def _component_wise(question: Question) -> Iterator[Result]:
    """Look at the components one by one: where there is a kink, the gradient must lie between the slopes beside it."""
    components = sorted(_components(question), key=lambda component: component.place)
    regular = [component for component in components if component.regular]
    bent = [component for component in components if component.slope.walk.bend]
    outside = [component for component in bent if component.axis.sum() == 1 and component.outside]
    if regular:
        yield _compared(question, regular, whole=len(regular) == question.input.numel())
    if wrong := [one for component in outside if (one := _of_one_output(question, component)).outside]:
        yield _beside_a_kink(question, wrong[0])
    elif bent:
        yield question.subject.passed(question.check, question.variant, input=question.name)
    if not regular and not bent and question.variant.kind == "given":
        reason = "the values tell no slope: are they computed in float64 and repeatable, and is this within the domain?"
        yield replace(_failed(question, reason), status="not judged")


def _components(question: Question) -> Iterator[Component]:
    numbers = question.input.detach()
    values, groups = torch.unique(numbers, return_inverse=True)
    chosen = torch.randperm(len(values), generator=question.subject.generator)
    for group in chosen[: WHOLE if len(values) <= WHOLE else SOME].tolist():
        unit = abs(values[group].item()) or typical(numbers)
        yield _component(question, (groups == group).to(numbers), unit)


def _component(question: Question, axis: Tensor, unit: float) -> Component:
    walk, terms = question.walk(unit * axis), unit * question.hand[axis == 1]
    size, step = max(terms.abs().sum().item(), abs(walk.slope)), question.rounding(unit * axis.sum().item())
    return Component(int(axis.argmax()), axis, unit, Slope(terms.sum().item(), walk, size, step))


def _of_one_output(question: Question, component: Component) -> Component:
    """The same for the output that bends most alone: what several kinks add up to may lie anywhere."""
    call, step = question.variant.call, 2.0**-16 * component.unit * component.axis
    points = ({**call.by_name, question.name: question.input + sign * step} for sign in (0, 1, -1))
    here, *beside = (call.at(list(point.values())).value() for point in points)
    one_hot = torch.zeros_like(question.upstream, memory_format=torch.contiguous_format)
    one_hot.view(-1)[int(((sum(beside) - 2 * here) * question.upstream).abs().argmax())] = 1
    alone = replace(question, upstream=one_hot, hand=call.pull(one_hot)[question.name].detach())
    return _component(alone, component.axis, component.unit)


def _compared(question: Question, components: list[Component], *, whole: bool) -> Result:
    """The component that is most wrong, by its own measure."""
    worst = max(components, key=lambda component: component.slope.ratio)
    if worst.slope.error <= worst.slope.allowed:
        ratio = worst.slope.ratio
        return question.subject.passed(question.check, question.variant, input=question.name, ratio=ratio)
    shape, device = question.input.shape, question.hand.device
    truth = torch.tensor([c.slope.walk.slope / c.unit for c in components], dtype=torch.float64, device=device)
    hand = torch.tensor([c.slope.hand / c.unit for c in components], dtype=torch.float64, device=device)
    one = [components.index(worst)]
    granted = worst.slope.allowed / worst.unit / 2
    comparison = compare(question.name, hand[one], truth[one], truth[one], typical_error=granted)
    comparison = replace(comparison, index=tuple(_index(question, worst)))
    hint = ""
    if whole:
        both = hand.reshape(shape), truth.reshape(shape)
        hint = hints.of_gradient(hints.Mistake(comparison, *both, question.variant.call, question.upstream))
    failed = _failed(question, f"at {_index(question, worst)}: {worst.slope.in_words(worst.unit)}", hint)
    return replace(failed, ratio=worst.slope.ratio, comparison=comparison)


def _beside_a_kink(question: Question, component: Component) -> Result:
    slope, half = component.slope, abs(component.slope.walk.bend) / 2
    low, high = ((slope.walk.slope + side * half) / component.unit for side in (-1, 1))
    hand, allowed = slope.hand / component.unit, slope.allowed / component.unit
    where = f"at {_index(question, component)}, a kink"
    return _failed(
        question,
        f"{where}: hand-written {hand:.9g} is not between the slopes beside it, {low:.9g} and {high:.9g}, by more than "
        f"the allowed {allowed:.3g}",
    )


def _index(question: Question, component: Component) -> list[int]:
    return [int(i) for i in torch.unravel_index(torch.tensor(component.place), question.input.shape)]


def _failed(question: Question, message: str, hint: str = "") -> Result:
    return question.subject.failed(question.check, question.variant, message, input=question.name, hint=hint)
