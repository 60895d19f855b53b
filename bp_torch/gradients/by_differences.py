"""Comparison with finite differences: what the function's own values say its gradient must be."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.case import CheckCase
from bp_torch.gradients.comparison import ROUNDINGS_GRANTED_FLOAT64, compare, index_of
from bp_torch.gradients.differences import LineSamples, even_direction, relative_direction, sample_input, typical
from bp_torch.gradients.report import Outcome, failed
from bp_torch.gradients.variants import Variant

MOST_COMPONENTS = 256
"""Inputs with up to this many components are checked component by component where that is needed."""
SOME_COMPONENTS = 32
"""Of larger inputs, this many components are drawn at random."""
ERRORS_GRANTED = 20
"""A derivative may differ from its finite difference by this many times the latter's estimated error."""
PART_GRANTED = 1e-9
"""It may also differ by this part of the terms that it is the sum of."""
WRONG_ORDER = 1.5
"""The Taylor remainder of a right gradient has order 2, that of a wrong one 1."""


@dataclass(frozen=True)
class FiniteDifferenceCase:
    """The gradient of one input, for an upstream gradient, at a variant."""

    case: CheckCase
    variant: Variant
    upstream: Tensor
    name: str
    hand: Tensor

    @property
    def input(self) -> Tensor:
        """The input itself."""
        return self.variant.call.by_name[self.name]

    def derivative(self, direction: Tensor, terms: Tensor, *, every_step: bool = False) -> "DirectionalDerivative":
        """The derivative along a direction; `terms` sum to the hand-written one."""
        line = sample_input(self.variant.call, self.name, direction, self.upstream, every_step=every_step)
        scale = self.case.scales[self.name] * direction.abs().sum().item()
        rounding = ROUNDINGS_GRANTED_FLOAT64 * torch.finfo(torch.float64).eps * scale
        return DirectionalDerivative(terms.sum().item(), line, terms.abs().sum().item(), rounding)

    def index(self, component: "Component") -> list[int]:
        """Where a component stands."""
        return list(index_of(torch.tensor(component.place), self.input.shape))


@dataclass(frozen=True)
class DirectionalDerivative:
    """A derivative along a line beside its finite difference, and how far apart they may be.

    Attributes:
        hand: ⟨gradient, direction⟩.
        line: the values along it.
        terms: the size of the terms that `hand` is the sum of.
        rounding: the part of the tolerance for rounding.
    """

    hand: float
    line: LineSamples
    terms: float
    rounding: float

    @property
    def error(self) -> float:
        """How far apart they are; infinite if the gradient is not a number."""
        return abs(self.hand - self.line.slope) if math.isfinite(self.hand) else math.inf

    @property
    def allowed(self) -> float:
        """How far apart they may be."""
        return ERRORS_GRANTED * self.line.error + PART_GRANTED * self._finite_terms + self.rounding

    @property
    def passed(self) -> bool:
        """Whether they are near enough."""
        return self.error <= self.allowed

    @property
    def ratio(self) -> float:
        """The error in units of what is allowed."""
        return self.error / self.allowed if self.error else 0.0

    @property
    def _finite_terms(self) -> float:
        return self.terms if math.isfinite(self.terms) else 0.0

    def details(self, unit: float = 1.0) -> str:
        """Both, the tolerance and what it is made of, in units of the direction's step."""
        return (
            f"hand-written {self.hand / unit:.9g}, finite difference {self.line.slope / unit:.9g}\n"
            f"error {self.error / unit:.3g}, allowed {self.allowed / unit:.3g} = {ERRORS_GRANTED} x the difference's "
            f"own error {self.line.error / unit:.3g} + {PART_GRANTED:g} x terms {self._finite_terms / unit:.3g} + "
            f"rounding {self.rounding / unit:.3g}"
        )


@dataclass(frozen=True)
class Component:
    """One component of a gradient: the derivative along its axis, by steps in proportion to the number there.

    Equal numbers count as one component and move together: which of them comes first is undefined.

    Attributes:
        place: its position, or the first of several.
        axis: 1 where it stands, and 0 elsewhere.
        unit: the size of a step.
        slope: the derivative along the axis, in such steps.
    """

    place: int
    axis: Tensor
    unit: float
    slope: DirectionalDerivative

    @property
    def regular(self) -> bool:
        """Whether the values determine the slope."""
        line = self.slope.line
        return not line.kink_jump and not line.irregular(abs(line.slope))

    @property
    def outside(self) -> bool:
        """At a kink, whether the gradient lies outside the slopes to both sides."""
        line = self.slope.line
        return not self.slope.error <= abs(line.kink_jump) / 2 + self.slope.allowed + ERRORS_GRANTED * line.noise


def by_differences(case: CheckCase, variant: Variant, upstream: Tensor) -> Iterator[tuple[Variant, Outcome]]:
    """Compare each input's gradient with finite differences along random signed directions."""
    directions = (relative_direction, even_direction) if variant is case.given else (relative_direction,)
    for name, hand in variant.call.pull(upstream).items():
        question = FiniteDifferenceCase(case, variant, upstream, name, hand.detach())
        for direct in directions if hand.numel() else ():
            for outcome in _along(question, direct(question.input, case.generator)):
                yield variant, replace(outcome, input=name)


