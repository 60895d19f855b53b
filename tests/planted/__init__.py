"""Planted bugs, by which gradient checkers are measured, and right functions, by which false alarms are counted."""

from planted import activations, arithmetic, classification, linear, losses, shape, smooth_activations, softmax
from planted.bug import KINDS, Bug, RightFunction, Samples
from planted.right import RIGHT
from planted.rivals import RIVALS

BUGS: tuple[Bug, ...] = tuple(
    bug
    for family in (linear, activations, smooth_activations, softmax, classification, losses, arithmetic, shape)
    for bug in family.BUGS
)

__all__ = ["BUGS", "KINDS", "RIGHT", "RIVALS", "Bug", "RightFunction", "Samples"]
