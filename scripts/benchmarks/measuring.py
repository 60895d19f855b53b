"""How time and memory are measured: peers in turn, medians and quartiles of ratios, never bare times alone."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

Workload = Callable[[], object]
Row = dict[str, Any]

TURN = 0.004
"""Seconds for which a peer works before the next one's turn: many steps of a small network, one of a large."""


def time_interleaved(peers: Mapping[str, Workload], *references: str, rounds: int) -> list[Row]:
    """Let peers do the same work in turn, and give each one's time in units of the references'.

    A ratio is the median over rounds of the two times in the same round, so that a noisy machine disturbs both alike.
    Each row has a peer's name, its median time in µs, and for each reference the median of the ratio and its quartiles.
    """
    for work in peers.values():
        work()
    turns = {name: max(1, round(TURN / seconds(work))) for name, work in peers.items()}
    taken: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, work in peers.items():
            taken[name].append(seconds(work, turns[name]))
    return [_row(name, times, {other: taken[other] for other in references}) for name, times in taken.items()]


def seconds(work: Workload, times: int = 1) -> float:
    """How long it takes, on average over so many times."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def _row(name: str, times: list[float], references: Mapping[str, list[float]]) -> Row:
    row: Row = {"peer": name, "µs": round(1e6 * statistics.median(times), 1)}
    for other, theirs in references.items():
        quartiles = statistics.quantiles((a / b for a, b in zip(times, theirs, strict=True)), n=4)
        low, middle, high = (float(f"{ratio:.3g}") for ratio in quartiles)
        row |= {f"/ {other}": middle, f"/ {other}, quartiles": [low, high]}
    return row


def peak_bytes(work: Workload) -> int:
    """The most memory that PyTorch's CPU allocator held at once while working, beyond what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return max(accumulate((int(change) for _, change in changes), initial=0))
