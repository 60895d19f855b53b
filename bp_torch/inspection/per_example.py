"""The gradient of each example of a mini-batch, from the same walk back that gives the gradient.

The gradient of example n, gₙ, is N times what it adds to the mini-batch's, so that the mean of all N is the gradient.
For a cost that averages over the examples that is the gradient of the example's own cost; for one that adds them up,
N times that.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine import Backprop
from bp_torch.engine.per_example import Contributions, contributions

Cost = Callable[[Any, Any], Tensor]


@torch.no_grad()
def per_example_gradients(model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The gradient of each example: gₙ = N δₙ xₙᵀ for a layer's weights, N δₙ for its biases.

    Args:
        model: a model that `bp_torch.engine.Backprop` drives.
        cost: its cost.
        inputs: (N, ...).
        targets: as the cost takes them.

    Returns:
        By each parameter's name, (N, *its shape).

    Raises:
        TypeError: if a function lets examples meet, such as a mean over them; otherwise as `Backprop.trace`.

    Source:
        The lecture's statement 10.
    """
    found = example_contributions(Backprop(model, cost), inputs, targets)
    return {name: len(inputs) * parts.gradients() for name, parts in found}


@torch.no_grad()
def per_example_norms(model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """How long each example's gradient is; of a layer without building it: N ‖δₙ‖ ‖xₙ‖ for weights, N ‖δₙ‖ for biases.

    By each parameter's name, (N,). Takes and raises what `per_example_gradients` does.

    Source:
        Goodfellow, Efficient Per-Example Gradient Computations (2015).
    """
    found = example_contributions(Backprop(model, cost), inputs, targets)
    return {name: len(inputs) * parts.norms() for name, parts in found}


def example_contributions(backprop: Backprop, inputs: Tensor, targets: Tensor) -> Iterator[tuple[str, Contributions]]:
    """What the examples add to each parameter's gradient, by its name, in the order of the model's parameters."""
    cost, tape = backprop.trace(inputs, targets)
    with torch.no_grad():
        found = contributions(tape, cost, [inputs])
    for name, parameter in backprop.model.named_parameters():
        if parameter in found:
            yield name, found[parameter]
