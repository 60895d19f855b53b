"""Everything that is asked of a gradient; each question a function from a Subject to its Results."""

from collections.abc import Callable, Iterator

from bp_torch.gradients.checks.conduct import layouts, linearity, repeatability, saved_tensors, side_effects, subsets
from bp_torch.gradients.checks.first_order import differences, gradient, gradient_of_copies
from bp_torch.gradients.checks.precision import precision
from bp_torch.gradients.checks.transforms import batched_gradients, double_backward, forward_mode, vmap
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import Subject

Check = Callable[[Subject], Iterator[Result]]

CONDUCT: dict[str, Check] = {
    "linearity": linearity,
    "subsets of inputs": subsets,
    "layouts": layouts,
    "repeatability": repeatability,
    "saved tensors": saved_tensors,
}
"""Asked of every sample."""
TRANSFORMS: dict[str, Check] = {
    "finite differences": differences,
    "double backward": double_backward,
    "forward mode": forward_mode,
    "batched gradients": batched_gradients,
    "vmap": vmap,
}
"""Asked where the value is finite, which that of nothing, for instance, is not."""

__all__ = ["CONDUCT", "TRANSFORMS", "Check", "gradient", "gradient_of_copies", "precision", "side_effects"]
