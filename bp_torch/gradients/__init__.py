"""Comparing gradients: the checker, and the rule that tells a wrong equation from rounding."""

from bp_torch.gradients.call import CannotCheck
from bp_torch.gradients.check import assert_gradients, check_gradients, first_failure
from bp_torch.gradients.differences import even_direction, taylor_order
from bp_torch.gradients.nudging import Gradients, compare_all, nudged
from bp_torch.gradients.records import Accuracy, Score, Scoreboard, Survey
from bp_torch.gradients.report import GradientError, GradientReport, Result
from bp_torch.gradients.verdict import Comparison, compare

__all__ = [
    "Accuracy",
    "CannotCheck",
    "Comparison",
    "GradientError",
    "GradientReport",
    "Gradients",
    "Result",
    "Score",
    "Scoreboard",
    "Survey",
    "assert_gradients",
    "check_gradients",
    "compare",
    "compare_all",
    "even_direction",
    "first_failure",
    "nudged",
    "taylor_order",
]
