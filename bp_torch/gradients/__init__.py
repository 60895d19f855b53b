"""Comparing gradients: the rule that tells a wrong equation from rounding."""

from bp_torch.gradients.verdict import Comparison, compare, compare_all

__all__ = ["Comparison", "compare", "compare_all"]
