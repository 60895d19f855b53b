"""Several processes that train one network, each on its part of every mini-batch; torchrun starts them.

The cost of N examples is a mean, so a part of n of them counts n/N: summed over the parts, costs and gradients are
those of the whole, however unevenly it is split. Only the first process reads and writes files; the others are told.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

_Made = TypeVar("_Made")
_PATIENCE = timedelta(minutes=10)
"""How long one waits for the others: the first may have to download the data, or draw pictures."""


class ProcessLost(RuntimeError):
    """Another process of this job has ended, or cannot be reached any more; the message is one line."""


class Processes:
    """Those that train together.

    Attributes:
        rank: which of them this is, from 0.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        """By default this process is alone."""
        self.rank = rank
        self.count = count

    @property
    def first(self) -> bool:
        """Whether this is the one that looks, reads and writes."""
        return self.rank == 0

    def part(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, float]:
        """This process's part of a mini-batch, and its weight, the share of the examples.

        Where there are fewer examples than processes, the last ones take an example that counts nothing, because a
        mean over none is no number.
        """
        part, wanted = (tensor.tensor_split(self.count)[self.rank] for tensor in (inputs, targets))
        return (part, wanted, len(part) / len(inputs)) if len(part) else (inputs[:1], targets[:1], 0.0)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, in place.

        Raises:
            ProcessLost: if one of them cannot be heard.
        """
        if self.count > 1:
            with self.heard():
                dist.all_reduce(tensor)
        return tensor

    def any(self, said: bool) -> bool:
        """Whether any of them says so.

        Raises:
            ProcessLost: if one of them cannot be heard.
        """
        return said if self.count == 1 else bool(self.total(torch.tensor(int(said))).item())

    def from_first(self, make: Callable[[], _Made]) -> _Made:
        """What the first process makes, in all of them.

        Raises:
            Exception: in the first, what `make` raises.
            SystemExit: in the others, if it raised; it is for the first to say why.
            ProcessLost: if the first cannot be heard.
        """
        if self.count == 1:
            return make()
        made: list[Any] = [None]
        try:
            made = [(make(),)] if self.first else made
        finally:  # also to say that there is nothing
            with self.heard():
                dist.broadcast_object_list(made)
        if made[0] is None:
            raise SystemExit(2)
        return cast(_Made, made[0][0])

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Turn what torch raises while processes speak with each other into ProcessLost."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = " ".join(str(error).partition("\n")[0].rpartition("] ")[2].split())
            raise ProcessLost(f"process {self.rank} of {self.count} cannot hear another one ({reason})") from None


ALONE = Processes()


def local_device(device: str, processes: Processes) -> str:
    """Where this process computes: of "cuda" each of a machine's processes has its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and processes.count > 1 else device


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started; without it, this one is alone.

    Raises:
        ProcessLost: if they do not find each other.
    """
    count = int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1
    processes = Processes(int(os.environ["RANK"]), count) if count > 1 else ALONE
    if count > 1:
        with processes.heard():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield processes
    finally:
        if count > 1:
            dist.destroy_process_group()
