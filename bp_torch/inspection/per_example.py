"""What each example of a mini-batch asks of every parameter, from the same walk that gives the gradient.

Example n asks for gₙ, which is N times what it adds to the gradient, so that the mean of all N is the gradient. For a
cost that averages over the examples that is the gradient of the example's own cost; for one that adds them up, N times
that. The layers must treat each example by itself, as all do but a softmax along dimension 0.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from bp_torch.engine import Backprop, Wish

Cost = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")


@torch.no_grad()
def per_example_gradients(model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The gradient that each example asks for: gₙ = N δₙ xₙᵀ for a layer's weights, N δₙ for its biases.

    Args:
        model: a chain that `bp_torch.engine.Backprop` drives.
        cost: its cost.
        inputs: (N, in).
        targets: as the cost takes them.

    Returns:
        By each parameter's name, (N, *its shape).

    Raises:
        TypeError: if a layer that learns is neither linear nor dense; otherwise as `Backprop.walk`.

    Source:
        The lecture's statement 10.
    """
    asked: dict[str, Tensor] = {}
    for wish in walked(Backprop(model, cost), inputs, targets):
        for name, each in _stated("per_example", wish):  # a parameter that several layers share is asked by each
            asked[name] = asked.get(name, 0) + each * len(inputs)
    return in_order(model, asked)


@torch.no_grad()
def per_example_norms(model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """How long each example's gradient is, without building it: ‖gₙ‖ = N ‖δₙ‖ ‖xₙ‖ for weights, N ‖δₙ‖ for biases.

    Args:
        model: as for `per_example_gradients`, like the rest.
        cost: its cost.
        inputs: (N, in).
        targets: as the cost takes them.

    Returns:
        By each parameter's name, (N,).

    Raises:
        TypeError: if several layers share a parameter; otherwise as `per_example_gradients`.

    Source:
        Goodfellow, Efficient Per-Example Gradient Computations (2015).
    """
    norms: dict[str, Tensor] = {}
    for wish in walked(Backprop(model, cost), inputs, targets):
        require_first(wish, norms)
        norms |= {name: each * len(inputs) for name, each in _stated("per_example_norms", wish)}
    return in_order(model, norms)


def walked(backprop: Backprop, inputs: Tensor, targets: Tensor) -> list[Wish]:
    """What is asked of each layer that learns, if it is known how each example's part of it is told."""
    _, wishes = backprop.walk(inputs, targets)
    for wish in wishes:
        if not hasattr(wish.link.function, "per_example"):
            raise TypeError(f"layer {wish.link.layer}: what each example asks for is stated of linear and dense alone")
    return wishes


def _stated(what: str, wish: Wish) -> Iterator[tuple[str, Tensor]]:
    """What a layer's Function states of each of its parameters."""
    own = getattr(wish.link.function, what)(wish.context, wish.grad_output)
    return ((name, tensor) for name, tensor in zip(wish.link.names, own, strict=True) if name is not None)


def require_first(wish: Wish, found: Container[str]) -> None:
    """Raise TypeError if a parameter was met before: lengths and squares of a sum are not the sum of its terms'."""
    for name in wish.link.names:
        if name in found:
            raise TypeError(
                f"parameter {name!r} is shared by several layers; only its whole per-example gradients tell"
            )


def in_order(model: torch.nn.Module, found: Mapping[str, T]) -> dict[str, T]:
    """In the order of the model's parameters."""
    return {name: found[name] for name, _ in model.named_parameters() if name in found}
