"""One entry for each function: itself, PyTorch's reference, sample calls, kinks and bad calls.

Tests, the gradient report, the benchmark and the README's table read it; nothing is listed twice.
"""

from bp_torch.catalogue import activations, arithmetic, classification, linear, losses, shape
from bp_torch.catalogue.entry import BadCall, Entry, Interval, Kink, Sample

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for family in (linear, activations, losses, classification, arithmetic, shape)
    for entry in family.ENTRIES
}

__all__ = ["CATALOGUE", "BadCall", "Entry", "Interval", "Kink", "Sample"]
