"""A recurrent network that reads an image row by row."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional, nn

__all__ = ["lstm"]


class BuiltinRowReader(torch.nn.Module):
    """`RowReader` on PyTorch's own functions."""

    functions: Any = torch

    def __init__(self, pixels: int, width: int) -> None:
        """Take the length of a row and the width of the state."""
        super().__init__()
        self.lstm = nn.LSTM(pixels, width, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        """The state (N, width) after the last row of images (N, 1, H, W)."""
        states, _ = self.lstm(self.functions.squeeze(images, 1))  # (N, H, width)
        return self.functions.squeeze(self.functions.narrow(states, 1, -1, 1), 1)  # type: ignore[no-any-return]


class RowReader(BuiltinRowReader):
    """Reads the rows of an image from top to bottom, one at each step of an LSTM."""

    builtin = BuiltinRowReader
    functions = functional


def lstm(classes: int = 10) -> torch.nn.Sequential:
    """An LSTM of 28 steps with a state of 128: (N, 1, 28, 28) to logits (N, classes), 82,186 parameters.

    Source:
        Hochreiter, Schmidhuber, Long Short-Term Memory (1997); Le, Jaitly, Hinton, A Simple Way to Initialize Recurrent
        Networks of Rectified Linear Units (2015), for images read in sequence.
    """
    return torch.nn.Sequential(OrderedDict(rows=RowReader(28, 128), output=nn.Linear(128, classes)))
