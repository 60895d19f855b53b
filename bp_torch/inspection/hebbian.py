"""The Hebbian remark: the strongest strengthening is between active neurons and those to be more active."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from bp_torch.inspection.explanation import Explanation

__all__ = ["Connection", "Hebbian", "hebbian"]


class Connection(NamedTuple):
    """One weight of a layer, and its nudge."""

    neuron: int  # j, at its end
    previous: int  # k, at its beginning
    increase: float  # −∂C/∂wⱼₖ
    activation: float  # xₖ
    nudge: float  # −∂C/∂yⱼ


class Hebbian(NamedTuple):
    """How far one layer's weights do what the remark says, and the connections that are strengthened most.

    The correlation is that of each weight's nudge −∂C/∂wⱼₖ with the product xₖ · (−∂C/∂yⱼ) of the activation it comes
    from and the nudge of the one it leads to. It is 1 but for the slopes f′(zⱼ), which may differ from neuron to
    neuron; NaN where all are the same.
    """

    correlation: float
    strongest: tuple[Connection, ...]


def hebbian(explanations: Sequence[Explanation], layer: int = -1, count: int = 10) -> Hebbian:
    """Measure the remark on one layer, for one example or for the average of several.

    Activations and nudges are averages too; `count` is how many of the strongest connections to name.

    Raises:
        ValueError: if there are no explanations.

    Source:
        The lecture's statement 8; Hebb, The Organization of Behavior (1949).
    """
    if not explanations:
        raise ValueError("hebbian(): explanations must be of one example at least")
    layers = [explanation.layers[layer] for explanation in explanations]
    increases = torch.stack([it.weight_nudges for it in layers]).mean(0)  # (out, in)
    products = torch.stack([torch.outer(it.nudges, it.inputs) for it in layers]).mean(0)
    activations = torch.stack([it.inputs for it in layers]).mean(0)
    nudges = torch.stack([it.nudges for it in layers]).mean(0)
    correlation = torch.corrcoef(torch.stack([increases.flatten(), products.flatten()]))[0, 1].item()
    strongest = increases.flatten().topk(min(count, increases.numel())).indices.tolist()
    places = [divmod(place, increases.shape[1]) for place in strongest]
    connections = (Connection(j, k, increases[j, k].item(), activations[k].item(), nudges[j].item()) for j, k in places)
    return Hebbian(correlation, tuple(connections))
