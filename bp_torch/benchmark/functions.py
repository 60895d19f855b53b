"""Forward and backward of each hand-written function under autograd, against PyTorch's own."""

import torch
from torch import Tensor

from bp_torch.benchmark.measuring import Row, Workload, time_interleaved
from bp_torch.catalogue import CATALOGUE, Entry
from bp_torch.gradients.call import Call, as_calls
from bp_torch.gradients.variants import resized


def function_times(rounds: int) -> list[Row]:
    """Every function of the catalogue on its first matrix, each of its sizes made 100, against PyTorch's own."""
    rows = []
    for entry in CATALOGUE.values():
        large = _large_call(entry)
        peers = {"builtin": _differentiated(large.of(entry.reference)), entry.name: _differentiated(large)}
        _, row = time_interleaved(peers, "builtin", rounds=rounds)
        rows.append(row)
    return rows


def _large_call(entry: Entry) -> Call:
    first = next(sample for sample in entry.samples if isinstance(sample.args[0], Tensor) and sample.args[0].dim() == 2)
    (call,) = as_calls(entry.function, [first])
    sizes = {size: 100 for arg in call.args if isinstance(arg, Tensor) for size in arg.shape}
    large = resized(call.to(torch.float32), sizes, torch.Generator().manual_seed(0))
    assert large is not None
    return large


def _differentiated(call: Call) -> Workload:
    leaves = [x.requires_grad_() for x in call.inputs]
    upstream = torch.ones_like(call.output())
    return lambda: torch.autograd.grad(call.output(), leaves, upstream)
