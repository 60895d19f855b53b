"""Networks for handwritten digits, of hand-written modules."""

from collections.abc import Callable

import torch

from bp_torch.models.lenet import lenet, lenet_1998
from bp_torch.models.resnet import resnet
from bp_torch.nn import mlp

__all__ = ["MODELS", "lenet", "lenet_1998", "mlp", "resnet"]

MODELS: dict[str, Callable[[int], torch.nn.Sequential]] = {
    "lenet": lenet,
    "lenet-1998": lenet_1998,
    "resnet": resnet,
}
"""Networks of images (N, 1, 28, 28) by name: each takes the number of classes, and returns logits (N, classes)."""
