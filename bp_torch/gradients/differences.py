"""Finite differences: the derivative along a line, from values alone.

A walk takes the values of a cost φ at t = ±2⁻⁵, ±2⁻⁶, … ±2⁻¹⁸ along a direction, in float64. From the same values come

* the slope, by the 5-point formula φ′(0) = (8 (φ(t) − φ(−t)) − (φ(2t) − φ(−2t))) / 12t + O(t⁴), at the t with which all
  shorter steps agree best; what they differ by beyond rounding is its error;
* whether there is a kink here: (φ(t) + φ(−t) − 2 φ(0)) / t vanishes with t for a smooth function, and otherwise
  becomes the difference between the slopes to the right and to the left;
* the order of the Taylor remainder |φ(t) − φ(0) − t p|: it shrinks like t² if p is the slope, and like t if not,
  whatever the size of either.

A kink some way off spoils the long steps alone. The complex step is not used: it
wants functions that take complex numbers, and is wrong without a sign where they are not analytic.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bp_torch.gradients.call import Call

_STEPS = 2.0 ** -torch.arange(5, 19, dtype=torch.float64)
_EPS = torch.finfo(torch.float64).eps
_TAYLOR_FROM = 5
"""The Taylor remainder is looked at from this step on, 2⁻¹⁰: before it, higher terms count."""
_OCTAVES = 3
"""Its order is measured over so many halvings, the last ones in which it would not be lost in rounding."""
_REGULAR = 1e-6
"""The slope's error may be this part of what it is made of; otherwise the values are too irregular to tell it."""


@dataclass(frozen=True)
class Walk:
    """The values of a function along a line.

    Attributes:
        start: at t = 0.
        ahead: at each step t > 0, the longest first.
        behind: at −t.
        magnitude: the size of the terms a value is the sum of, to know its rounding by.
    """

    start: float
    ahead: Tensor
    behind: Tensor
    magnitude: float

    @cached_property
    def _slopes(self) -> tuple[float, float]:
        """The slope, and how far off it may be."""
        differences = self.ahead - self.behind
        slopes = (8 * differences[1:] - differences[:-1]) / (12 * _STEPS[1:])
        rounding = 4 * _EPS * self.magnitude / _STEPS[1:]
        apart = ((slopes - slopes.unsqueeze(1)).abs() - rounding).triu(diagonal=1)  # row: a step; column: a shorter one
        errors = (rounding + apart.amax(1).clamp_min(0)).nan_to_num(nan=math.inf)[:-1]
        best = int(errors.argmin())
        return slopes[best].item(), errors[best].item()

    @property
    def slope(self) -> float:
        """The derivative at t = 0; at a kink, the mean of both sides'."""
        return self._slopes[0]

    @property
    def error(self) -> float:
        """About how far off the slope may be."""
        return self._slopes[1]

    @cached_property
    def bend(self) -> float:
        """Right-hand minus left-hand slope if there is a kink at t = 0, otherwise 0."""
        bends = (self.ahead + self.behind - 2 * self.start)[-3:] / _STEPS[-3:]
        last = bends[-1].item()
        lasting = (bends - last).abs().max().item() < 0.1 * abs(last)
        return last if lasting and abs(last) > self.noise else 0.0

    @property
    def noise(self) -> float:
        """What rounding may make of the slope over the shortest step."""
        return 32 * _EPS * self.magnitude / _STEPS[-1].item()

    def irregular(self, scale: float) -> bool:
        """Whether the values tell no slope: they are not smooth here, or less exact than float64.

        Args:
            scale: the size of the terms that the slope is the sum of.
        """
        return not (math.isfinite(self.error) and self.error <= _REGULAR * max(scale, abs(self.slope)) + self.noise)

    def order(self, slope: float) -> float:
        """The order of the Taylor remainder for a slope: 2 or more if it is right, 1 if it is wrong.

        Infinite where the remainder is lost in rounding before that could be seen, as of a straight line.
        """
        remainders = (self.ahead - self.start - _STEPS * slope).abs()[_TAYLOR_FROM:]
        noise = max(64 * _EPS * self.magnitude, torch.finfo(torch.float64).tiny)
        if not remainders[0].isfinite():
            return math.nan
        last = min(int(math.log(max(remainders[0].item() / (4 * noise), 1), 4)), len(remainders) - 1)
        first = max(last - _OCTAVES, 0)
        if last - first < _OCTAVES - 1 or remainders[first] < 16 * noise:
            return math.inf
        shrunk = max(remainders[first].item(), noise) / max(remainders[last].item(), noise)
        return math.log2(shrunk) / (last - first)


def walk(terms: Callable[[float], Tensor]) -> Walk:
    """Walk both ways from t = 0.

    Args:
        terms: the terms that φ(t) is the sum of.
    """
    start, ahead, behind = terms(0.0), *([terms(sign * t) for t in _STEPS.tolist()] for sign in (1, -1))
    magnitude = max(there.abs().sum().item() for there in (start, ahead[0], behind[0]))
    sums = [torch.stack([there.sum() for there in way]).double().cpu() for way in (ahead, behind)]
    return Walk(start.sum().item(), sums[0], sums[1], magnitude)


@torch.no_grad()
def walk_input(call: Call, number: int, direction: Tensor, upstream: Tensor) -> Walk:
    """Walk from one input of a call along a direction, the cost being ⟨upstream, output⟩.

    All steps share the other arguments: that the function leaves them alone must be known.
    """
    inputs = list(call.inputs)
    start = inputs[number].detach()

    def terms(t: float) -> Tensor:
        inputs[number] = start + t * direction
        try:
            return call.at(inputs).output() * upstream
        except Exception:  # whatever a function raises outside of its domain, at whose edge this may be
            return torch.full_like(upstream, torch.nan)

    return walk(terms)


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
def stands_still(call: Call) -> bool:
    """Whether the values of a call in float64 stand still where float64's would move: they are less exact inside.

    Asked are those that a longer step moves well beyond rounding.
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
