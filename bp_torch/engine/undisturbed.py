"""Run a model without a trace of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Restore the model's buffers and the random numbers afterwards: running statistics and masks of dropout.

    What is computed inside leaves no trace, and repeated, it is the same.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)
