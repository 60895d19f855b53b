"""That what is timed is the same work, that it is timed in turn, and that the page says what was measured."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import measuring, steps
from benchmarks.measuring import peak_bytes, time_interleaved
from benchmarks.sections import Section, machine, write

from bp_torch.engine import Backprop

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def spends(self, name: str, *times: float) -> Any:
        left = list(times)

        def work() -> None:
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock.now)
    return clock


def test_peers_work_in_turn_and_ratios_are_of_the_same_round(clock: Clock) -> None:
    """The machine is four times slower in half of the rounds; the ratio does not notice, the medians do."""
    ours = clock.spends("ours", 1, 1, 1, 4, 1, 4, 4)
    theirs = clock.spends("theirs", 2, 2, 2, 8, 2, 8, 8)
    rows = time_interleaved({"theirs": theirs, "ours": ours}, "theirs", rounds=5)
    assert clock.order[4:] == ["theirs", "ours"] * 5
    assert rows[1] == {"peer": "ours", "µs": 4e6, "/ theirs": 0.5, "/ theirs, quartiles": [0.5, 0.5]}
    assert rows[0]["/ theirs"] == 1


def test_what_is_quick_works_often_in_its_turn(clock: Clock) -> None:
    time_interleaved({"quick": clock.spends("quick", 0.001), "slow": clock.spends("slow", 1)}, "slow", rounds=3)
    assert clock.order.count("quick") == 2 + 3 * round(measuring.TURN / 0.001)
    assert clock.order.count("slow") == 2 + 3


def test_the_peak_is_what_is_held_at_once() -> None:
    def work() -> None:
        first = torch.ones(1_000_000)
        second = first + 1
        del first
        third = second + 1
        del second, third

    assert peak_bytes(work) == pytest.approx(8_000_000, rel=0.01)
    assert peak_bytes(lambda: None) == 0


def test_every_peer_takes_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled one without Inductor, which takes twenty seconds; before each timing it is compared with it."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    steps.require_the_same(steps.made((12, 5, 4, 3), 7))


def test_a_peer_that_does_other_work_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Backprop.sgd_step
    monkeypatch.setattr(Backprop, "sgd_step", lambda driver, x, t, rate: step(driver, x, t, 1.01 * rate))
    monkeypatch.setattr(steps, "PEERS", {name: steps.PEERS[name] for name in ("engine", "eager")})
    with pytest.raises(AssertionError, match="engine: Tensor-likes are not close"):
        steps.step_times((12, 5, 4, 3), 7, rounds=3)


def test_the_engine_holds_less_memory_than_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PEERS", {name: steps.PEERS[name] for name in ("engine", "eager")})
    for sizes in ((784, 16, 16, 10), (784, 128, 64, 10)):
        peaks = {row["peer"]: row["/ eager"] for row in steps.step_memory(sizes, 100)}
        assert peaks["engine"] < peaks["eager"] == 1


def test_all_peers_find_the_same_norms() -> None:
    rows = steps.norm_times(200, rounds=3)
    assert [row["peer"] for row in rows][:3] == ["one gradient, engine", "norms", "norms, vmap(grad)"]


def test_a_page_and_its_json_say_the_same(tmp_path: Path) -> None:
    rows = [{"peer": "ours", "µs": 1234.5, "/ theirs": 0.5, "/ theirs, quartiles": [0.4, 0.6]}]
    (tmp_path / "page.md").write_text("# Figures\n\nBy hand.\n\nMeasured on: torch 1.\n\n## Old\n")
    write(tmp_path / "page.md", {"torch": "2"}, [Section("Steps", "A note.", rows)])
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("# Figures\n\nBy hand.\n\nMeasured on: torch 2.\n\n## Steps\n")
    assert (
        "## Steps\n\nA note.\n\n| peer | µs | / theirs |\n|---|---|---|\n| ours | 1,234.5 | 0.5 (0.4 to 0.6) |" in page
    )
    kept = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert kept == {"machine": {"torch": "2"}, "sections": [{"title": "Steps", "note": "A note.", "rows": rows}]}


def test_the_machine_is_named() -> None:
    assert {"processor", "device", "python", "torch"} == machine().keys()


def test_the_projects_page_holds_what_its_json_holds() -> None:
    """And a table for every network and size of mini-batch."""
    page = PAGE.read_text(encoding="utf-8")
    kept = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    for section in kept["sections"]:
        assert str(Section(**section)) in page
    titles = [section["title"] for section in kept["sections"]]
    for sizes in steps.NETWORKS:
        for examples in steps.BATCHES:
            title = f"One step, {'-'.join(map(str, sizes))}, mini-batch of {examples}, 1 thread"
            assert title in titles
            (rows,) = [section["rows"] for section in kept["sections"] if section["title"] == title]
            assert [row["peer"] for row in rows] == list(steps.PEERS)
