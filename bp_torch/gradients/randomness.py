"""Random functions: the same random numbers in every call."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def states() -> list[Any]:
    """The states of the generators of PyTorch, Python and NumPy."""
    numpy = sys.modules.get("numpy")
    return [torch.get_rng_state(), random.getstate(), repr(numpy.random.get_state(legacy=False)) if numpy else None]


@contextmanager
def replayed(seed: int | None) -> Iterator[None]:
    """Seed the generators of PyTorch, Python and NumPy, and restore their states afterwards; None: do nothing.

    A backward runs outside, so that it draws other numbers than the forward.
    """
    if seed is None:
        yield
        return
    numpy = sys.modules.get("numpy")
    state, numpy_state = random.getstate(), numpy and numpy.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        random.seed(seed)
        if numpy:
            numpy.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            if numpy:
                numpy.random.set_state(numpy_state)
