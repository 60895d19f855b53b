"""The catalogue: for each function its PyTorch reference, samples, kinks and error inputs.

The tests, the checker's report, the benchmark and the table of docs/functions.md are generated from it.
"""

from bp_torch.catalogue import (
    activations,
    arithmetic,
    attention,
    classification,
    convolution,
    ctc,
    dropout,
    embedding,
    fused,
    gathering,
    likelihood_losses,
    linear,
    losses,
    margin_losses,
    normalization,
    piecewise_activations,
    pointwise,
    pooling,
    products,
    recurrent,
    resampling,
    shape,
    similarity,
    statistics,
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
        likelihood_losses,
        margin_losses,
        ctc,
        embedding,
        attention,
        fused,
        similarity,
        arithmetic,
        pointwise,
        statistics,
        products,
        gathering,
        shape,
        recurrent,
    )
    for entry in family.OP_INFOS
}

__all__ = ["CATALOGUE", "ErrorInput", "Interval", "Kink", "OpInfo"]
