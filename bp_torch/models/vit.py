"""A small vision transformer: patches of an image are tokens, and blocks of attention relate them."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional, nn

__all__ = ["vit"]


class BuiltinPatches(torch.nn.Module):
    """`Patches` on PyTorch's own functions."""

    functions: Any = torch

    def __init__(self, size: int, tokens: int, width: int) -> None:
        """Take the side of a patch, the number of patches, and the width of a token."""
        super().__init__()
        self.embed = nn.Conv2d(1, width, size, stride=size)
        self.positions = torch.nn.Parameter(0.02 * torch.randn(tokens, width))

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (N, T, width) of images (N, 1, H, W)."""
        patches = self.functions.flatten(self.embed(images), 2)  # (N, width, T)
        return self.functions.add(self.functions.transpose(patches, 1, 2), self.positions)  # type: ignore[no-any-return]


class Patches(BuiltinPatches):
    """Embeds each patch of an image by one linear map, and adds a learned vector for its position."""

    builtin = BuiltinPatches
    functions = functional


class BuiltinMeanToken(torch.nn.Module):
    """`MeanToken` on PyTorch's own functions."""

    functions: Any = torch

    def forward(self, tokens: Tensor) -> Tensor:
        """The mean (N, width) of tokens (N, T, width)."""
        return self.functions.mean(tokens, 1)  # type: ignore[no-any-return]


class MeanToken(BuiltinMeanToken):
    """Averages over the tokens."""

    builtin = BuiltinMeanToken
    functions = functional


def vit(classes: int = 10) -> torch.nn.Sequential:
    """16 patches of 7 × 7 pixels, four blocks of attention: (N, 1, 28, 28) to logits (N, classes), 138,890 parameters.

    Different from the paper, the tokens are averaged instead of one of their own, as in its appendix D.3.

    Source:
        Dosovitskiy et al., An Image is Worth 16x16 Words (2021).
    """
    width, heads = 64, 4
    blocks = {
        f"block{number}": nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        for number in range(1, 5)
    }
    return torch.nn.Sequential(
        OrderedDict(
            patches=Patches(7, 16, width),  # (N, 16, width)
            dropout=nn.Dropout(0.1),
            **blocks,
            norm=nn.LayerNorm(width),
            mean=MeanToken(),  # (N, width)
            output=nn.Linear(width, classes),
        )
    )
