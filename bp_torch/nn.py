"""Modules on the hand-written functions, and the lecture's network.

Each subclasses the torch.nn module of the same name, with a forward that calls `bp_torch.functional`. (*) is any shape.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional


class Linear(torch.nn.Linear):
    """The weighted sum input · weightᵀ + bias, (*, in) to (*, out)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight, self.bias)


class Flatten(torch.nn.Flatten):
    """Merges the axes from `start_dim` to `end_dim`, (N, C, H, W) to (N, C·H·W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.flatten(input, self.start_dim, self.end_dim)


class Unflatten(torch.nn.Unflatten):
    """Splits the axis `dim`, (N, C·H·W) to (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.unflatten(input, self.dim, self.unflattened_size)


class Sigmoid(torch.nn.Sigmoid):
    """σ(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.sigmoid(input)


class Tanh(torch.nn.Tanh):
    """tanh(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.tanh(input)


class ReLU(torch.nn.ReLU):
    """max(input, 0), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(input, self.inplace)


class LeakyReLU(torch.nn.LeakyReLU):
    """Input where positive, otherwise negative_slope · input, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.leaky_relu(input, self.negative_slope, self.inplace)


class ELU(torch.nn.ELU):
    """Input where positive, otherwise α (eˣ − 1), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.elu(input, self.alpha, self.inplace)


class Softplus(torch.nn.Softplus):
    """log(1 + e^(β input)) / β, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softplus(input, self.beta, self.threshold)


class SiLU(torch.nn.SiLU):
    """Input times σ(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.silu(input, self.inplace)


class GELU(torch.nn.GELU):
    """Input times Φ(input), (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.gelu(input, self.approximate)


class Softmax(torch.nn.Softmax):
    """Probabilities along `dim`, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.softmax(input, self.dim, _stacklevel=5)


class LogSoftmax(torch.nn.LogSoftmax):
    """Log-probabilities along `dim`, (*) to (*)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.log_softmax(input, self.dim, _stacklevel=5)


class SquaredError(torch.nn.Module):
    """The lecture's cost, not in torch.nn: squared differences, (N, C), summed over C and averaged over N."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.squared_error(input, target)


class MSELoss(torch.nn.MSELoss):
    """Squared differences of two (*), reduced."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(input, target, reduction=self.reduction)


class L1Loss(torch.nn.L1Loss):
    """Absolute differences of two (*), reduced."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(torch.nn.SmoothL1Loss):
    """Squared differences of two (*) below `beta`, absolute differences above, reduced."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    """Binary cross-entropy of logits (*) against probabilities (*), reduced."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(
            input, target, self.weight, pos_weight=self.pos_weight, reduction=self.reduction
        )


class NLLLoss(torch.nn.NLLLoss):
    """Negative log-likelihood of classes (N,) under log-probabilities (N, C), reduced."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.nll_loss(
            input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """Cross-entropy of logits (N, C) against classes (N,) or probabilities (N, C), reduced."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


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


def as_builtin(model: torch.nn.Module) -> torch.nn.Module:
    """Copy a model, replacing the hand-written layers by torch.nn's; the copy shares the parameters.

    Args:
        model: any module; hand-written layers are replaced at any depth.

    Returns:
        A new module with the same parameters and buffers as `model`: training one trains the other.

    Raises:
        TypeError: if torch.nn has no counterpart of a layer, as for subclasses of hand-written layers, and modules
            whose `forward` calls a custom Function: the copy would be compared with itself.
    """
    shared = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, memo={id(tensor): tensor for tensor in shared})
    for module in twin.modules():
        kind = type(module)
        if any(base.__module__ == __name__ for base in kind.__mro__):
            name = kind.__name__
            if globals().get(name) is not kind or not hasattr(torch.nn, name):
                raise TypeError(f"as_builtin(): torch.nn has no counterpart of {kind.__module__}.{name}")
            module.__class__ = getattr(torch.nn, name)
        elif not kind.__module__.startswith("torch.") and _calls_custom_function(kind.forward):
            raise TypeError(f"as_builtin(): {kind.__name__}.forward calls a custom Function, which cannot be replaced")
    return twin


def _calls_custom_function(forward: Callable[..., Any]) -> bool:
    """Whether a method names a Function, its `apply`, or `bp_torch.functional`."""
    code = getattr(forward, "__code__", None)
    names = code.co_names if code else ()
    named = [forward.__globals__.get(name) for name in names]
    return "apply" in names or any(
        value is functional
        or getattr(value, "__module__", "").startswith("bp_torch.functional")
        or (isinstance(value, type) and issubclass(value, torch.autograd.Function))
        for value in named
    )
