"""Mini-batches: the whole set stays in memory as prepared tensors; an epoch is one shuffled walk through it."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor


def prepare(images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Turns images into the network's input: one row of pixels an image, input = pixel / 255.

    Args:
        images: uint8 (N, 28, 28), or any (N, ...) of pixels.
        device: where the result lives.

    Returns:
        float32 (N, 784), each value in [0, 1].

    Raises:
        TypeError: if `images` are not uint8; dividing other pixels by 255 would go unnoticed and train poorly.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images: expected uint8 pixels from 0 to 255, got {images.dtype}")
    return images.to(device).flatten(start_dim=1).float().div_(255)


class Batches:
    """Cuts a set into shuffled mini-batches, each example once an epoch.

    The order of an epoch is a pure function of (seed, epoch), and drawn on the CPU. So it is the same on every device,
    and a run resumed at any mini-batch sees exactly what an unbroken run would have seen.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int, *, seed: int) -> None:
        """Keeps the tensors as they are: nothing is copied.

        Args:
            inputs: (N, ...), prepared, on the device that trains.
            targets: (N, ...), on the same device.
            batch_size: examples a mini-batch; the last one of an epoch holds what is left, so it may be shorter.
            seed: an integer; another one gives other orders.

        Raises:
            ValueError: if there are no examples, `targets` has another length, or `batch_size` is below 1.
        """
        if len(inputs) == 0:
            raise ValueError("inputs: expected at least one example, got none")
        if len(targets) != len(inputs):
            raise ValueError(f"targets: expected one for each of the {len(inputs)} inputs, got {len(targets)}")
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        self.inputs = inputs
        self.targets = targets
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        """The number of mini-batches in an epoch."""
        return -(-len(self.inputs) // self.batch_size)  # rounded up

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the mini-batches (inputs, targets) of one epoch.

        Args:
            epoch: the epoch's number; each has its own order.
            start: which of them is the first; those before it are left out.

        Yields:
            Inputs (B, ...) and targets (B, ...), with B = batch_size but perhaps for the last.
        """
        for chosen in torch.split(self._order(epoch), self.batch_size)[start:]:
            yield self.inputs.index_select(0, chosen), self.targets.index_select(0, chosen)

    def examples(self, epoch: int, place: int) -> Tensor:
        """The places in the set of one mini-batch's examples: int64 (B,)."""
        return torch.split(self._order(epoch), self.batch_size)[place]

    def _order(self, epoch: int) -> Tensor:
        """The permutation of all examples for one epoch: int64 (N,), on the inputs' device."""
        # A digest of the pair, not a sum: with seed + epoch, seed 0's second epoch would be seed 1's first.
        digest = hashlib.blake2b(f"{self.seed} {epoch}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        return torch.randperm(len(self.inputs), generator=generator).to(self.inputs.device)
