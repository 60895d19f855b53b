"""Forward and backward under autograd: hand-written functions against PyTorch's own."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from bp_torch.benchmark.measuring import Row, Work, side_by_side
from bp_torch.benchmark.steps import batch, builtin_cost
from bp_torch.catalogue import CATALOGUE, Entry
from bp_torch.functional import squared_error
from bp_torch.gradients.call import Call, as_calls
from bp_torch.gradients.variants import resized
from bp_torch.nn import Dense, as_builtin, mlp


def network_times(rounds: int) -> list[Row]:
    """The default network and mini-batch: PyTorch's own layers, hand-written ones, and dense ones, fused."""
    torch.manual_seed(0)
    model = mlp((784, 16, 16, 10))
    dense = torch.nn.Sequential(Dense(784, 16), Dense(16, 16), Dense(16, 10))
    dense.load_state_dict(dict(zip(dense.state_dict(), model.state_dict().values(), strict=True)))
    peers = {
        "builtin": _forward_and_backward(as_builtin(model), builtin_cost),
        "functions": _forward_and_backward(copy.deepcopy(model), squared_error),
        "functions, dense": _forward_and_backward(dense, squared_error),
    }
    return side_by_side(peers, ["builtin"], rounds)


def _forward_and_backward(model: torch.nn.Module, cost: Callable[[Tensor, Tensor], Tensor]) -> Work:
    inputs, targets = batch(100, (784, 10))

    def work() -> None:
        model.zero_grad()
        cost(model(inputs), targets).backward()  # type: ignore[no-untyped-call]

    return work


def function_times(rounds: int) -> list[Row]:
    """Every function of the catalogue on its first matrix, each of its sizes made 100, against PyTorch's own."""
    rows = []
    for entry in CATALOGUE.values():
        hand, builtin = (_differentiated(call) for call in _large_calls(entry))
        _, row = side_by_side({"builtin": builtin, entry.name: hand}, ["builtin"], rounds)
        rows.append(row)
    return rows


def _large_calls(entry: Entry) -> tuple[Call, Call]:
    first = next(sample for sample in entry.samples if isinstance(sample.args[0], Tensor) and sample.args[0].dim() == 2)
    (call,) = as_calls(entry.function, [first])
    sizes = {size: 100 for arg in call.args if isinstance(arg, Tensor) for size in arg.shape}
    large = resized(call.to(torch.float32), sizes, torch.Generator().manual_seed(0))
    assert large is not None
    return large, large.of(entry.reference)


def _differentiated(call: Call) -> Work:
    leaves = [x.requires_grad_() for x in call.inputs]
    upstream = torch.ones_like(call.output())
    return lambda: torch.autograd.grad(call.output(), leaves, upstream)
