"""Backpropagation without autograd: calls are recorded on a tape, and their backwards run in reverse."""

from bp_torch.engine import selected_rows  # noqa: F401  registers its rule
from bp_torch.engine.backprop import Backprop
from bp_torch.engine.per_example import ExampleGradients, contributions, per_example
from bp_torch.engine.tape import Call, Tape, backward
from bp_torch.engine.undisturbed import undisturbed

__all__ = ["Backprop", "Call", "ExampleGradients", "Tape", "backward", "contributions", "per_example", "undisturbed"]
