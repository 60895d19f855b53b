"""Networks for handwritten digits, of hand-written modules."""

from collections.abc import Callable

import torch

from bp_torch.models.gpt import draw, gpt, pixel_tokens
from bp_torch.models.lenet import lenet, lenet_1998
from bp_torch.models.lstm import lstm
from bp_torch.models.resnet import resnet
from bp_torch.models.vit import vit
from bp_torch.nn import mlp

__all__ = ["MODELS", "draw", "gpt", "lenet", "lenet_1998", "lstm", "mlp", "pixel_tokens", "resnet", "vit"]

MODELS: dict[str, Callable[[int], torch.nn.Sequential]] = {
    "lenet": lenet,
    "lenet-1998": lenet_1998,
    "resnet": resnet,
    "vit": vit,
    "lstm": lstm,
    "gpt": gpt,
}
"""Networks by name: each takes the number of classes.

The inputs are images (N, 1, 28, 28) and the outputs logits (N, classes); those of gpt are tokens (N, T) and logits
(N, shades, T).
"""
