"""Planted bugs, to measure what gradient checkers catch, and correct functions, to count their false alarms."""

from planted import (
    activations,
    arithmetic,
    classification,
    field,
    linear,
    losses,
    low_precision,
    shape,
    smooth_activations,
    softmax,
)
from planted.baselines import BASELINES
from planted.bug import KINDS, Bug, CorrectFunction, Samples
from planted.correct import CORRECT

_FAMILIES = (linear, activations, smooth_activations, softmax, classification, losses, arithmetic, shape)
BUGS: tuple[Bug, ...] = tuple(bug for family in (*_FAMILIES, low_precision, field) for bug in family.BUGS)

__all__ = ["BASELINES", "BUGS", "CORRECT", "KINDS", "Bug", "CorrectFunction", "Samples"]
