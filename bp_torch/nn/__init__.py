"""Modules built on the hand-written functions; drop-in for torch.nn's of the same name."""

from bp_torch.nn.activations import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from bp_torch.nn.builtin import as_builtin
from bp_torch.nn.linear import Dense, Linear
from bp_torch.nn.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
    SquaredError,
)
from bp_torch.nn.mlp import ACTIVATIONS, mlp
from bp_torch.nn.shape import Flatten, Unflatten

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Dense",
    "Flatten",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "NLLLoss",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "SquaredError",
    "Tanh",
    "Unflatten",
    "as_builtin",
    "mlp",
]
