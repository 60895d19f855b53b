"""Benchmarks of convolution, pooling and normalization at the sizes of LeNet and ResNet-18, and of LeNet as a whole."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.testing import assert_close

from benchmarks.measuring import Row, Workload, forward_backward, time_interleaved
from benchmarks.steps import RATE, by_vmap, functions
from bp_torch import functional
from bp_torch.engine import Backprop
from bp_torch.inspection import per_example_norms
from bp_torch.models import lenet
from bp_torch.nn import as_builtin

# Name: input (N, C, H, W), output channels, kernel, stride, padding, whether the input needs a gradient.
CONVOLUTIONS = {
    "LeNet, first": ((100, 1, 28, 28), 6, 5, 1, 2, False),
    "LeNet, second": ((100, 6, 14, 14), 16, 5, 1, 0, True),
    "ResNet-18, first": ((8, 3, 224, 224), 64, 7, 2, 3, False),
    "ResNet-18, 56 × 56": ((8, 64, 56, 56), 64, 3, 1, 1, True),
    "ResNet-18, 56 × 56 to 28 × 28": ((8, 64, 56, 56), 128, 3, 2, 1, True),
    "ResNet-18, 28 × 28": ((8, 128, 28, 28), 128, 3, 1, 1, True),
    "ResNet-18, 28 × 28 to 14 × 14": ((8, 128, 28, 28), 256, 3, 2, 1, True),
    "ResNet-18, 14 × 14": ((8, 256, 14, 14), 256, 3, 1, 1, True),
    "ResNet-18, 7 × 7": ((8, 512, 7, 7), 512, 3, 1, 1, True),
    "ResNet-18, shortcut": ((8, 64, 56, 56), 128, 1, 2, 0, True),
}
POOLS: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "LeNet, first": ((100, 6, 28, 28), {"kernel_size": 2}),
    "LeNet, second": ((100, 16, 10, 10), {"kernel_size": 2}),
    "ResNet-18": ((8, 64, 112, 112), {"kernel_size": 3, "stride": 2, "padding": 1}),
}


def layer_times(rounds: int) -> list[Row]:
    """Time forward and backward of each layer by hand and by PyTorch."""
    rows = []
    for name, call in _layers():
        peers = {"builtin": call(torch.nn.functional), name: call(functional)}
        _, row = time_interleaved(peers, "builtin", rounds=rounds)
        rows.append(row)
    return rows


def _layers() -> Iterator[tuple[str, Callable[[Any], Workload]]]:
    """The name of each layer, and its workload for a library."""
    for name, (shape, outputs, kernel, stride, padding, needs) in CONVOLUTIONS.items():
        arguments = torch.randn(shape), torch.randn(outputs, shape[1], kernel, kernel) / 10, torch.randn(outputs)
        options = {"stride": stride, "padding": padding}
        yield f"conv2d, {name}", partial(_by_name, "conv2d", arguments, (needs, True, True), options)
    for pool in ("max_pool2d", "avg_pool2d"):
        for name, (size, options) in POOLS.items():
            yield f"{pool}, {name}", partial(_by_name, pool, (torch.randn(size),), (True,), options)
    for size in ((100, 16, 14, 14), (8, 64, 56, 56)):
        mean, variance, weight, bias = (torch.rand(size[1]) for _ in range(4))
        needed = True, False, False, True, True
        given = torch.randn(size), mean, variance, weight, bias
        yield f"batch_norm, {_size(size)}", partial(_by_name, "batch_norm", given, needed, {"training": True})
    rows, channels = torch.rand(2, 256), torch.rand(2, 64)
    yield "layer_norm, 32 × 64 × 256", partial(_normalized, "layer_norm", (32, 64, 256), (256,), rows)
    yield "group_norm, 8 × 64 × 28 × 28", partial(_normalized, "group_norm", (8, 64, 28, 28), 8, channels)


def _normalized(name: str, shape: tuple[int, ...], over: Any, affine: Tensor, library: Any) -> Workload:
    def call(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return getattr(library, name)(input, over, weight, bias)  # type: ignore[no-any-return]

    return forward_backward(call, (torch.randn(shape), *affine), (True, True, True))


def _by_name(
    name: str, inputs: tuple[Tensor, ...], needs: tuple[bool, ...], options: dict[str, Any], library: Any
) -> Workload:
    return forward_backward(partial(getattr(library, name), **options), inputs, needs)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _images(examples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (examples,), generator=generator)
    return torch.rand(examples, 1, 28, 28, generator=generator), labels


def step_times(rounds: int) -> list[Row]:
    """Time a step of LeNet on a mini-batch of 100: by the engine, by autograd, and by PyTorch alone."""
    torch.manual_seed(0)
    first, (inputs, labels) = lenet(), _images(100)
    models = {name: copy.deepcopy(first) for name in ("engine", "functions", "eager")}
    backprop, builtin = Backprop(models["engine"], functional.cross_entropy), torch.nn.functional.cross_entropy
    peers: dict[str, Workload] = {
        "engine": lambda: backprop.sgd_step(inputs, labels, RATE),
        "functions": functions(models["functions"], inputs, labels, functional.cross_entropy),
        "eager": functions(as_builtin(models["eager"]), inputs, labels, builtin),
    }
    for work in peers.values():
        work()
    for model in models.values():
        assert_close(dict(model.named_parameters()), dict(models["eager"].named_parameters()))
    return time_interleaved(peers, "eager", rounds=rounds)


def norm_times(examples: int, rounds: int) -> list[Row]:
    """Time the norms of LeNet's per-example gradients, with ratios to one gradient over the same examples."""
    torch.manual_seed(0)
    model, (inputs, labels) = lenet(), _images(examples)
    ours = partial(_norms_in_chunks, model)
    vmapped = partial(by_vmap, model, torch.nn.functional.cross_entropy)
    assert_close(vmapped(100, inputs[:100], labels[:100]), ours(100, inputs[:100], labels[:100])[0])
    gradient = partial(Backprop(model, functional.cross_entropy).gradients, inputs, labels)
    workloads: dict[str, Workload] = {"one gradient, engine": gradient}
    for size in (100, 500, examples):
        workloads[f"norms, {size:,} at a time"] = partial(ours, size, inputs, labels)
        workloads[f"norms, vmap(grad), {size:,} at a time"] = partial(vmapped, size, inputs, labels)
    return time_interleaved(workloads, "one gradient, engine", rounds=rounds)


def _norms_in_chunks(model: Module, size: int, inputs: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    chunks = zip(torch.split(inputs, size), torch.split(labels, size), strict=True)
    return [per_example_norms(model, functional.cross_entropy, *chunk) for chunk in chunks]
