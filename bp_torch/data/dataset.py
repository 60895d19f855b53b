"""What every source of data hands over: images and labels, split for training and testing, and where they come from."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class DataError(RuntimeError):
    """Data are missing, damaged or cannot be had; the message is one line that names the file and the mend."""


class Split(NamedTuple):
    """Images and their labels, in the same order.

    Attributes:
        images: uint8 (N, 28, 28); 0 is background, 255 is full ink.
        labels: int64 (N,), each in 0..9.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Dataset:
    """A data set to learn from and to be tested on.

    Attributes:
        name: "mnist" or "digits": what was loaded, which for `load("auto", ...)` may be either.
        train: the examples to learn from.
        test: the examples to measure on, never trained on.
        origin: one sentence for people: where the data come from and, if they stand in for MNIST, why.
    """

    name: str
    train: Split
    test: Split
    origin: str
