"""Experiments done a second time, fewer of them: what both of TensorBoard's loaders then show."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from bp_torch.dashboard import tags
from bp_torch.dashboard.experiment_run import write_experiments
from bp_torch.inspection.experiments import Finding

FIRST = {
    "kept": Finding((), {"merit": 1.0}, Figure(figsize=(2, 1)), {"curve": {1: 0.25, 10: 0.5}}),
    "gone": Finding((), {"merit": 5.0}, Figure(figsize=(2, 1))),
}
SECOND = {"kept": Finding((), {"merit": 2.0}, Figure(figsize=(2, 1)), {"curve": {5: 0.75}})}


@pytest.fixture(params=["true", "false"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    for findings in (FIRST, SECOND):
        write_experiments(tmp_path / "experiments", findings.items(), "drawn by hand")
        time.sleep(0.01)  # the files are read in the order of their times
    command = ["-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0", "--host", "127.0.0.1"]
    with subprocess.Popen(
        [sys.executable, *command, f"--load_fast={request.param}"], stderr=subprocess.PIPE, text=True
    ) as served:
        assert served.stderr is not None
        try:
            said = next(line for line in served.stderr if " at http" in line)
            yield re.findall(r"http://\S+/", said)[0]
        finally:
            served.terminate()


def asked(address: str, what: str) -> Any:
    with urllib.request.urlopen(f"{address}data/plugin/{what}", timeout=10) as answer:
        return json.load(answer)


def points(address: str, tag: str) -> list[tuple[int, float]]:
    return [(step, value) for _, step, value in asked(address, f"scalars/scalars?run=experiments&tag={tag}")]


def test_only_what_was_done_last_is_shown(address: str) -> None:
    kept = tags.experiment("kept", "merit")
    for _ in range(50):
        if asked(address, "scalars/tags").get("experiments", {}).get(kept) and points(address, kept) == [(0, 2.0)]:
            break
        time.sleep(0.1)
    assert points(address, kept) == [(0, 2.0)]
    assert points(address, tags.experiment_curve("kept", "curve")) == [(5, 0.75)]
    shown = asked(address, "images/tags")["experiments"]
    assert set(shown) == {tags.experiment_picture("kept")}
