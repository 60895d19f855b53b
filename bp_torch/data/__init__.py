"""Data to learn from: MNIST through torchvision, or drawn digits that need neither a network nor a disk."""

from bp_torch.data.dataset import (
    Batches,
    DataError,
    Dataset,
    Split,
    accuracy_of,
    classes_of,
    first_of_each,
    one_hot,
    prepare,
)
from bp_torch.data.mnist import load

__all__ = [
    "Batches",
    "DataError",
    "Dataset",
    "Split",
    "accuracy_of",
    "classes_of",
    "first_of_each",
    "load",
    "one_hot",
    "prepare",
]
