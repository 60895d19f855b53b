"""Measure time and memory: peers take turns; ratios are medians with quartiles."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Workload = Callable[[], object]
Row = dict[str, Any]

TURN = 0.004
"""Duration in seconds of one peer's turn: many steps of a small network, one step of a large one."""


def time_interleaved(peers: Mapping[str, Workload], *references: str, rounds: int) -> list[Row]:
    """Time peers in turn, and compute the ratio of their times to those of the references.

    A ratio is the median over rounds of the ratio of two times in the same round, so that noise affects both alike.
    Each row has the peer's name, its median time in µs, and for each reference the ratio and its quartiles.
    """
    for work in peers.values():
        work()
    turns = {name: max(1, round(TURN / seconds(work))) for name, work in peers.items()}
    durations: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, work in peers.items():
            durations[name].append(seconds(work, turns[name]))
    return [_row(name, times, {other: durations[other] for other in references}) for name, times in durations.items()]


def seconds(work: Workload, times: int = 1) -> float:
    """Mean duration of one call, over `times` calls."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def forward_backward(call: Callable[..., Tensor], inputs: Sequence[Tensor], needs: Sequence[bool]) -> Workload:
    """The gradients of a call with respect to the inputs that need one, for a given upstream gradient."""
    leaves = [x.clone().requires_grad_(need) for x, need in zip(inputs, needs, strict=True)]
    upstream = torch.randn_like(call(*leaves))
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    return lambda: torch.autograd.grad(call(*leaves), wanted, upstream)


def _row(name: str, times: list[float], references: Mapping[str, list[float]]) -> Row:
    row: Row = {"peer": name, "µs": round(1e6 * statistics.median(times), 1)}
    for other, theirs in references.items():
        quartiles = statistics.quantiles((a / b for a, b in zip(times, theirs, strict=True)), n=4)
        low, middle, high = (float(f"{ratio:.3g}") for ratio in quartiles)
        row |= {f"/ {other}": middle, f"/ {other}, quartiles": [low, high]}
    return row


def peak_bytes(work: Workload) -> int:
    """Peak memory of PyTorch's CPU allocator during a call, above its value before the call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return max(accumulate((int(change) for _, change in changes), initial=0))
