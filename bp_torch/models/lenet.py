"""LeNet-5: two convolutions, each followed by pooling, and three dense layers."""

from collections import OrderedDict

import torch

from bp_torch import nn

__all__ = ["lenet", "lenet_1998"]


def lenet(classes: int = 10) -> torch.nn.Sequential:
    """LeNet-5's layout with ReLU and maximum pooling: (N, 1, 28, 28) to logits (N, classes), 61,706 parameters.

    Source:
        LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition (1998).
    """
    return torch.nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 5, padding=2),  # (N, 6, 28, 28)
            conv1_relu=nn.ReLU(),
            pool1=nn.MaxPool2d(2),  # (N, 6, 14, 14)
            conv2=nn.Conv2d(6, 16, 5),  # (N, 16, 10, 10)
            conv2_relu=nn.ReLU(),
            pool2=nn.MaxPool2d(2),  # (N, 16, 5, 5)
            flatten=nn.Flatten(),
            hidden1=nn.Linear(400, 120),
            hidden1_relu=nn.ReLU(),
            hidden2=nn.Linear(120, 84),
            hidden2_relu=nn.ReLU(),
            output=nn.Linear(84, classes),
        )
    )


def lenet_1998(classes: int = 10) -> torch.nn.Sequential:
    """LeNet-5 as printed: (N, 1, 28, 28) to (N, classes), 61,750 parameters.

    Each pooling layer averages 2 × 2 pixels, and multiplies each map by a weight and adds a bias, both learned. Every
    layer has tanh units. Different from the paper, each map of the second convolution sees all maps of the first, the
    units are not scaled, and the outputs are a dense layer instead of radial basis functions.

    Source:
        LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition (1998), section II.B.
    """
    return torch.nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 5, padding=2),  # (N, 6, 28, 28)
            conv1_tanh=nn.Tanh(),
            pool1=nn.AvgPool2d(2),  # (N, 6, 14, 14)
            scale1=nn.Conv2d(6, 6, 1, groups=6),  # a weight and a bias for each map
            scale1_tanh=nn.Tanh(),
            conv2=nn.Conv2d(6, 16, 5),  # (N, 16, 10, 10)
            conv2_tanh=nn.Tanh(),
            pool2=nn.AvgPool2d(2),  # (N, 16, 5, 5)
            scale2=nn.Conv2d(16, 16, 1, groups=16),
            scale2_tanh=nn.Tanh(),
            conv3=nn.Conv2d(16, 120, 5),  # (N, 120, 1, 1)
            conv3_tanh=nn.Tanh(),
            flatten=nn.Flatten(),
            hidden=nn.Linear(120, 84),
            hidden_tanh=nn.Tanh(),
            output=nn.Linear(84, classes),
        )
    )
