"""What every source of data hands over: images and labels, split for training and testing, and where they come from."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bp_torch.data.labels import CLASSES


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

    def __post_init__(self) -> None:
        """Refuse what is no set of labelled digits.

        Raises:
            DataError: naming the part, and what is wrong with it.
        """
        for part, split in {"train": self.train, "test": self.test}.items():
            if problem := _problem(*split):
                raise DataError(f"{self.name}: of the examples to {part}, {problem}")


def _problem(images: Tensor, labels: Tensor) -> str | None:
    if (images.dtype, images.shape[1:]) != (torch.uint8, (28, 28)):
        return f"images must be uint8 (N, 28, 28), got {images.dtype} {tuple(images.shape)}"
    if (labels.dtype, labels.shape) != (torch.int64, images.shape[:1]) or not len(labels):
        return f"labels must be int64, one for each of {len(images)} images, got {labels.dtype} {tuple(labels.shape)}"
    odd = ((labels < 0) | (labels >= CLASSES)).nonzero()
    return f"label {int(odd[0])} must be from 0 to {CLASSES - 1}, got {int(labels[odd[0]])}" if len(odd) else None
