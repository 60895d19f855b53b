"""Finite differences: the derivative along a line, from values alone.

A cost φ is evaluated in float64 at t = ±2⁻⁶, ±2⁻⁸, ±2⁻¹⁰, ±2⁻¹² along a direction; if these do not agree on a slope, at
±2⁻¹⁴, ±2⁻¹⁶, ±2⁻¹⁸, ±2⁻²⁰ too. From the same values come

* the slope, by the 5-point formula φ′(0) = (64 (φ(t) − φ(−t)) − (φ(4t) − φ(−4t))) / 120t + O(t⁴), at the t with which
  all shorter steps agree best; its error is what they differ by beyond rounding;
* whether there is a kink at 0: (φ(t) + φ(−t) − 2 φ(0)) / t vanishes with t for a smooth function, and otherwise
  becomes the difference between the slopes to the right and to the left;
* the order of the Taylor remainder |φ(t) − φ(0) − t p|: it shrinks like t² if p is the slope, and like t if not,
  whatever the size of either.

A kink some way off spoils the long steps alone. The complex step is not used: it needs functions that take complex
numbers, and is wrong without a sign where they are not analytic.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bp_torch.gradients.call import Call

_STEPS = tuple(2.0**-power for power in range(6, 21, 2))
"""The longest first, each a quarter of the one before."""
_ENOUGH = 4
"""This many steps are enough where they agree on a slope."""
_AGREEMENT = 1e-10
"""Relative error of a slope on which they agree."""
_EPS = torch.finfo(torch.float64).eps
_TINY = torch.finfo(torch.float64).tiny
_TAYLOR_FROM = 1
"""The Taylor remainder is measured from this step on, 2⁻⁸: for longer ones, higher terms count."""
_REGULAR = 1e-6
"""The slope's error may be this part of the terms it is a sum of; otherwise the values are too irregular."""


@dataclass(frozen=True)
class LineSamples:
    """The values of a function along a line."""

    start: float  # at t = 0
    ahead: list[float]  # at each step t > 0, the longest first
    behind: list[float]  # at −t
    magnitude: float  # the size of the terms that a value is the sum of, which its rounding is a part of

    @cached_property
    def _slope_and_error(self) -> tuple[float, float]:
        """The slope over the step with the least error: rounding, and what shorter steps differ by beyond theirs."""
        differences = [ahead - behind for ahead, behind in zip(self.ahead, self.behind, strict=True)]
        found = [
            ((64 * short - long) / (120 * t), 4 * _EPS * self.magnitude / t)
            for long, short, t in zip(differences, differences[1:], _STEPS[1:], strict=False)
        ]
        errors = []
        for number, (slope, rounding) in enumerate(found[:-1], 1):
            apart = [abs(slope - other) - its_rounding for other, its_rounding in found[number:]]
            errors.append(rounding + max(0.0, *apart) if all(map(math.isfinite, apart)) else math.inf)
        least = min(errors)
        return found[errors.index(least)][0], least

    @property
    def slope(self) -> float:
        """The derivative at t = 0; at a kink, the mean of both sides'."""
        return self._slope_and_error[0]

    @property
    def error(self) -> float:
        """The estimated error of the slope."""
        return self._slope_and_error[1]

    @cached_property
    def kink_jump(self) -> float:
        """Right-hand minus left-hand slope if there is a kink at t = 0, otherwise 0."""
        sides = zip(self.ahead, self.behind, _STEPS, strict=False)
        *longer, last = [(ahead + behind - 2 * self.start) / t for ahead, behind, t in sides][-3:]
        lasting = all(abs(jump - last) < 0.1 * abs(last) for jump in longer)
        return last if lasting and abs(last) > self.noise else 0.0

    @property
    def noise(self) -> float:
        """What rounding may make of the slope over the shortest step."""
        return 32 * _EPS * self.magnitude / _STEPS[len(self.ahead) - 1]

    @property
    def agree(self) -> bool:
        """Whether the values agree on a slope, so that shorter steps would add nothing."""
        return self.error <= _AGREEMENT * abs(self.slope) and not self.kink_jump

    def irregular(self, scale: float) -> bool:
        """Whether the values determine no slope, a sum of terms of this size: not smooth, or not exact to float64."""
        return not (math.isfinite(self.error) and self.error <= _REGULAR * max(scale, abs(self.slope)) + self.noise)

    def order(self, slope: float) -> float:
        """The order of the Taylor remainder for a slope: 2 or more if it is right, 1 if it is wrong.

        It is measured over the last two quarterings of t in which a remainder of order 2 is not lost in rounding.
        Infinite where there is none, as of a straight line.
        """
        ahead = zip(self.ahead, _STEPS, strict=False)
        remainders = [abs(value - self.start - t * slope) for value, t in ahead][_TAYLOR_FROM:]
        noise = max(64 * _EPS * self.magnitude, _TINY)
        if not math.isfinite(remainders[0]):
            return math.nan
        last = min(int(math.log(max(remainders[0] / (4 * noise), 1), 16)), len(remainders) - 1)
        first = max(last - 2, 0)
        if last == 0 or remainders[first] < 16 * noise:
            return math.inf
        shrunk = max(remainders[first], noise) / max(remainders[last], noise)
        return math.log(shrunk, 4) / (last - first)


