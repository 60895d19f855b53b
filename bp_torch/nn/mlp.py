"""The lecture's network, of any size."""

from collections.abc import Sequence
from itertools import pairwise

import torch

from bp_torch.nn.modules import ELU, GELU, LeakyReLU, Linear, ReLU, Sigmoid, SiLU, Softplus, Tanh

__all__ = ["ACTIVATIONS", "mlp"]

ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "softplus": Softplus,
    "silu": SiLU,
    "gelu": GELU,
    "identity": torch.nn.Identity,
}
"""What may follow a weighted sum, by name."""


def mlp(
    sizes: Sequence[int], activation: str = "sigmoid", *, output_activation: str | None = None
) -> torch.nn.Sequential:
    """A chain of dense layers, each a weighted sum and an activation: `mlp((784, 16, 16, 10))` is the lecture's.

    Args:
        sizes: the number of neurons of each layer, the input's first.
        activation: what follows each hidden weighted sum; a key of `ACTIVATIONS`.
        output_activation: what follows the last. None: 'sigmoid' for a sigmoid network, as in the lecture,
            otherwise 'identity', so that the outputs are logits.

    Returns:
        Linear, activation, Linear, activation, …, with torch.nn's default initialisation; its state_dict fits the
        same chain of torch.nn modules.

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
    hidden = [activation] * (len(sizes) - 2)
    layers: list[torch.nn.Module] = []
    for (inputs, outputs), name in zip(pairwise(sizes), [*hidden, output_activation], strict=True):
        layers += [Linear(inputs, outputs), ACTIVATIONS[name]()]
    return torch.nn.Sequential(*layers)
