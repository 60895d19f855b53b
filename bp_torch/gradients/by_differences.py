"""Comparison with finite differences: what the function's own values say its gradient must be."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.case import CheckCase, Pairs
from bp_torch.gradients.comparison import ROUNDINGS_GRANTED_FLOAT64, compare
from bp_torch.gradients.differences import LineSamples, even_direction, relative_direction, sample_line, typical
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
    input: Tensor
    hand: Tensor

    @torch.no_grad()
    def along(self, direction: Tensor, *, every_step: bool = False) -> "DirectionalDerivative":
        """The derivative along a direction. The function must be known to leave its arguments alone."""
        inputs = self.variant.call.by_name

        def moved(t: float) -> Tensor:
            inputs[self.name] = self.input + t * direction
            try:
                return self.variant.call.at([*inputs.values()]).output() * self.upstream
            except Exception:  # whatever a function raises outside of its domain, at whose edge this may be
                return torch.full_like(self.upstream, torch.nan)

        line = sample_line(moved, every_step=every_step)
        terms = (self.hand * direction)[direction != 0]
        scale = self.case.scales[self.name] * direction.abs().sum().item()
        rounding = ROUNDINGS_GRANTED_FLOAT64 * torch.finfo(torch.float64).eps * scale
        size = terms.abs().nan_to_num(nan=0, posinf=0).sum().item()
        return DirectionalDerivative(direction, terms.sum().item(), line, size, rounding)

    def of_component(self, step: Tensor) -> "DirectionalDerivative":
        """The derivative along an axis, by steps in proportion to the number there.

        Equal numbers count as one component and move together: which of them comes first is undefined.
        """
        slope = self.along(step)
        return replace(slope, terms=max(slope.terms, abs(slope.line.slope)))


@dataclass(frozen=True, eq=False)
class DirectionalDerivative:
    """A derivative along a line beside its finite difference, and how far apart they may be."""

    direction: Tensor  # of the line; the step along an axis where it is a component's
    hand: float  # ⟨gradient, direction⟩
    line: LineSamples  # the values along it
    terms: float  # the size of the finite terms that `hand` is the sum of
    rounding: float  # the part of the tolerance for rounding

    @property
    def error(self) -> float:
        """How far apart they are; infinite if the gradient is not a number."""
        return abs(self.hand - self.line.slope) if math.isfinite(self.hand) else math.inf

    @property
    def allowed(self) -> float:
        """How far apart they may be."""
        return ERRORS_GRANTED * self.line.error + PART_GRANTED * self.terms + self.rounding

    @property
    def passed(self) -> bool:
        """Whether they are near enough."""
        return self.error <= self.allowed

    @property
    def ratio(self) -> float:
        """The error in units of what is allowed."""
        return self.error / self.allowed if self.error else 0.0

    @property
    def unit(self) -> float:
        """The size of a component's step."""
        return self.direction.max().item()

    @property
    def index(self) -> tuple[int, ...]:
        """Where a component stands, or the first of several that are equal."""
        return tuple(self.direction.nonzero()[0].tolist())

    @property
    def outside(self) -> bool:
        """At a kink, whether the gradient lies outside the slopes to both sides."""
        return not self.error <= abs(self.line.kink_jump) / 2 + self.allowed + ERRORS_GRANTED * self.line.noise

    def details(self, unit: float = 1.0) -> str:
        """Both, the tolerance and what it is made of, in units of the direction's step."""
        return (
            f"hand-written {self.hand / unit:.9g}, finite difference {self.line.slope / unit:.9g}\n"
            f"error {self.error / unit:.3g}, allowed {self.allowed / unit:.3g} = {ERRORS_GRANTED} x the difference's "
            f"own error {self.line.error / unit:.3g} + {PART_GRANTED:g} x terms {self.terms / unit:.3g} + "
            f"rounding {self.rounding / unit:.3g}"
        )


