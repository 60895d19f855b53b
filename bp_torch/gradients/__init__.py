"""The gradient checker, and the rule that separates a wrong equation from rounding errors."""

from bp_torch.gradients.call import CannotCheck
from bp_torch.gradients.check import assert_gradients, check_gradients
from bp_torch.gradients.comparison import Comparison, compare
from bp_torch.gradients.differences import even_direction, taylor_order
from bp_torch.gradients.perturbation import Gradients, compare_all, perturbed
from bp_torch.gradients.report import GradientError, GradientReport, Result
from bp_torch.sample import Sample

__all__ = [
    "CannotCheck",
    "Comparison",
    "GradientError",
    "GradientReport",
    "Gradients",
    "Result",
    "Sample",
    "assert_gradients",
    "check_gradients",
    "compare",
    "compare_all",
    "even_direction",
    "perturbed",
    "taylor_order",
]
