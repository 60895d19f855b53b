"""A small residual network with batch normalization."""

from collections import OrderedDict

import torch
from torch import Tensor

from bp_torch import functional, nn

__all__ = ["Residual", "resnet"]


class BuiltinResidual(torch.nn.Module):
    """`Residual` on PyTorch's own addition."""

    def __init__(self, body: torch.nn.Module, shortcut: torch.nn.Module) -> None:
        """Take the two ways; their outputs must have one shape."""
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, input: Tensor) -> Tensor:
        """The sum of the outputs."""
        return self.body(input) + self.shortcut(input)  # type: ignore[no-any-return]


class Residual(BuiltinResidual):
    """y = body(x) + shortcut(x).

    ∂C/∂x is the sum of the gradients that come back on the two ways. With the identity as the shortcut, ∂C/∂y itself
    is one of them: it reaches every earlier block without passing through a weight.

    Source:
        He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition (2016).
    """

    builtin = BuiltinResidual

    def forward(self, input: Tensor) -> Tensor:
        """The sum of the outputs."""
        return functional.add(self.body(input), self.shortcut(input))


def resnet(classes: int = 10) -> torch.nn.Sequential:
    """A convolution, three residual blocks, a dense layer: (N, 1, 28, 28) to logits (N, classes), 38,266 parameters."""
    return torch.nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 16, 3, padding=1, bias=False),  # (N, 16, 28, 28)
            norm=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),  # (N, 16, 14, 14)
            block1=_block(16, 16, 1),
            block1_relu=nn.ReLU(),
            block2=_block(16, 32, 2),  # (N, 32, 7, 7)
            block2_relu=nn.ReLU(),
            block3=_block(32, 32, 1),
            block3_relu=nn.ReLU(),
            average=nn.AdaptiveAvgPool2d(1),  # (N, 32, 1, 1)
            flatten=nn.Flatten(),
            output=nn.Linear(32, classes),
        )
    )


def _block(inputs: int, outputs: int, stride: int) -> Residual:
    """Two convolutions, each normalized; a 1 × 1 convolution is the shortcut if the shape changes."""
    body = OrderedDict(
        conv1=nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        norm1=nn.BatchNorm2d(outputs),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(outputs),
    )
    if (inputs, stride) == (outputs, 1):
        return Residual(torch.nn.Sequential(body), torch.nn.Identity())
    shortcut = OrderedDict(conv=nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm=nn.BatchNorm2d(outputs))
    return Residual(torch.nn.Sequential(body), torch.nn.Sequential(shortcut))
