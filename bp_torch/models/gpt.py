"""A causal transformer that draws digits: it predicts each pixel from the digit's class and the pixels before."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional, nn

__all__ = ["draw", "gpt", "pixel_tokens"]

SIDE = 14
LEVELS = 4


class BuiltinTokens(torch.nn.Module):
    """`Tokens` on PyTorch's own functions."""

    functions: Any = torch

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        """Take the number of different tokens, the length of the longest sequence, and the width of a vector."""
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = torch.nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (N, T, width) of tokens (N, T)."""
        positions = self.functions.narrow(self.positions, 0, 0, tokens.shape[1])
        return self.functions.add(self.embed(tokens), positions)  # type: ignore[no-any-return]


class Tokens(BuiltinTokens):
    """A learned vector for each token, plus one for its position."""

    builtin = BuiltinTokens
    functions = functional


class CausalBlock(torch.nn.Module):
    """Attention and a network of two layers, each added to its input; a token sees itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        """Take the width of a vector and the number of heads."""
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, input: Tensor) -> Tensor:
        """Vectors (N, T, width) to the same."""
        mask = torch.nn.Transformer.generate_square_subsequent_mask(input.shape[1], input.device, input.dtype)
        return self.layer(input, src_mask=mask, is_causal=True)  # type: ignore[no-any-return]


class BuiltinClassesFirst(torch.nn.Module):
    """`ClassesFirst` on PyTorch's own functions."""

    functions: Any = torch

    def forward(self, logits: Tensor) -> Tensor:
        """(N, T, C) to (N, C, T), as a cross-entropy takes them."""
        return self.functions.transpose(logits, 1, 2)  # type: ignore[no-any-return]


class ClassesFirst(BuiltinClassesFirst):
    """Exchanges the last two axes."""

    builtin = BuiltinClassesFirst
    functions = functional


def gpt(classes: int = 10) -> torch.nn.Sequential:
    """Three causal blocks: tokens (N, T) to logits (N, LEVELS, T) of the next pixel, T ≤ SIDE², 114,244 parameters.

    Source:
        Radford et al., Improving Language Understanding by Generative Pre-Training (2018); Chen et al., Generative
        Pretraining from Pixels (2020).
    """
    width, heads = 64, 4
    blocks = {f"block{number}": CausalBlock(width, heads) for number in range(1, 4)}
    return torch.nn.Sequential(
        OrderedDict(
            tokens=Tokens(LEVELS + classes, SIDE * SIDE, width),  # (N, T, width)
            **blocks,
            norm=nn.LayerNorm(width),
            output=nn.Linear(width, LEVELS),
            classes_first=ClassesFirst(),  # (N, LEVELS, T)
        )
    )


def pixel_tokens(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets (N, SIDE²) of images (N, 1, H, W) in [0, 1]: each pixel is predicted from those before.

    The images are averaged to SIDE × SIDE pixels of LEVELS shades. The first input is the class, as LEVELS + label.
    """
    small = torch.nn.functional.adaptive_avg_pool2d(images, SIDE)
    pixels = (small * (LEVELS - 1)).round().long().flatten(1)
    return torch.cat([labels.unsqueeze(1) + LEVELS, pixels[:, :-1]], 1), pixels


@torch.no_grad()
def draw(model: torch.nn.Module, labels: Tensor, *, seed: int) -> Tensor:
    """Draw a digit of each class, (N, SIDE, SIDE) in [0, 1], pixel by pixel from the predicted distribution."""
    tokens, generator = labels.unsqueeze(1) + LEVELS, torch.Generator(labels.device).manual_seed(seed)
    for _ in range(SIDE * SIDE):
        probabilities = model(tokens)[:, :, -1].softmax(1)
        tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], 1)
    return tokens[:, 1:].reshape(-1, SIDE, SIDE) / (LEVELS - 1)
