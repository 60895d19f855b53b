"""The run of the experiments, of results made by hand, read back event by event."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from board import scalar_points
from matplotlib.figure import Figure
from PIL import Image
from served import get_json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

from bp_torch.dashboard import tags
from bp_torch.dashboard.reports import write_experiments
from bp_torch.inspection.experiments import Claim, ExperimentResult

ORIGIN = "Digits drawn by hand"
RED, GREEN = (255, 0, 0), (0, 128, 0)


def coloured(colour: str, width: float) -> Figure:
    return Figure(figsize=(width, 2), dpi=100, facecolor=colour)


@pytest.fixture
def results() -> dict[str, ExperimentResult]:
    return {
        "first": ExperimentResult(
            (
                Claim(4, "downhill is the quickest", "by 0.5|0.25 of *all* <b>steps</b>", True, "equation"),
                Claim(5, "w_1 matters", "not\nmuch", False, "this network"),
            ),
            {"decrease": 0.5, "rival": -0.25},
            coloured("red", 3),
            {"cosine": {1: 0.125, 10: 0.5, 1000: 1.0}, "norm ratio": {3: 8.0}},
        ),
        "second": ExperimentResult(
            (Claim(11, "one class alone", "100%", True, "this network"),), {"lost": math.nan}, coloured("green", 4)
        ),
    }


def read(folder: Path) -> list[Event]:
    (file,) = folder.glob("events.out.tfevents.*")
    return list(LegacyEventFileLoader(str(file)).Load())


def values(events: list[Event]) -> dict[tuple[str, int], Summary.Value]:
    found = [((value.tag, event.step), value) for event in events for value in event.summary.value]
    assert len(dict(found)) == len(found), "no tag has two values at one step"
    return dict(found)


def test_every_value_is_written_once_at_its_step(results: dict[str, ExperimentResult], tmp_path: Path) -> None:
    write_experiments(tmp_path / "run", results.items(), ORIGIN)
    events = read(tmp_path / "run")
    assert events[0].file_version == "brain.Event:2"
    assert (events[1].step, events[1].session_log.status) == (0, SessionLog.START)
    found = values(events)
    numbers = {place: value.simple_value for place, value in found.items() if value.HasField("simple_value")}
    assert math.isnan(numbers.pop((tags.experiment("second", "lost"), 0)))
    assert numbers == {
        ("experiments/first/decrease", 0): 0.5,
        ("experiments/first/rival", 0): -0.25,
        ("experiments/first/by_number/cosine", 1): 0.125,
        ("experiments/first/by_number/cosine", 10): 0.5,
        ("experiments/first/by_number/cosine", 1000): 1.0,
        ("experiments/first/by_number/norm ratio", 3): 8.0,
    }
    others = {(tags.CLAIMS, 0), *((tags.experiment_picture(name), 0) for name in results)}
    assert found.keys() - numbers.keys() == {*others, (tags.experiment("second", "lost"), 0)}


def test_figures_are_files_and_pictures_of_one_size(results: dict[str, ExperimentResult], tmp_path: Path) -> None:
    write_experiments(tmp_path, results.items(), ORIGIN)
    found = values(read(tmp_path))
    assert {path.name for path in tmp_path.glob("*.png")} == {"first.png", "second.png"}
    for name, size, colour in (("first", (300, 200), RED), ("second", (400, 200), GREEN)):
        picture = found[tags.experiment_picture(name), 0].image
        assert (picture.width, picture.height) == size
        for png in (tmp_path / f"{name}.png", BytesIO(picture.encoded_image_string)):
            with Image.open(png) as image:
                assert (image.format, image.size) == ("PNG", size)
                assert (abs(np.asarray(image.convert("RGB")).astype(int) - colour) <= 4).all()


def page_of(folder: Path) -> str:
    return values(read(folder))[tags.CLAIMS, 0].tensor.string_val[0].decode()


def test_the_page_shows_each_claim_as_it_is(results: dict[str, ExperimentResult], tmp_path: Path) -> None:
    write_experiments(tmp_path, results.items(), ORIGIN)
    heading, origin, *table = [line for line in page_of(tmp_path).splitlines() if line]
    assert heading.startswith("## ")
    assert origin == ORIGIN
    assert table == [
        "|  | claim | measured | holds | scope |",
        "|---|---|---|---|---|",
        r"| 4 | downhill is the quickest | by 0.5\|0.25 of \*all\* &lt;b&gt;steps&lt;/b&gt; | yes | equation |",
        r"| 5 | w\_1 matters | not much | no | this network |",
        "| 11 | one class alone | 100% | yes | this network |",
    ]


def test_why_there_is_no_mnist_is_shown_as_it_is(results: dict[str, ExperimentResult], tmp_path: Path) -> None:
    """As in the message of `bp_torch.data.load`, and in the page of a training run."""
    write_experiments(tmp_path, results.items(), "MNIST could not be downloaded (<urlopen error [Errno -2] no *name*>)")
    assert r"(&lt;urlopen error \[Errno -2\] no \*name\*&gt;)" in page_of(tmp_path).replace(r"\(", "(").replace(
        r"\)", ")"
    )


def test_no_findings_leave_an_empty_table(tmp_path: Path) -> None:
    write_experiments(tmp_path, {}, ORIGIN)
    assert page_of(tmp_path).endswith("|---|---|---|---|---|")
    assert list(values(read(tmp_path))) == [(tags.CLAIMS, 0)]
    assert not list(tmp_path.glob("*.png"))


def test_a_second_time_takes_the_first_ones_place_and_removes_nothing(
    results: dict[str, ExperimentResult], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_experiments(tmp_path, results.items(), ORIGIN)
    second = (tmp_path / "second.png").read_bytes()
    fewer = {"first": ExperimentResult((), {"decrease": 2.0}, coloured("green", 5), {"cosine": {10: 0.75}})}
    write_experiments(tmp_path, fewer.items(), ORIGIN)
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    shown = {tag: [(it.step, it.value) for it in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    assert {tag: points for tag, points in shown.items() if points} == {
        "experiments/first/decrease": [(0, 2.0)],
        "experiments/first/by_number/cosine": [(10, 0.75)],
    }
    assert [picture.width for picture in board.Images(tags.experiment_picture("first"))] == [500]
    assert tags.experiment_picture("second") not in board.Tags()["images"]
    assert len(list(tmp_path.glob("events*"))) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "second.png").read_bytes() == second
    with Image.open(tmp_path / "first.png") as image:
        assert image.size == (500, 200)


def test_only_what_was_done_last_is_shown(address: str) -> None:
    """Of experiments done twice, the second time fewer of them; by both of TensorBoard's loaders."""
    assert scalar_points(address, "experiments", tags.experiment("kept", "metric")) == [(0, 2.0)]
    assert scalar_points(address, "experiments", tags.experiment_curve("kept", "curve")) == [(5, 0.75)]
    assert set(get_json(address, "plugin/images/tags")["experiments"]) == {tags.experiment_picture("kept")}
