"""Gradients at perturbed inputs: they measure the reference's typical error, and whether an error is systematic."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bp_torch.gradients.comparison import Comparison, compare, distance

EVALUATIONS = 16
"""Number of evaluations at perturbed inputs before a gradient is reported as wrong."""
RELATIVE_SIZE = 2**-6
"""Relative size of a perturbation: above the rounding errors of half precision, small for a wrong equation."""

Gradients = Mapping[str, Tensor]
GradientTriple = tuple[Gradients, Gradients, Gradients]
"""Gradients by name: hand-written, the reference's in the same dtype, and in float64."""
Evaluate = Callable[[torch.Generator | None], GradientTriple]
"""Computes a triple: at the original inputs, or at inputs perturbed by a generator."""


def compare_all(
    evaluate: Evaluate, scales: Mapping[str, float] | None = None, *, first: GradientTriple | None = None
) -> list[Comparison]:
    """Compare each gradient separately, so that a large one does not hide a small one.

    If a comparison does not pass, the gradients are evaluated again at perturbed inputs.

    Args:
        evaluate: computes the gradients.
        scales: a magnitude for each gradient; see `compare`.
        first: the gradients at the original inputs, if already computed.
    """
    hand, builtin, truth = first or evaluate(None)
    scales = scales or {}
    comparisons = {n: compare(n, hand[n], builtin[n], truth[n], scale=scales.get(n, 0.0)) for n in hand}
    errors = {name: _error(hand[name], truth[name]) for name, c in comparisons.items() if not c.passed}
    for name, evaluations in _evaluate_perturbed(evaluate, errors).items():
        builtin_errors, projections, size_ratios = zip(*evaluations, strict=True)
        comparisons[name] = replace(
            comparisons[name],
            typical_error=max(builtin_errors),
            error_projection=sum(projections) / EVALUATIONS,
            error_size_ratio=sum(size_ratios) / EVALUATIONS,
        )
    return list(comparisons.values())


def perturbed(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """A Tensor times a factor, which differs from 1 by ½ to 1 `RELATIVE_SIZE`.

    Unchanged without a generator, and if it holds integers.

    Rounding errors change, while zeros and equal numbers stay: an error at a tie does not look like rounding.
    """
    if generator is None or not tensor.is_floating_point():
        return tensor
    size, sign = torch.rand(2, generator=generator).tolist()
    factor: float = 1 + (RELATIVE_SIZE if sign < 0.5 else -RELATIVE_SIZE) * (1 + size) / 2
    return tensor * factor


def _evaluate_perturbed(evaluate: Evaluate, errors: Gradients) -> dict[str, list[tuple[float, float, float]]]:
    """The reference's error, and projection and relative size of our error, for each gradient and evaluation."""
    evaluations: dict[str, list[tuple[float, float, float]]] = {name: [] for name in errors}
    generator = torch.Generator().manual_seed(0)  # leaves the global generator unchanged
    for _ in range(EVALUATIONS if errors else 0):
        hand, builtin, truth = evaluate(generator)
        for name, original in errors.items():
            error = _error(hand[name], truth[name])
            builtin_error = distance(builtin[name].double(), truth[name]).max().item()
            size = original.abs().max().clamp_min(1e-300)
            unit = original / size  # its squares do not overflow
            square = (unit * unit).sum().item()
            projection = (error / size * unit).sum().item() / square if square else 0.0
            evaluations[name].append((builtin_error, projection, (error.abs().max() / size).item()))
    return evaluations


def _error(hand: Tensor, truth: Tensor) -> Tensor:
    """Hand − truth, flattened; a non-finite error becomes a huge one."""
    return (hand.detach().double() - truth.detach()).nan_to_num(nan=1e300, posinf=1e300, neginf=-1e300).flatten()
