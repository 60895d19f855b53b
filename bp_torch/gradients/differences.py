"""Finite differences: the derivative along a line, from function values alone.

A function φ is evaluated in float64 at t = ±2⁻⁶, ±2⁻⁸, ±2⁻¹⁰, ±2⁻¹², and if these values do not agree on a slope, at
±2⁻¹⁴, ±2⁻¹⁶, ±2⁻¹⁸, ±2⁻²⁰. The values give

* the slope, by the 5-point formula φ′(0) = (64 (φ(t) − φ(−t)) − (φ(4t) − φ(−4t))) / 120t + O(t⁴), for the t with the
  smallest estimated error: rounding, plus the difference from the slopes for shorter t;
* a kink at 0: (φ(t) + φ(−t) − 2 φ(0)) / t goes to 0 with t for a smooth function; at a kink it goes to the right-hand
  slope minus the left-hand slope;
* the order of the Taylor remainder |φ(t) − φ(0) − t p|: 2 if p is the slope, 1 if not, whatever the size of either.

A kink near 0 affects the longer steps only. The complex-step method is not used: it needs support for complex
numbers, and is silently wrong for functions that are not analytic.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bp_torch.gradients.call import Call
from bp_torch.gradients.tracing import trace

_STEPS = tuple(2.0**-power for power in range(6, 21, 2))
"""Step lengths t, each a quarter of the previous one."""
_FIRST_STEPS = 4
"""Number of steps evaluated first; the others follow if the slope has not converged."""
_CONVERGED_RTOL = 1e-10
"""Relative error of a converged slope."""
LOW_DTYPES = {torch.float32, torch.bfloat16, torch.float16}
_EPS = torch.finfo(torch.float64).eps
_TINY = torch.finfo(torch.float64).tiny
LARGEST_UNIT = 1000.0
_TAYLOR_START = 1
"""Index of the longest step in the Taylor remainder, 2⁻⁸: for longer ones, terms of higher order count."""
_SLOPE_RTOL = 1e-6
"""Largest error of a slope, relative to the terms it is a sum of; above it, the values are irregular."""


@dataclass(frozen=True)
class LineSamples:
    """The values of a function along a line."""

    start: float  # at t = 0
    ahead: list[float]  # at each step t > 0, longest first
    behind: list[float]  # at −t
    magnitude: float  # sum of the absolute terms of φ; rounding errors are relative to it

    @cached_property
    def _slope_and_error(self) -> tuple[float, float]:
        """The slope with the smallest estimated error, and that error."""
        differences = [ahead - behind for ahead, behind in zip(self.ahead, self.behind, strict=True)]
        estimates = [
            ((64 * short - long) / (120 * t), 4 * _EPS * self.magnitude / t)
            for long, short, t in zip(differences, differences[1:], _STEPS[1:], strict=False)
        ]
        errors = []
        for number, (slope, rounding) in enumerate(estimates[:-1], 1):
            excess = [abs(slope - other) - its_rounding for other, its_rounding in estimates[number:]]
            errors.append(rounding + max(0.0, *excess) if all(map(math.isfinite, excess)) else math.inf)
        least = min(errors)
        return estimates[errors.index(least)][0], least

    @property
    def slope(self) -> float:
        """The derivative at t = 0; at a kink, the mean of the one-sided slopes."""
        return self._slope_and_error[0]

    @property
    def error(self) -> float:
        """The estimated error of the slope."""
        return self._slope_and_error[1]

    @cached_property
    def kink_jump(self) -> float:
        """Right-hand minus left-hand slope at t = 0; 0 without a kink."""
        sides = zip(self.ahead, self.behind, _STEPS, strict=False)
        *longer, last = [(ahead + behind - 2 * self.start) / t for ahead, behind, t in sides][-3:]
        constant = all(abs(jump - last) < 0.1 * abs(last) for jump in longer)
        return last if constant and abs(last) > self.noise else 0.0

    @property
    def noise(self) -> float:
        """Bound on the rounding error of the slope for the shortest step."""
        return 32 * _EPS * self.magnitude / _STEPS[len(self.ahead) - 1]

    @property
    def converged(self) -> bool:
        """Whether the steps agree on a slope, so that shorter ones are not needed."""
        return self.error <= _CONVERGED_RTOL * abs(self.slope) and not self.kink_jump

    def irregular(self, scale: float) -> bool:
        """Whether the values determine no slope: φ is not smooth, or less accurate than float64.

        Args:
            scale: the magnitude of the terms that the slope is a sum of.
        """
        return not (math.isfinite(self.error) and self.error <= _SLOPE_RTOL * max(scale, abs(self.slope)) + self.noise)

    def order(self, slope: float) -> float:
        """The order of the Taylor remainder for a slope: at least 2 if the slope is correct, 1 if it is wrong.

        Measured over the last two quarterings of t for which a remainder of order 2 would exceed rounding errors.
        Infinite if the remainder vanishes, as for a linear function.
        """
        ahead = zip(self.ahead, _STEPS, strict=False)
        remainders = [abs(value - self.start - t * slope) for value, t in ahead][_TAYLOR_START:]
        noise = max(64 * _EPS * self.magnitude, _TINY)
        if not math.isfinite(remainders[0]):
            return math.nan
        last = min(int(math.log(max(remainders[0] / (4 * noise), 1), 16)), len(remainders) - 1)
        first = max(last - 2, 0)
        if last == 0 or remainders[first] < 16 * noise:
            return math.inf
        shrunk = max(remainders[first], noise) / max(remainders[last], noise)
        return math.log(shrunk, 4) / (last - first)


def sample_line(terms: Callable[[float], Tensor], *, every_step: bool = False, noise: float = 0.0) -> LineSamples:
    """Evaluate φ(t), the sum of `terms(t)`, on both sides of t = 0.

    The short steps are skipped if the long ones agree on a slope, unless `every_step`. Only the short steps show the
    order for a slope that is almost correct. `noise` is the rounding error of φ, if it was measured.
    """
    start, sums = terms(0.0), list[Tensor]()
    magnitude = max(start.abs().sum().item(), noise / _EPS)
    for t in _STEPS:
        ahead, behind = terms(t), terms(-t)
        if not sums:
            magnitude = max(magnitude, ahead.abs().sum().item(), behind.abs().sum().item())
        sums += [ahead.sum(), behind.sum()]
        if len(sums) in (2 * _FIRST_STEPS, 2 * len(_STEPS)):
            values = torch.stack(sums).tolist()
            samples = LineSamples(start.sum().item(), values[::2], values[1::2], magnitude)
            if samples.converged and not every_step:
                break
    return samples


def taylor_order(cost: Callable[[float], float], slope: float) -> float:
    """The order of the Taylor remainder |φ(t) − φ(0) − t p| from three values: 2 if p is the slope of φ, 1 if not.

    Args:
        cost: φ, in float64.
        slope: p.

    Returns:
        The order between t = 2⁻¹⁴ and 2⁻¹⁷, steps so short that few ReLUs change sides; NaN if the remainder is below
        rounding errors.
    """
    start = cost(0.0)
    long, short = (abs(cost(t) - start - t * slope) for t in (2.0**-14, 2.0**-17))
    lost = short <= 64 * _EPS * abs(start) or not long
    return math.nan if lost else math.log2(long / short) / 3


@torch.no_grad()
def has_reduced_precision(call: Call) -> bool:
    """Whether a function of float64 computes in lower precision.

    A small step does not change its values, unless they are differences of large numbers: then they are no numbers of
    float32 either, and no intermediate is of a lower dtype. Values that a longer step does not change are ignored.
    """
    try:
        start, near, far = (call.at([x * (1 + t) for x in call.inputs]).value() for t in (0.0, 2.0**-32, 2.0**-10))
    except Exception:  # outside the domain, a function may raise anything
        return False
    changing = (far - start).abs() > 1e-5 * start.abs()
    if not changing.any() or (near == start)[changing].double().mean().item() <= 0.5:
        return False
    return torch.equal(start, start.float().double()) or bool(LOW_DTYPES & trace(call).dtypes)


class _RandomRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Change the result of every operation by up to one rounding, as in Monte Carlo arithmetic."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_new = all(each.alias_info is None for each in func._schema.returns)
        return self._changed(result) if is_new else result

    def _changed(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(map(self._changed, value))
        if not isinstance(value, Tensor) or value.dtype not in (torch.float64, torch.float32):
            return value
        signs = torch.rand(value.shape, generator=self._generator, dtype=torch.float64) * 2 - 1
        return value.addcmul_(value, signs.to(value), value=torch.finfo(value.dtype).eps)


def rounding_noise(value: Callable[[], float]) -> float:
    """The rounding error of a value: the largest change if every operation in it is rounded at random.

    It is large relative to the value if the value is a small difference of large numbers, as in 1 − cos x.
    """
    start, generator = value(), torch.Generator().manual_seed(0)
    with _RandomRounding(generator):
        changes = [abs(value() - start) for _ in range(4)]
    return 2 * max(changes)


def rounding_spread(compute: Callable[[Call], Tensor], call: Call) -> Tensor:
    """The change of each component of a result if the inputs, and every operation, are rounded at random.

    For functions with float32 inside, whose result in float64 is no more accurate, and for saturated ones.
    """
    start, generator = compute(call), torch.Generator().manual_seed(0)
    largest = torch.zeros_like(start)
    for _ in range(4):
        eps = [torch.finfo(x.dtype).eps * (2 * torch.rand(x.shape, generator=generator) - 1) for x in call.inputs]
        near = call.at([x * (1 + change.to(x)) for x, change in zip(call.inputs, eps, strict=True)])
        with _RandomRounding(generator):
            change = (compute(near) - start).abs().nan_to_num(nan=0, posinf=0)
        largest = torch.maximum(largest, change)
    return 2 * largest


def relative_direction(input: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction with components proportional to the input's, so that no step crosses 0."""
    return random_like(input, generator) * torch.where(input == 0, _usual(input), input.detach().abs())


def even_direction(input: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction with components of about the same size."""
    return random_like(input, generator) * _usual(input)


def _usual(input: Tensor) -> float:
    """The size of the components, unless some are huge, as in a mask of −1e9."""
    return min(rms(input), LARGEST_UNIT)


def random_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers ± [½, 1½), with the shape and dtype of a Tensor."""
    sizes = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5
    signs = torch.randint(2, tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
    return (sizes * signs).to(tensor)


def rms(input: Tensor) -> float:
    """Root mean square; 1 for zeros and for an empty Tensor."""
    return input.detach().square().mean().sqrt().nan_to_num(nan=1.0).item() or 1.0