def _along(question: FiniteDifferenceCase, direction: Tensor) -> Iterator[Outcome]:
    terms = question.hand * direction
    slope = question.derivative(direction, terms)
    if slope.line.agree and not slope.passed:
        slope = question.derivative(direction, terms, every_step=True)
    if slope.line.kink_jump or slope.line.irregular(slope.terms):
        yield from _component_wise(question)
        return
    order = slope.line.order(slope.hand)
    outcome = Outcome("passed", ratio=slope.ratio) if slope.passed else _in_full(question, slope, order)
    yield replace(outcome, order=order)


def _in_full(question: FiniteDifferenceCase, slope: DirectionalDerivative, order: float) -> Outcome:
    """A wrong slope, shown by the component that is most wrong; by itself if that is not among those looked at."""
    diagnosis = "WRONG EQUATION" if order < WRONG_ORDER else "WRONG"
    verdict = f"{diagnosis}: the Taylor remainder shrinks with order {order:.2f}; of a right gradient with 2"
    for outcome in _component_wise(question):
        if outcome.status == "failed":
            return replace(outcome, message=f"{outcome.message}\n{verdict}")
    return failed(f"along a random direction: {slope.details()}\n{verdict}")


def _component_wise(question: FiniteDifferenceCase) -> Iterator[Outcome]:
    """Look at the components one by one: at a kink, the gradient must lie between the slopes beside it."""
    components = sorted(_components(question), key=lambda component: component.place)
    regular = [component for component in components if component.regular]
    kinks = [component for component in components if component.slope.line.kink_jump]
    outside = [component for component in kinks if component.axis.sum() == 1 and component.outside]
    if regular:
        yield _compared(question, regular)
    if wrong := [one for component in outside if (one := _of_one_output(question, component)).outside]:
        yield _beside_a_kink(question, wrong[0])
    elif kinks:
        yield Outcome("passed")
    if not regular and not kinks and question.variant.kind == "given":
        reason = "the values tell no slope: are they computed in float64 and repeatable, and is this within the domain?"
        yield Outcome("inconclusive", ratio=math.inf, message=reason)


def _components(question: FiniteDifferenceCase) -> Iterator[Component]:
    numbers = question.input.detach()
    values, groups = torch.unique(numbers, return_inverse=True)
    chosen = torch.randperm(len(values), generator=question.case.generator)
    for group in chosen[: MOST_COMPONENTS if len(values) <= MOST_COMPONENTS else SOME_COMPONENTS].tolist():
        unit = abs(values[group].item()) or typical(numbers)
        yield _component(question, (groups == group).to(numbers), unit)


def _component(question: FiniteDifferenceCase, axis: Tensor, unit: float) -> Component:
    slope = question.derivative(unit * axis, unit * question.hand[axis == 1])
    slope = replace(slope, terms=max(slope.terms, abs(slope.line.slope)))
    return Component(int(axis.argmax()), axis, unit, slope)


def _of_one_output(question: FiniteDifferenceCase, component: Component) -> Component:
    """The same for the output with the largest kink alone: a sum of several kinks may have any slope."""
    call, step = question.variant.call, 2.0**-16 * component.unit * component.axis
    points = ({**call.by_name, question.name: question.input + sign * step} for sign in (0, 1, -1))
    here, *beside = (call.at(list(point.values())).value() for point in points)
    one_hot = torch.zeros_like(question.upstream, memory_format=torch.contiguous_format)
    one_hot.view(-1)[int(((sum(beside) - 2 * here) * question.upstream).abs().argmax())] = 1
    alone = replace(question, upstream=one_hot, hand=call.pull(one_hot)[question.name].detach())
    return _component(alone, component.axis, component.unit)


def _compared(question: FiniteDifferenceCase, components: list[Component]) -> Outcome:
    """The component that is most wrong, by its own tolerance."""
    worst = max(components, key=lambda component: component.slope.ratio)
    ratio = worst.slope.ratio
    if worst.slope.passed:
        return Outcome("passed", ratio=ratio)
    shape, device = question.input.shape, question.hand.device
    truth = torch.tensor([c.slope.line.slope / c.unit for c in components], dtype=torch.float64, device=device)
    hand = torch.tensor([c.slope.hand / c.unit for c in components], dtype=torch.float64, device=device)
    one = [components.index(worst)]
    granted = worst.slope.allowed / worst.unit / 2
    comparison = compare(question.name, hand[one], truth[one], truth[one], typical_error=granted)
    comparison = replace(comparison, index=tuple(question.index(worst)))
    hint = ""
    if len(components) == question.input.numel():
        both = hand.reshape(shape), truth.reshape(shape)
        hint = hints.of_gradient(hints.Mistake(comparison, *both, question.variant.call, question.upstream))
    message = f"at {question.index(worst)}: {worst.slope.details(worst.unit)}"
    return replace(failed(message, hint=hint), ratio=ratio, comparison=comparison)


def _beside_a_kink(question: FiniteDifferenceCase, component: Component) -> Outcome:
    slope, half = component.slope, abs(component.slope.line.kink_jump) / 2
    low, high = ((slope.line.slope + side * half) / component.unit for side in (-1, 1))
    hand, allowed = slope.hand / component.unit, slope.allowed / component.unit
    return failed(
        f"at {question.index(component)}, a kink: hand-written {hand:.9g} is not between the slopes beside it, "
        f"{low:.9g} and {high:.9g}, by more than the allowed {allowed:.3g}"
    )
