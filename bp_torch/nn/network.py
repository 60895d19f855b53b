"""The lecture's network: a chain of dense layers with activations."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch

from bp_torch.nn import activations
from bp_torch.nn.layers import Linear

__all__ = ["ACTIVATIONS", "mlp"]

ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "sigmoid": activations.Sigmoid,
    "tanh": activations.Tanh,
    "relu": activations.ReLU,
    "leaky_relu": activations.LeakyReLU,
    "elu": activations.ELU,
    "softplus": activations.Softplus,
    "silu": activations.SiLU,
    "gelu": activations.GELU,
    "identity": torch.nn.Identity,
}
"""Activation modules by name."""


def mlp(
    sizes: Sequence[int], activation: str = "sigmoid", *, output_activation: str | None = None
) -> torch.nn.Sequential:
    """Make a chain of dense layers with activations; `mlp((784, 16, 16, 10))` is the lecture's network.

    Its modules are named `hidden1`, `hidden1_sigmoid`, `hidden2`, …, `output`, `output_sigmoid`; its parameters
    `hidden1.weight`, `hidden1.bias`, ….

    Args:
        sizes: the number of neurons of each layer, the input's first.
        activation: activation of the hidden layers; a key of `ACTIVATIONS`.
        output_activation: activation of the output layer. None: 'sigmoid' for a sigmoid network, as in the lecture,
            otherwise 'identity', so that the outputs are logits.

    Returns:
        Linear, activation, Linear, activation, …, with torch.nn's default initialisation. `as_builtin` makes the same
        chain of torch.nn modules.

    Raises:
        ValueError: if there are fewer than two sizes, one is below 1, or an activation is unknown.

    Source:
        The lecture's statements 1 and 2.
    """
    if output_activation is None:
        output_activation = "sigmoid" if activation == "sigmoid" else "identity"
    for name in (activation, output_activation):
        if name not in ACTIVATIONS:
            raise ValueError(f"mlp(): unknown activation {name!r}; expected one of {', '.join(ACTIVATIONS)}")
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"mlp(): sizes must be two or more positive numbers, got {tuple(sizes)}")
    modules: OrderedDict[str, torch.nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        hidden = number < len(sizes) - 1
        layer, function = (f"hidden{number}", activation) if hidden else ("output", output_activation)
        modules[layer] = Linear(inputs, outputs)
        modules[f"{layer}_{function}"] = ACTIVATIONS[function]()
    return torch.nn.Sequential(modules)
