"""Classes, whether they come as indices or as what is wanted of each output."""

import torch
from torch import Tensor

CLASSES = 10


def one_hot(labels: Tensor) -> Tensor:
    """What is wanted of the outputs, (N, 10): 1 of the right one and 0 of the others."""
    return torch.eye(CLASSES, device=labels.device)[labels]


def classes_of(targets: Tensor) -> Tensor:
    """Class indices (N,), from them or from one-hot rows (N, classes)."""
    return targets.argmax(1) if targets.dim() == 2 else targets


def accuracy_of(outputs: Tensor, targets: Tensor) -> float:
    """The share of examples whose largest output is the right one, in [0, 1]."""
    return (outputs.argmax(1) == classes_of(targets)).double().mean().item()


def first_of_each(labels: Tensor) -> list[int]:
    """Where each class that there is stands first, the lowest class first."""
    return [int((labels == label).nonzero()[0]) for label in sorted(set(labels.tolist()))]
