"""Comparing gradients: the rule that tells a wrong equation from rounding, and the catalogue tried by it."""

from bp_torch.gradients.sweep import sweep
from bp_torch.gradients.verdict import Comparison, compare, compare_all, distance

__all__ = ["Comparison", "compare", "compare_all", "distance", "sweep"]
