"""Labelled images and shuffled mini-batches, all in memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Batch",
    "Batches",
    "DataError",
    "Dataset",
    "Split",
    "accuracy_of",
    "classes_of",
    "first_of_each_class",
    "prepare",
]


Batch = tuple[Tensor, Tensor]
"""Inputs (N, ...) and targets (N, ...)."""


class DataError(RuntimeError):
    """Data are missing, damaged or unavailable; the message is one line that names the file and the fix."""


class Split(NamedTuple):
    """Images and their labels, in the same order."""

    images: Tensor  # uint8 (N, H, W); 0 is background, 255 is full ink
    labels: Tensor  # int64 (N,), each in 0..classes − 1


@dataclass(frozen=True)
class Dataset:
    """A training set and a test set."""

    name: str  # "mnist" or "digits", also for `load("auto", ...)`
    train: Split
    test: Split
    origin: str  # where the data come from and, if digits replace MNIST, why
    classes: int = 10

    def __post_init__(self) -> None:
        """Check shapes, dtypes and labels; raise DataError for the first problem."""
        for part, split in {"train": self.train, "test": self.test}.items():
            if problem := self._problem(*split):
                raise DataError(f"{self.name}, {part} split: {problem}")

    @property
    def image_shape(self) -> torch.Size:
        """(H, W), the same for both splits."""
        return self.train.images.shape[1:]

    def _problem(self, images: Tensor, labels: Tensor) -> str | None:
        if images.dtype != torch.uint8 or images.dim() != 3 or images.shape[1:] != self.image_shape:
            expected = "(N, H, W)" if images is self.train.images else f"(N, {', '.join(map(str, self.image_shape))})"
            return f"images must be uint8 {expected}, got {images.dtype} {tuple(images.shape)}"
        if (labels.dtype, labels.shape) != (torch.int64, images.shape[:1]) or not len(labels):
            actual = f"{labels.dtype} {tuple(labels.shape)}"
            return f"labels must be int64, one for each of {len(images)} images, got {actual}"
        invalid = ((labels < 0) | (labels >= self.classes)).nonzero()
        if not len(invalid):
            return None
        return f"label {int(invalid[0])} must be from 0 to {self.classes - 1}, got {int(labels[invalid[0]])}"


def prepare(images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Convert uint8 images (N, H, W) to a network's input, float32 (N, 1, H, W) in [0, 1]: input = pixel / 255.

    Raises:
        TypeError: if `images` are not uint8, for instance scaled already.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected uint8 pixels from 0 to 255, got {images.dtype}")
    return images.to(device).unsqueeze(1).float().div_(255)


def classes_of(targets: Tensor) -> Tensor:
    """Class indices of targets that are class indices already, (N, ...), or one-hot rows (N, classes), float."""
    return targets.argmax(1) if targets.is_floating_point() else targets


def accuracy_of(outputs: Tensor, targets: Tensor) -> float:
    """The fraction of targets whose class has the largest output along axis 1, in [0, 1]."""
    return (outputs.argmax(1) == classes_of(targets)).double().mean().item()


def first_of_each_class(labels: Tensor) -> list[int]:
    """The index of the first example of each class that occurs, in order of the class."""
    return [int((labels == label).nonzero()[0]) for label in sorted(set(labels.tolist()))]


class Batches:
    """Shuffled mini-batches in which each example occurs once per epoch.

    The order depends on the seed and the epoch only. It is drawn on the CPU, so it is the same on every device and in a
    resumed run.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int, *, seed: int) -> None:
        """Store inputs (N, ...) and targets (N, ...) without a copy; an epoch's last mini-batch may be smaller.

        Raises:
            ValueError: if there are no examples, `targets` has another length, or `batch_size` is below 1.
        """
        if len(inputs) == 0:
            raise ValueError("inputs: expected at least one example, got none")
        if len(targets) != len(inputs):
            raise ValueError(f"targets: expected one for each of the {len(inputs)} inputs, got {len(targets)}")
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        self.inputs, self.targets = inputs, targets
        self.batch_size, self.seed = batch_size, seed

    def __len__(self) -> int:
        """The number of mini-batches in an epoch."""
        return -(-len(self.inputs) // self.batch_size)  # rounded up

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the mini-batches of an epoch, from index `start`: inputs (B, ...) and targets (B, ...)."""
        for chosen in torch.split(self._order(epoch), self.batch_size)[start:]:
            yield self.inputs.index_select(0, chosen), self.targets.index_select(0, chosen)

    def examples(self, epoch: int, index: int) -> Tensor:
        """The indices of one mini-batch's examples: int64 (B,)."""
        return torch.split(self._order(epoch), self.batch_size)[index]

    def _order(self, epoch: int) -> Tensor:
        """The order of all examples in an epoch: int64 (N,), on the inputs' device."""
        # A hash, not seed + epoch: the sum is the same for seed 0, epoch 1 and seed 1, epoch 0.
        digest = hashlib.blake2b(f"{self.seed} {epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        return torch.randperm(len(self.inputs), generator=generator).to(self.inputs.device)
