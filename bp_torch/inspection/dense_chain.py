"""A network as a chain of dense layers, and what many examples at once do at each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from bp_torch.engine import Backprop, Passage

ELEMENTWISE = ("Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "Softplus", "SiLU", "GELU", "GELUTanh")
"""The Functions by which a weighted sum becomes an activation, each by itself."""


@dataclass(frozen=True)
class LayerState:
    """A dense layer y = f(z), z = W x + b, as N examples pass through it.

    From these follow all wishes: δ = −∂Cₙ/∂z = f′(z) · nudge; of a weight δⱼ xₖ, of a bias δⱼ; and neuron j alone asks
    δⱼ wⱼₖ of the previous activation k.

    Attributes:
        names: of W and of b in the model; None of what does not learn, or is not there.
        weight: W, (out, in); these two are the model's own, and change with it.
        bias: b, (out,), or None.
        function: f's name, such as "sigmoid"; "identity" where there is none.
        activations: y, (N, out).
        slopes: f′(z), which is what f's `backward` makes of an upstream gradient of 1, (N, out).
        nudges: −∂Cₙ/∂y, what example n alone wishes of each activation, (N, out).
    """

    names: tuple[str | None, str | None]
    weight: Tensor
    bias: Tensor | None
    function: str
    activations: Tensor
    slopes: Tensor
    nudges: Tensor


def layer_states(backprop: Backprop, inputs: Tensor, targets: Tensor) -> tuple[LayerState, ...]:
    """Lead a mini-batch through a chain of dense layers, and its wishes back.

    Args:
        backprop: what drives the chain. Its cost averages over the examples.
        inputs: (N, in).
        targets: as the cost takes them.

    Returns:
        What happens at each layer, the first one first.

    Raises:
        TypeError: if it is no chain of dense layers, each with at most one elementwise activation.
        Otherwise as `Backprop.trace`.

    Source:
        The lecture's statements 2, 6 and 9.
    """
    _, passages = backprop.trace(inputs, targets)
    with torch.no_grad():
        return tuple(_state(*layer) for layer in dense_layers(passages))


def dense_layers(passages: Sequence[Passage]) -> Iterator[Sequence[Passage]]:
    """Cut a chain before each weighted sum.

    Raises:
        TypeError: if it does not begin with one.
    """
    starts = [place for place, passage in enumerate(passages) if hasattr(passage.link.function, "by_avenue")]
    if not starts or starts[0]:
        raise TypeError(f"the model must begin with a dense layer, not with {passages[0].link.layer}")
    for start, end in pairwise([*starts, len(passages)]):
        yield passages[start:end]


def _state(weighted: Passage, *after: Passage) -> LayerState:
    for passage in after:
        if len(after) > 1 or passage.link.function.__name__ not in ELEMENTWISE:
            raise TypeError(
                f"layer {after[-1].link.layer}: only one elementwise activation may follow a dense layer's sum"
            )
    active = after[0] if after else weighted
    ones = torch.ones_like(active.output)
    weight, bias = weighted.link.arguments
    return LayerState(
        names=weighted.link.names,  # type: ignore[arg-type]
        weight=weight,
        bias=bias,
        function=active.link.function.__name__.lower() if after else "identity",
        activations=active.output,
        slopes=active.back(ones) if after else ones,
        nudges=active.grad_output * -len(ones),
    )
