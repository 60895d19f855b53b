"""Benchmarks of attention, recurrent layers, embedding, and the cross-entropy of a large vocabulary."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import Row, Workload, forward_backward, peak_bytes, time_interleaved
from bp_torch import functional

ATTENTION = {"16 tokens": (100, 4, 16, 16), "128 tokens": (100, 4, 128, 16), "4,096 tokens": (1, 1, 4096, 64)}
"""Query, key and value: (N, heads, tokens, width)."""
STEPS, EXAMPLES, PIXELS, WIDTH = 28, 100, 28, 128
"""Of a recurrent layer."""
EMBEDDINGS = ((1_000, 64), (10_000, 256))
"""Rows and width; 100 × 128 indices."""
VOCABULARY = 8_192, 512, 32_000
"""Tokens, width and classes."""

Library = Callable[[str], Any]


def layer_times(rounds: int) -> list[Row]:
    """Time forward and backward of each layer by hand and by PyTorch."""
    rows = []
    for name, call in _layers():
        _, row = time_interleaved({"builtin": call(_builtin), name: call(_by_hand)}, "builtin", rounds=rounds)
        rows.append(row)
    return rows


def memory() -> list[Row]:
    """Peak memory of attention and of the cross-entropy of a large vocabulary, with their gradients."""
    query = torch.randn(3, *ATTENTION["4,096 tokens"])
    attention = {name: partial(_attention, query, library) for name, library in _LIBRARIES.items()}
    losses: dict[str, Callable[[], Workload]] = {
        "linear, then cross_entropy": partial(_vocabulary, VOCABULARY, _two_functions),
        "linear_cross_entropy, by hand": partial(_vocabulary, VOCABULARY, functional.linear_cross_entropy),
    }
    return [
        *({"peer": f"attention, 4,096 tokens, {name}", "MB": _megabytes(make)} for name, make in attention.items()),
        *({"peer": name, "MB": _megabytes(make)} for name, make in losses.items()),
    ]


def _megabytes(make: Callable[[], Workload]) -> float:
    work = make()
    work()
    return round(peak_bytes(work) / 1e6, 1)


def _builtin(name: str) -> Any:
    return getattr(torch.nn.functional, name, None) or getattr(torch, name)


def _by_hand(name: str) -> Any:
    return getattr(functional, name)


_LIBRARIES: dict[str, Library] = {"builtin": _builtin, "by hand": _by_hand}


def _layers() -> Iterator[tuple[str, Callable[[Library], Workload]]]:
    """The name of each layer, and its workload for a library."""
    for name, shape in ATTENTION.items():
        yield f"scaled_dot_product_attention, {name}", partial(_attention, torch.randn(3, *shape))
    for name, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1)):
        yield f"{name}, {STEPS} steps", partial(_recurrent, name, gates)
    for rows, width in EMBEDDINGS:
        yield f"embedding, {rows:,} × {width}", partial(_embedding, rows, width)


def _attention(inputs: Tensor, library: Library) -> Workload:
    return forward_backward(library("scaled_dot_product_attention"), list(inputs), [True] * 3)


def _recurrent(name: str, gates: int, library: Library) -> Workload:
    state = torch.zeros(1, EXAMPLES, WIDTH)
    first = (state, state) if name == "lstm" else state
    sizes = (gates * WIDTH, PIXELS), (gates * WIDTH, WIDTH), (gates * WIDTH,), (gates * WIDTH,)
    parameters = [torch.rand(size) / 5 - 0.1 for size in sizes]

    def call(input: Tensor, *parameters: Tensor) -> Tensor:
        return library(name)(input, first, parameters, True, 1, 0.0, True, False, False)[0]  # type: ignore[no-any-return]

    return forward_backward(call, [torch.rand(STEPS, EXAMPLES, PIXELS), *parameters], [False, *[True] * 4])


def _embedding(rows: int, width: int, library: Library) -> Workload:
    indices = torch.randint(rows, (100, 128))
    return forward_backward(partial(library("embedding"), indices), [torch.randn(rows, width)], [True])


def _two_functions(input: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(torch.nn.functional.linear(input, weight), target)


def _vocabulary(sizes: tuple[int, int, int], loss: Callable[..., Tensor]) -> Workload:
    tokens, width, classes = sizes
    target = torch.randint(classes, (tokens,))
    inputs = torch.randn(tokens, width), torch.randn(classes, width) / width**0.5
    return forward_backward(lambda input, weight: loss(input, weight, target), inputs, [True, True])
