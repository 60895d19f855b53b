"""The checks; each is a function from a case to pairs of a variant and what was found there."""

from collections.abc import Callable

from bp_torch.gradients.case import CheckCase, Pairs
from bp_torch.gradients.checks import first_order, invariants, transforms
from bp_torch.gradients.checks.precision import precision

Check = Callable[[CheckCase], Pairs]

FIRST: dict[str, Check] = {
    "side effects": invariants.side_effects,
    "repeatability": invariants.repeatability,
    "value": first_order.value,
    "gradient": first_order.gradient,
}
"""If one of these fails, the others are of little use."""
REST: dict[str, Check] = {
    "linearity": invariants.linearity,
    "subsets of inputs": invariants.subsets,
    "unused outputs": invariants.unused_outputs,
    "layouts": invariants.layouts,
    "saved tensors": invariants.saved_tensors,
}
VARIANTS: dict[str, Check] = {"value": first_order.value_of_variants, "gradient": first_order.gradient_of_variants}
"""Skipped where one of the first fails: they add nothing to a gradient that is wrong as given."""
SMOOTH: dict[str, Check] = {
    "finite differences": first_order.finite_differences,
    "forward mode": transforms.forward_mode,
    "batched gradients": transforms.batched_gradients,
    "vmap": transforms.vmap,
    "double backward": transforms.double_backward,
}
"""Skipped where the value is not finite, as of the mean of no numbers."""

__all__ = ["FIRST", "REST", "SMOOTH", "VARIANTS", "Check", "precision"]