def by_differences(case: CheckCase, variant: Variant, upstream: Tensor) -> Pairs:
    """Compare each input's gradient with finite differences along random signed directions."""
    directions = (relative_direction, even_direction) if variant is case.given else (relative_direction,)
    for name, hand in variant.call.pull(upstream).items():
        input = variant.call.by_name[name].detach()
        question = FiniteDifferenceCase(case, variant, upstream, name, input, hand.detach())
        for direct in directions if hand.numel() else ():
            for outcome in _along(question, direct(input, case.generator)):
                yield variant, replace(outcome, input=name)


def _along(question: FiniteDifferenceCase, direction: Tensor) -> Iterator[Outcome]:
    slope = question.along(direction)
    if slope.line.agree and not slope.passed:
        slope = question.along(direction, every_step=True)
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
    components = sorted(_components(question), key=lambda component: component.index)
    kinks = [component for component in components if component.line.kink_jump]
    regular = [c for c in components if not c.line.kink_jump and not c.line.irregular(abs(c.line.slope))]
    outside = [component for component in kinks if component.direction.count_nonzero() == 1 and component.outside]
    if regular:
        yield _compared(question, regular)
    if wrong := [one for component in outside if (one := _of_one_output(question, component)).outside]:
        yield _beside_a_kink(wrong[0])
    elif kinks:
        yield Outcome("passed")
    if not regular and not kinks and question.variant.kind == "given":
        reason = "the values tell no slope: are they computed in float64 and repeatable, and is this within the domain?"
        yield Outcome("inconclusive", ratio=math.inf, message=reason)


def _components(question: FiniteDifferenceCase) -> Iterator[DirectionalDerivative]:
    values, groups = torch.unique(question.input, return_inverse=True)
    chosen = torch.randperm(len(values), generator=question.case.generator)
    for group in chosen[: MOST_COMPONENTS if len(values) <= MOST_COMPONENTS else SOME_COMPONENTS].tolist():
        unit = abs(values[group].item()) or typical(question.input)
        yield question.of_component(unit * (groups == group).to(question.input))


def _of_one_output(question: FiniteDifferenceCase, component: DirectionalDerivative) -> DirectionalDerivative:
    """The same for the output with the largest kink alone: a sum of several kinks may have any slope."""
    call, step = question.variant.call, 2.0**-16 * component.direction
    points = ({**call.by_name, question.name: question.input + sign * step} for sign in (0, 1, -1))
    here, *beside = (call.at(list(point.values())).value() for point in points)
    one_hot = torch.zeros_like(question.upstream, memory_format=torch.contiguous_format)
    one_hot.view(-1)[int(((sum(beside) - 2 * here) * question.upstream).abs().argmax())] = 1
    alone = replace(question, upstream=one_hot, hand=call.pull(one_hot)[question.name].detach())
    return alone.of_component(component.direction)


def _compared(question: FiniteDifferenceCase, components: list[DirectionalDerivative]) -> Outcome:
    """The component that is most wrong, by its own tolerance."""
    worst = max(components, key=lambda component: component.ratio)
    if worst.passed:
        return Outcome("passed", ratio=worst.ratio)
    hand = question.hand[worst.index]
    truth = question.hand.new_tensor([c.line.slope / c.unit for c in components])
    right = truth[components.index(worst)]
    comparison = compare(question.name, hand, right, right, typical_error=worst.allowed / worst.unit / 2)
    comparison, hint = replace(comparison, index=worst.index), ""
    if len(components) == question.hand.numel():
        both = question.hand, truth.reshape(question.hand.shape)
        hint = hints.of_gradient(comparison, *both, question.variant.call, question.upstream)
    message = f"at {list(worst.index)}: {worst.details(worst.unit)}"
    return replace(failed(message, hint=hint), ratio=worst.ratio, comparison=comparison)


def _beside_a_kink(component: DirectionalDerivative) -> Outcome:
    half, unit = abs(component.line.kink_jump) / 2, component.unit
    low, high = ((component.line.slope + side * half) / unit for side in (-1, 1))
    return failed(
        f"at {list(component.index)}, a kink: hand-written {component.hand / unit:.9g} is not between the slopes "
        f"beside it, {low:.9g} and {high:.9g}, by more than the allowed {component.allowed / unit:.3g}"
    )
