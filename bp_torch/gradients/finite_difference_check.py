"""Comparison of a gradient with finite differences of the function's own values."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.case import CheckCase, Outcomes
from bp_torch.gradients.comparison import ROUNDINGS_FLOAT64, compare
from bp_torch.gradients.differences import (
    LineSamples,
    even_direction,
    relative_direction,
    rms,
    rounding_noise,
    rounding_spread,
    sample_line,
)
from bp_torch.gradients.report import Outcome, failed, left_out
from bp_torch.gradients.variants import Variant

MAX_COMPONENTS = 256
"""Largest number of components of an input that are all checked one by one."""
SAMPLED_COMPONENTS = 32
"""Number of components checked of a larger input, chosen at random."""
MAX_MEMBERS = 4
"""Number of equal components that are also checked one by one, at a kink."""
ERROR_FACTOR = 20
"""Tolerance in multiples of the estimated error of the finite difference."""
ILL_CONDITIONED = 0.05
"""Change of a component by rounding errors, relative to its error, above which it may be one."""
TERMS_RTOL = 1e-9
"""Tolerance relative to the terms that the derivative is a sum of."""
WRONG_ORDER = 1.5
"""Taylor order below which the equation is wrong: a correct gradient has order 2, a wrong one 1."""


@dataclass(frozen=True)
class FiniteDifferenceCase:
    """The hand-written gradient of one input of a variant, for an upstream gradient."""

    case: CheckCase
    variant: Variant
    upstream: Tensor
    name: str
    input: Tensor
    hand: Tensor
    noise: float = 0.0  # rounding error of ⟨upstream, output⟩, if it was measured

    @torch.no_grad()
    def with_noise(self) -> "FiniteDifferenceCase":
        """The same with a measured rounding error."""
        try:
            noise = rounding_noise(lambda: (self.variant.call.output() * self.upstream).sum().item())
        except Exception:  # an operation that cannot be intercepted
            return self
        return replace(self, noise=noise if math.isfinite(noise) else 0.0)

    @torch.no_grad()
    def along(self, direction: Tensor, *, every_step: bool = False) -> "DirectionalDerivative":
        """The derivative along a direction. The function must not modify its arguments."""
        inputs = self.variant.call.by_name

        def terms_at(t: float) -> Tensor:
            inputs[self.name] = self.input + t * direction
            try:
                return self.variant.call.at([*inputs.values()]).output() * self.upstream
            except Exception:  # outside the domain, a function may raise anything
                return torch.full_like(self.upstream, torch.nan)

        line = sample_line(terms_at, every_step=every_step, noise=self.noise)
        terms = (self.hand * direction)[direction != 0]
        scale = self.case.scales[self.name] * direction.abs().sum().item()
        rounding = ROUNDINGS_FLOAT64 * torch.finfo(torch.float64).eps * scale
        size = terms.abs().nan_to_num(nan=0, posinf=0).sum().item()
        return DirectionalDerivative(direction, terms.sum().item(), line, size, rounding)

    def of_component(self, step: Tensor) -> "DirectionalDerivative":
        """The derivative with respect to a component, by steps proportional to its value.

        Equal values move together as one component: among them, the order of a sort or a maximum is undefined.
        """
        slope = self.along(step)
        return replace(slope, terms=max(slope.terms, abs(slope.line.slope)))


@dataclass(frozen=True, eq=False)
class DirectionalDerivative:
    """A derivative along a line, its finite difference, and the tolerance."""

    direction: Tensor  # of the line; for a component, its step along the axis
    hand: float  # ⟨gradient, direction⟩
    line: LineSamples  # the function values along the line
    terms: float  # sum of the absolute finite terms of `hand`
    rounding: float  # the tolerance for rounding errors

    @property
    def error(self) -> float:
        """|derivative − finite difference|; infinite if the derivative is not finite."""
        return abs(self.hand - self.line.slope) if math.isfinite(self.hand) else math.inf

    @property
    def allowed(self) -> float:
        """The largest error allowed."""
        return ERROR_FACTOR * self.line.error + TERMS_RTOL * self.terms + self.rounding

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.allowed

    @property
    def ratio(self) -> float:
        """The error divided by the largest error allowed."""
        return self.error / self.allowed if self.error else 0.0

    @property
    def unit(self) -> float:
        """The size of the step of a component."""
        return self.direction.max().item()

    @property
    def index(self) -> tuple[int, ...]:
        """The index of the component, or of the first of several equal ones."""
        return tuple(self.direction.nonzero()[0].tolist())

    @property
    def outside(self) -> bool:
        """Whether the gradient at a kink is outside the interval between the one-sided slopes."""
        return not self.error <= abs(self.line.kink_jump) / 2 + self.allowed + ERROR_FACTOR * self.line.noise

    def details(self, unit: float = 1.0) -> str:
        """Both values, the error, and the terms of the tolerance, divided by `unit`."""
        return (
            f"hand-written {self.hand / unit:.9g}, finite difference {self.line.slope / unit:.9g}\n"
            f"error {self.error / unit:.3g}, allowed {self.allowed / unit:.3g} = {ERROR_FACTOR} x the "
            f"difference's error {self.line.error / unit:.3g} + {TERMS_RTOL:g} x terms {self.terms / unit:.3g} + "
            f"rounding {self.rounding / unit:.3g}"
        )


def side_of_differences(case: CheckCase, variant: Variant, upstream: Tensor, name: str, gradient: Tensor) -> str:
    """Compare a gradient with finite differences: "agrees", "disagrees", "subgradient" at a kink, or "unknown"."""
    input = variant.call.by_name[name].detach()
    fd = FiniteDifferenceCase(case, variant, upstream, name, input, gradient.detach()).with_noise()
    slope = fd.along(relative_direction(input, case.generator), every_step=True)
    if not slope.line.kink_jump and not slope.line.irregular(slope.terms):
        return "agrees" if slope.passed else "disagrees"
    statuses = {outcome.status for outcome in _check_components(fd)}
    return "disagrees" if "failed" in statuses else "subgradient" if statuses == {"passed"} else "unknown"


def compare_with_differences(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """Compare the gradient of each input with finite differences along random directions."""
    directions = (relative_direction, even_direction) if variant is case.as_given else (relative_direction,)
    gradients = {name: hand.detach() for name, hand in variant.call.vjp(upstream).items() if hand.numel()}
    for direction in directions:  # each input once, before any is compared twice
        for name, hand in gradients.items():
            input = variant.call.by_name[name].detach()
            fd = FiniteDifferenceCase(case, variant, upstream, name, input, hand)
            for outcome in _along(fd, direction(input, case.generator)):
                yield variant, replace(outcome, input=name)


def _along(fd: FiniteDifferenceCase, direction: Tensor) -> list[Outcome]:
    """The outcomes for a direction; after a failure, with measured rounding errors of value and gradient."""
    outcomes = [*_check_direction(fd, direction)]
    if all(outcome.status != "failed" for outcome in outcomes):
        return outcomes
    outcomes = [*_check_direction(fd.with_noise(), direction)]
    return [_unless_ill_conditioned(fd, direction, one) if one.status == "failed" else one for one in outcomes]


def _unless_ill_conditioned(fd: FiniteDifferenceCase, direction: Tensor, outcome: Outcome) -> Outcome:
    """A failure, unless rounding errors change the gradient of scaled inputs as much, as far beyond saturation."""
    if fd.variant.kind != "scaled":
        return outcome
    try:
        change = rounding_spread(lambda call: call.vjp(fd.upstream)[fd.name], fd.variant.call)
    except Exception:  # an operation that cannot be intercepted
        return outcome
    if outcome.comparison:
        size, error = change[outcome.comparison.index].item(), outcome.comparison.error
    else:
        size, error = torch.linalg.vector_norm(change * direction).item(), fd.along(direction).error
    if size > ILL_CONDITIONED * error:
        return left_out("ill-conditioned: rounding errors change the gradient")
    return outcome


def _check_direction(fd: FiniteDifferenceCase, direction: Tensor) -> Iterator[Outcome]:
    slope = fd.along(direction)
    if slope.line.converged and not slope.passed:
        slope = fd.along(direction, every_step=True)
    if slope.line.kink_jump or slope.line.irregular(slope.terms):
        yield from _check_components(fd)
        return
    order = slope.line.order(slope.hand)
    outcome = Outcome("passed", ratio=slope.ratio) if slope.passed else _explain_failure(fd, slope, order)
    yield replace(outcome, order=order)


def _explain_failure(fd: FiniteDifferenceCase, slope: DirectionalDerivative, order: float) -> Outcome:
    """A failure that names the worst component, or the random direction if every component checked is correct."""
    verdict = "WRONG EQUATION"
    if order < WRONG_ORDER:
        verdict += f": the Taylor remainder is of order {order:.2f}, and not of second order"
    for outcome in _check_components(fd):
        if outcome.status == "failed":
            return replace(outcome, message=f"{outcome.message}\n{verdict}")
    if fd.variant.kind == "kink":  # at ties, the slope along a line need not be that of any choice
        return Outcome("passed")
    return failed(f"along a random direction: {slope.details()}\n{verdict}")


def _check_components(fd: FiniteDifferenceCase) -> Iterator[Outcome]:
    """Compare the components one by one; at a kink, the gradient must be between the one-sided slopes."""
    components = sorted(_components(fd), key=lambda component: component.index)
    kinks = [each for component in components if component.line.kink_jump for each in _members(fd, component)]
    regular = [c for c in components if not c.line.kink_jump and not c.line.irregular(abs(c.line.slope))]
    outside = [component for component in kinks if component.direction.count_nonzero() == 1 and component.outside]
    if regular:
        yield _compare_components(fd, regular)
    if wrong := [one for component in outside if (one := _largest_kink_alone(fd, component)).outside]:
        yield _kink_failure(wrong[0])
    elif kinks:
        yield Outcome("passed")
    if not regular and not kinks and fd.variant.kind == "given":
        reason = "the values determine no slope: are they deterministic, accurate to float64 and inside the domain?"
        yield Outcome("inconclusive", ratio=math.inf, message=reason)


def _components(fd: FiniteDifferenceCase) -> Iterator[DirectionalDerivative]:
    values, groups = torch.unique(fd.input, return_inverse=True)
    chosen = torch.randperm(len(values), generator=fd.case.generator)
    for group in chosen[: MAX_COMPONENTS if len(values) <= MAX_COMPONENTS else SAMPLED_COMPONENTS].tolist():
        if time.monotonic() > fd.case.deadline:
            return
        unit = abs(values[group].item()) or rms(fd.input)
        yield fd.of_component(unit * (groups == group).to(fd.input))


def _members(fd: FiniteDifferenceCase, component: DirectionalDerivative) -> Iterator[DirectionalDerivative]:
    """The first components that have a kink together, one by one."""
    indices = component.direction.nonzero().tolist()
    if len(indices) == 1:
        yield component
        return
    for index in indices[:MAX_MEMBERS]:
        step = torch.zeros_like(component.direction)
        step[tuple(index)] = component.unit
        yield fd.of_component(step)


def _largest_kink_alone(fd: FiniteDifferenceCase, component: DirectionalDerivative) -> DirectionalDerivative:
    """Repeat for the output with the largest kink: the slopes of a sum of kinks need not contain its gradient."""
    call, step = fd.variant.call, 2.0**-16 * component.direction
    points = ({**call.by_name, fd.name: fd.input + sign * step} for sign in (0, 1, -1))
    here, *neighbours = (call.at(list(point.values())).value() for point in points)
    one_hot = torch.zeros_like(fd.upstream, memory_format=torch.contiguous_format)
    one_hot.view(-1)[int(((sum(neighbours) - 2 * here) * fd.upstream).abs().argmax())] = 1
    single = replace(fd, upstream=one_hot, hand=call.vjp(one_hot)[fd.name].detach())
    return single.of_component(component.direction)


def _compare_components(fd: FiniteDifferenceCase, components: list[DirectionalDerivative]) -> Outcome:
    """Compare the components, each by its own tolerance; the outcome is that of the worst."""
    worst = max(components, key=lambda component: component.ratio)
    if worst.passed:
        return Outcome("passed", ratio=worst.ratio)
    hand = fd.hand.new_tensor(worst.hand / worst.unit)  # of equal components, the sum
    truth = fd.hand.new_tensor([c.line.slope / c.unit for c in components])
    expected = truth[components.index(worst)]
    comparison = compare(fd.name, hand, expected, expected, typical_error=worst.allowed / worst.unit / 2)
    comparison, hint = replace(comparison, index=worst.index), ""
    if len(components) == fd.hand.numel():
        expected = truth.reshape(fd.hand.shape)
        hint = hints.for_gradient(comparison, fd.hand, expected, fd.variant.call, fd.upstream)
    message = f"at {list(worst.index)}: {worst.details(worst.unit)}"
    return replace(failed(message, hint=hint), ratio=worst.ratio, comparison=comparison)


def _kink_failure(component: DirectionalDerivative) -> Outcome:
    half, unit = abs(component.line.kink_jump) / 2, component.unit
    low, high = ((component.line.slope + side * half) / unit for side in (-1, 1))
    return failed(
        f"at {list(component.index)}, a kink: hand-written {component.hand / unit:.9g} is not between the slopes "
        f"{low:.9g} and {high:.9g}, within the allowed error {component.allowed / unit:.3g}"
    )