def sample_line(terms: Callable[[float], Tensor], *, every_step: bool = False) -> LineSamples:
    """Evaluate φ(t), the sum of `terms(t)`, on both sides of t = 0.

    Where the long steps agree, the short ones are left out. Only they tell the order for a slope that is almost right.
    """
    start, sums = terms(0.0), list[Tensor]()
    magnitude = start.abs().sum().item()
    for t in _STEPS:
        ahead, behind = terms(t), terms(-t)
        if not sums:
            magnitude = max(magnitude, ahead.abs().sum().item(), behind.abs().sum().item())
        sums += [ahead.sum(), behind.sum()]
        if len(sums) in (2 * _ENOUGH, 2 * len(_STEPS)):
            values = torch.stack(sums).tolist()
            samples = LineSamples(start.sum().item(), values[::2], values[1::2], magnitude)
            if samples.agree and not every_step:
                break
    return samples


def taylor_order(cost: Callable[[float], float], slope: float) -> float:
    """The order of the Taylor remainder |φ(t) − φ(0) − t p| from three values: 2 if p is the slope of φ, 1 if not.

    Args:
        cost: φ, in float64.
        slope: p.

    Returns:
        The order between t = 2⁻¹⁴ and 2⁻¹⁷, within which few rectifiers change sides; NaN if the remainder is lost in
        rounding there.
    """
    start = cost(0.0)
    long, short = (abs(cost(t) - start - t * slope) for t in (2.0**-14, 2.0**-17))
    lost = short <= 64 * _EPS * abs(start) or not long
    return math.nan if lost else math.log2(long / short) / 3


@torch.no_grad()
def has_reduced_precision(call: Call) -> bool:
    """Whether values in float64 stay the same for a step that should move them: they are less exact inside.

    Only those are looked at that a longer step moves well beyond rounding.
    """
    try:
        start, near, far = (call.at([x * (1 + t) for x in call.inputs]).value() for t in (0.0, 2.0**-32, 2.0**-10))
    except Exception:  # whatever a function raises outside of its domain, at whose edge this is
        return False
    moved = (far - start).abs() > 1e-5 * start.abs()
    return bool(moved.any()) and (near == start)[moved].double().mean().item() > 0.5


def relative_direction(input: Tensor, generator: torch.Generator) -> Tensor:
    """A random signed direction that moves each number in proportion to its size: none crosses 0 on the way."""
    return signed(input, generator) * torch.where(input == 0, typical(input), input.detach().abs())


def even_direction(input: Tensor, generator: torch.Generator) -> Tensor:
    """A random signed direction that moves all numbers by about the same."""
    return signed(input, generator) * typical(input)


def signed(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers of both signs and of sizes from ½ to 1½, none near 0, in the shape and dtype of another Tensor."""
    sizes = torch.rand(like.shape, generator=generator, dtype=torch.float64) + 0.5
    signs = torch.randint(2, like.shape, generator=generator, dtype=torch.float64) * 2 - 1
    return (sizes * signs).to(like)


def typical(input: Tensor) -> float:
    """Root mean square; 1 for zeros, and for no numbers."""
    return input.detach().square().mean().sqrt().nan_to_num(nan=1.0).item() or 1.0
