"""Finite differences of a function in low precision, which cannot be computed in float64.

One difference is accurate to a few percent in bfloat16, or 1e-3 in float32. So the derivatives along many random
directions are compared together, by their regression on the finite differences, as in `population`.
"""

import math

import torch
from torch import Tensor

from bp_torch.gradients.case import CheckCase, Outcomes
from bp_torch.gradients.differences import relative_direction
from bp_torch.gradients.population import regression
from bp_torch.gradients.report import Outcome, failed, unsupported
from bp_torch.gradients.variants import Variant

DIRECTIONS = 64
STEPS = {torch.float32: 2.0**-6}
"""Step lengths; 2⁻³ in lower precision."""
LARGEST_SCATTER = 0.5
"""Root mean square of the residuals, relative to the differences, above which a gradient is wrong."""
LARGEST_CHANGE = 0.1
"""Change of the slopes with the step length, relative to them, above which they say nothing."""
STANDARD_ERRORS = 6
LEAST = 2e-3
"""Relative difference that the curvature of the function explains."""


def compare_coarsely(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """Compare the gradient of each input with finite differences along random directions."""
    gradients = variant.call.vjp(upstream)
    if variant.kind not in ("given", "size"):
        yield variant, unsupported("finite differences in this precision step over kinks and saturated regions")
        return
    for name, gradient in gradients.items():
        yield variant, _compare(case, variant, upstream, name, gradient.detach().double())


@torch.no_grad()
def _compare(case: CheckCase, variant: Variant, upstream: Tensor, name: str, gradient: Tensor) -> Outcome:
    inputs, wide = variant.call.by_name, upstream.double()
    input, hand, slopes, changes = inputs[name], [], [], []
    step = STEPS.get(input.dtype, 2.0**-3)

    def value(moved: Tensor) -> float:
        return (variant.call.at([*(inputs | {name: moved}).values()]).value().double() * wide).sum().item()

    for _ in range(DIRECTIONS):
        direction = relative_direction(input, case.generator)
        points = [(input + k * step * direction).to(input.dtype) for k in (-4, -1, 1, 4)]
        far, near = (points[3].double() - points[0].double()) / 8, (points[2].double() - points[1].double()) / 2
        low, before, after, high = map(value, points)
        slopes.append((64 * (after - before) - (high - low)) / 120)
        changes.append((high - low) / 8 - (after - before) / 2)
        hand.append(((64 * 2 * near - 8 * far) * gradient).sum().item() / 120)
    eps = torch.finfo(input.dtype).eps
    noise = eps * torch.linalg.vector_norm(variant.value.double() * wide).item()
    if max(map(abs, [*hand, *slopes])) < 8 * noise:
        return unsupported("the values determine no slope in this precision")
    if torch.tensor(changes).square().mean() > (LARGEST_CHANGE * torch.tensor(slopes)).square().mean():
        return unsupported("the slopes for two step lengths differ: the values bend too much for this precision")
    return _outcome(name, torch.tensor(hand).double(), torch.tensor(slopes).double(), max(math.sqrt(eps) / 8, LEAST))


def _outcome(name: str, hand: Tensor, slopes: Tensor, least: float) -> Outcome:
    if not slopes.isfinite().all() or not (slopes.any() or hand.any()):
        return unsupported("the values determine no slope in this precision")
    if not hand.isfinite().all() or not slopes.any():
        return failed("the gradient is not finite" if slopes.any() else "the value does not change", input=name)
    fit = regression(hand.unsqueeze(0), slopes.unsqueeze(0))
    slope, error = fit.slope.item(), fit.standard_error.item()
    scatter = ((hand - slope * slopes).square().mean() / slopes.square().mean()).sqrt().item()
    allowed = STANDARD_ERRORS * error + least
    if abs(slope - 1) <= allowed and scatter <= LARGEST_SCATTER:
        return Outcome("passed", name, abs(slope - 1) / allowed)
    text = f"{slope:.3f} ± {error:.2g} times the finite differences along {len(hand)} directions, scatter {scatter:.2g}"
    return failed(f"WRONG EQUATION: the derivatives are {text}", input=name)
