"""Asking again at nudged numbers: how far PyTorch itself is usually off, and whether an error is a wrong equation's."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from bp_torch.gradients.verdict import Comparison, compare, distance

NUDGES = 16
"""How often is asked again before a gradient is called wrong."""
NUDGE = 2**-6
"""By what part numbers are nudged: beyond the rounding of half precision, too little to change an equation's error."""

Gradients = Mapping[str, Tensor]
Three = tuple[Gradients, Gradients, Gradients]
"""Gradients by name: hand-written, the built-in's in the same dtype, and in float64."""
Draw = Callable[[torch.Generator | None], Three]
"""Computes them: of the numbers as they are, or given a generator of numbers nudged by it."""


def compare_all(
    draw: Draw, scales: Mapping[str, float] | None = None, *, first: Three | None = None
) -> list[Comparison]:
    """Compare every gradient by itself: a large one would drown a small one.

    Only where one does not pass is asked again at nudged numbers.

    Args:
        draw: computes the gradients.
        scales: the size each gradient has elsewhere; see `compare`.
        first: what it computes of the numbers as they are, if that is known already.
    """
    hand, builtin, truth = first or draw(None)
    sizes = scales or {}
    comparisons = {n: compare(n, hand[n], builtin[n], truth[n], scale=sizes.get(n, 0.0)) for n in hand}
    errors = {name: _error(hand[name], truth[name]) for name, found in comparisons.items() if not found.passed}
    for name, nearby in _asked_again(draw, errors).items():
        three = hand[name], builtin[name], truth[name]
        comparisons[name] = compare(name, *three, scale=sizes.get(name, 0.0), **asdict(nearby))
    return list(comparisons.values())


def nudged(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each number up or down by `NUDGE` of it, so that 0 stays 0; all as they are without a generator."""
    if generator is None:
        return tensor
    signs = torch.randint(2, tensor.shape, generator=generator).to(tensor) * 2 - 1
    return tensor * (1 + NUDGE * signs)


@dataclass
class _Nearby:
    """What was found at nudged numbers: the built-in's largest error, and ours beside the error here."""

    typical_error: float = 0.0
    repeats: float = 0.0
    remains: float = 0.0


def _asked_again(draw: Draw, errors: Gradients) -> dict[str, _Nearby]:
    found = {name: _Nearby() for name in errors}
    generator = torch.Generator().manual_seed(0)  # of its own: comparing must not disturb the training's numbers
    for _ in range(NUDGES if errors else 0):
        hand, builtin, truth = draw(generator)
        for name, here in errors.items():
            nearby, there = found[name], _error(hand[name], truth[name])
            largest = distance(builtin[name].double(), truth[name]).max().item()
            nearby.typical_error = max(nearby.typical_error, largest)
            size = here.abs().max().clamp_min(1e-300)  # which keeps the squares from overflowing
            nearby.repeats += _share(there / size, here / size) / NUDGES
            nearby.remains += (there.abs().max() / size).item() / NUDGES
    return found


def _error(hand: Tensor, truth: Tensor) -> Tensor:
    """Hand minus truth; what is not finite counts as one huge error."""
    return (hand.detach().double() - truth.detach()).nan_to_num(nan=1e300, posinf=1e300, neginf=-1e300).flatten()


def _share(there: Tensor, here: Tensor) -> float:
    """How much of one vector is in another: 1 if it is in it whole, 0 if they have nothing in common."""
    square = (here * here).sum().item()
    return (there * here).sum().item() / square if square else 0.0
