"""Experiments done a second time, fewer of them: what both of TensorBoard's loaders then show."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from served import asked, serving, until

from bp_torch.dashboard import tags
from bp_torch.dashboard.experiment_run import write_experiments
from bp_torch.inspection.experiments import ExperimentResult

FIRST = {
    "kept": ExperimentResult((), {"metric": 1.0}, Figure(figsize=(2, 1)), {"curve": {1: 0.25, 10: 0.5}}),
    "gone": ExperimentResult((), {"metric": 5.0}, Figure(figsize=(2, 1))),
}
SECOND = {"kept": ExperimentResult((), {"metric": 2.0}, Figure(figsize=(2, 1)), {"curve": {5: 0.75}})}


@pytest.fixture(params=["true", "false"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    for results in (FIRST, SECOND):
        write_experiments(tmp_path / "experiments", results.items(), "drawn by hand")
        time.sleep(0.01)  # the files are read in the order of their times
    with serving(tmp_path, f"--load_fast={request.param}") as address:
        yield address


def points(address: str, tag: str) -> list[tuple[int, float]]:
    return [(step, value) for _, step, value in asked(address, f"plugin/scalars/scalars?run=experiments&tag={tag}")]


def test_only_what_was_done_last_is_shown(address: str) -> None:
    kept = tags.experiment("kept", "metric")
    until(
        lambda: (
            kept in asked(address, "plugin/scalars/tags").get("experiments", {}) and points(address, kept) == [(0, 2.0)]
        )
    )
    assert points(address, kept) == [(0, 2.0)]
    assert points(address, tags.experiment_curve("kept", "curve")) == [(5, 0.75)]
    shown = asked(address, "plugin/images/tags")["experiments"]
    assert set(shown) == {tags.experiment_picture("kept")}
