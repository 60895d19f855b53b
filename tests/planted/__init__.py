"""Planted bugs, to measure what gradient checkers catch, and correct functions, to count their false alarms."""

from planted import field, low_precision
from planted.baselines import BASELINES
from planted.bug import KINDS, Bug, CorrectFunction, Samples
from planted.correct import CORRECT, FAMILIES

BUGS: tuple[Bug, ...] = tuple(bug for family in (*FAMILIES, low_precision, field) for bug in family.BUGS)

__all__ = ["BASELINES", "BUGS", "CORRECT", "KINDS", "Bug", "CorrectFunction", "Samples"]
