"""Asking again at nudged numbers: how far PyTorch itself is usually off, and whether an error is a wrong equation's."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bp_torch.gradients.verdict import Comparison, compare, distance

NUDGES = 16
"""How often is asked again before a gradient is called wrong."""
NUDGE = 2**-6
"""By what part numbers are nudged: beyond the rounding of half precision, too little to change an equation's error."""

Gradients = Mapping[str, Tensor]
Draw = Callable[[torch.Generator | None], tuple[Gradients, Gradients, Gradients]]
"""Computes gradients by name, hand-written, the built-in's, and in float64: of the numbers as they are, or nudged."""


def compare_all(draw: Draw, scales: Mapping[str, float] | None = None) -> tuple[Comparison, ...]:
    """Compare every gradient by itself: a large one would drown a small one.

    Only where one does not pass is asked again at nudged numbers.

    Args:
        draw: computes the gradients; given a generator, at numbers nudged by it.
        scales: the size each gradient has elsewhere; see `compare`.
    """
    hand, builtin, truth = draw(None)
    sizes = scales or {}
    comparisons = {n: compare(n, hand[n], builtin[n], truth[n], scale=sizes.get(n, 0.0)) for n in hand}
    failed = [name for name, comparison in comparisons.items() if not comparison.passed]
    if failed:
        typical, repeats = _asked_again(draw, {name: _error(hand[name], truth[name]) for name in failed})
        for n in failed:
            comparisons[n] = compare(
                n, hand[n], builtin[n], truth[n], scale=sizes.get(n, 0.0), typical_error=typical[n], repeats=repeats[n]
            )
    return tuple(comparisons.values())


def nudged(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each number up or down by `NUDGE` of it, so that 0 stays 0; all as they are without a generator."""
    if generator is None:
        return tensor
    signs = torch.randint(2, tensor.shape, generator=generator).to(tensor) * 2 - 1
    return tensor * (1 + NUDGE * signs)


def _asked_again(draw: Draw, errors: Gradients) -> tuple[dict[str, float], dict[str, float]]:
    """Of each gradient, the largest error PyTorch makes, and how like our errors there are to those here."""
    generator = torch.Generator().manual_seed(0)  # of its own: comparing must not disturb the training's numbers
    largest, likeness = dict.fromkeys(errors, 0.0), dict.fromkeys(errors, 0.0)
    for _ in range(NUDGES):
        hand, builtin, truth = draw(generator)
        for name, error in errors.items():
            largest[name] = max(largest[name], distance(builtin[name].double(), truth[name]).max().item())
            likeness[name] += _cosine(error, _error(hand[name], truth[name])) / NUDGES
    return largest, likeness


def _error(hand: Tensor, truth: Tensor) -> Tensor:
    """Hand minus truth; what is not finite counts as one huge error."""
    return (hand.detach().double() - truth.detach()).nan_to_num(nan=1e300, posinf=1e300, neginf=-1e300).flatten()


def _cosine(a: Tensor, b: Tensor) -> float:
    """Of the angle between two vectors, however large they are; 0 where one is zero."""
    a, b = (x / x.abs().max().clamp_min(1e-300) for x in (a, b))
    return torch.nn.functional.cosine_similarity(a, b, dim=0).item()
