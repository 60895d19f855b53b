"""Everything that is asked of a gradient; each question a function from a Subject to its Results."""

from collections.abc import Callable, Iterator

from bp_torch.gradients.checks.conduct import (
    layouts,
    linearity,
    repeatability,
    saved_tensors,
    side_effects,
    subsets,
    unused_outputs,
)
from bp_torch.gradients.checks.first_order import differences, gradient, gradient_of_variants
from bp_torch.gradients.checks.precision import precision
from bp_torch.gradients.checks.transforms import batched_gradients, double_backward, forward_mode, vmap
from bp_torch.gradients.report import Result
from bp_torch.gradients.subject import Subject

Check = Callable[[Subject], Iterator[Result]]

FIRST: dict[str, Check] = {"side effects": side_effects, "repeatability": repeatability, "gradient": gradient}
"""If one of these fails, the rest is of little use."""
REST: dict[str, Check] = {
    "gradient": gradient_of_variants,
    "linearity": linearity,
    "subsets of inputs": subsets,
    "unused outputs": unused_outputs,
    "layouts": layouts,
    "saved tensors": saved_tensors,
}
SMOOTH: dict[str, Check] = {
    "finite differences": differences,
    "double backward": double_backward,
    "forward mode": forward_mode,
    "batched gradients": batched_gradients,
    "vmap": vmap,
}
"""Asked where the value is finite; the mean of no numbers, for instance, is not."""

__all__ = ["FIRST", "REST", "SMOOTH", "Check", "precision"]
