"""The catalogue: for each function its PyTorch reference, samples, kinks and error inputs.

The tests, the checker's report, the benchmark and the table of docs/functions.md are generated from it.
"""

from bp_torch.catalogue import (
    activations,
    arithmetic,
    classification,
    convolution,
    dropout,
    linear,
    losses,
    normalization,
    piecewise_activations,
    pooling,
    resampling,
    shape,
)
from bp_torch.catalogue.op_info import ErrorInput, Interval, Kink, OpInfo

CATALOGUE: dict[str, OpInfo] = {
    entry.name: entry
    for family in (
        linear,
        convolution,
        pooling,
        resampling,
        normalization,
        dropout,
        activations,
        piecewise_activations,
        losses,
        classification,
        arithmetic,
        shape,
    )
    for entry in family.OP_INFOS
}

__all__ = ["CATALOGUE", "ErrorInput", "Interval", "Kink", "OpInfo"]
