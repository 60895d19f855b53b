"""The checks, in their order. Each takes a case and yields variants with their outcomes."""

from collections.abc import Callable

from bp_torch.gradients.case import CheckCase, Outcomes
from bp_torch.gradients.checks import composition, first_order, invariants, transforms
from bp_torch.gradients.variants import Variant

Check = Callable[[CheckCase], Outcomes]
VariantCheck = Callable[[CheckCase, Variant], Outcomes]

FIRST: dict[str, Check] = {
    "side effects": invariants.side_effects,
    "repeatability": invariants.repeatability,
    "buffers": invariants.buffers,
    "value": first_order.value,
    "gradient": first_order.gradient,
}
"""Checks that run first; after a failure the variants are skipped."""
PRECISION = "precision"
"""The check that runs after the first, in the sample's own dtypes and in float32."""
REST: dict[str, Check] = {
    "linearity": invariants.linearity,
    "subsets of inputs": invariants.subsets,
    "unused outputs": invariants.unused_outputs,
    "layouts": invariants.layouts,
    "aliased inputs": invariants.aliased_inputs,
    "saved tensors": invariants.saved_tensors,
}
SMOOTH: dict[str, Check] = {
    "finite differences": first_order.finite_differences,
    "double backward": transforms.double_backward,
    "forward mode": transforms.forward_mode,
    "batched gradients": transforms.batched_gradients,
    "vmap": transforms.vmap,
}
"""Checks that need a finite value."""
COMPOSITION: dict[str, Check] = {
    "accumulation": composition.accumulated,
    "checkpoint": composition.checkpointed,
    "autocast": composition.autocast,
    "torch.compile": composition.compiled,
}
"""Checks inside PyTorch's wrappers."""
VARIANTS: dict[str, VariantCheck] = {
    "value": first_order.value_of_variant,
    "gradient": first_order.gradient_of_variant,
    "forward mode": transforms.forward_mode_of_variant,
}
"""Checks of each variant."""
CHECKS = (*dict.fromkeys((*FIRST, *REST, *SMOOTH, *VARIANTS)), *COMPOSITION, PRECISION)
"""The names of all checks."""
