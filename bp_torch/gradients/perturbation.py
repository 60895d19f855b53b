"""Gradients at perturbed numbers: they tell the reference's typical error, and whether an error is systematic."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bp_torch.gradients.comparison import Comparison, compare, distance

EVALUATIONS = 16
"""Evaluations at perturbed numbers before a gradient is reported as wrong."""
RELATIVE_SIZE = 2**-6
"""Of a perturbation: more than the rounding of half precision, too little to change the error of a wrong equation."""

Gradients = Mapping[str, Tensor]
GradientTriple = tuple[Gradients, Gradients, Gradients]
"""Gradients by name: hand-written, the reference's in the same dtype, and in float64."""
Evaluate = Callable[[torch.Generator | None], GradientTriple]
"""Computes them: at the numbers as they are, or given a generator at numbers perturbed by it."""


def compare_all(
    evaluate: Evaluate, scales: Mapping[str, float] | None = None, *, first: GradientTriple | None = None
) -> list[Comparison]:
    """Compare every gradient by itself: a large one would hide a small one.

    Only where one does not pass are they evaluated again, at perturbed numbers.

    Args:
        evaluate: computes the gradients.
        scales: the size each gradient has elsewhere; see `compare`.
        first: the gradients at the numbers as they are, if they are known already.
    """
    hand, builtin, truth = first or evaluate(None)
    sizes = scales or {}
    comparisons = {n: compare(n, hand[n], builtin[n], truth[n], scale=sizes.get(n, 0.0)) for n in hand}
    errors = {name: _error(hand[name], truth[name]) for name, found in comparisons.items() if not found.passed}
    for name, nearby in _evaluated_nearby(evaluate, errors).items():
        builtin_errors, projections, sizes_there = zip(*nearby, strict=True)
        comparisons[name] = replace(
            comparisons[name],
            typical_error=max(builtin_errors),
            error_projection=sum(projections) / EVALUATIONS,
            error_size_ratio=sum(sizes_there) / EVALUATIONS,
        )
    return list(comparisons.values())


def perturbed(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each number up or down by `RELATIVE_SIZE` of it, so that 0 stays 0; unchanged without a generator."""
    if generator is None:
        return tensor
    signs = torch.randint(2, tensor.shape, generator=generator).to(tensor) * 2 - 1
    return tensor * (1 + RELATIVE_SIZE * signs)


def _evaluated_nearby(evaluate: Evaluate, errors: Gradients) -> dict[str, list[tuple[float, float, float]]]:
    """At each evaluation: the reference's error; our error's projection onto the one here, and its size beside it."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in errors}
    generator = torch.Generator().manual_seed(0)  # its own: a comparison must not change the training's random numbers
    for _ in range(EVALUATIONS if errors else 0):
        hand, builtin, truth = evaluate(generator)
        for name, here in errors.items():
            there = _error(hand[name], truth[name])
            builtin_error = distance(builtin[name].double(), truth[name]).max().item()
            size = here.abs().max().clamp_min(1e-300)  # which keeps the squares from overflowing
            unit = here / size
            square = (unit * unit).sum().item()
            projection = (there / size * unit).sum().item() / square if square else 0.0
            found[name].append((builtin_error, projection, (there.abs().max() / size).item()))
    return found


def _error(hand: Tensor, truth: Tensor) -> Tensor:
    """Hand minus truth; what is not finite counts as one huge error."""
    return (hand.detach().double() - truth.detach()).nan_to_num(nan=1e300, posinf=1e300, neginf=-1e300).flatten()
