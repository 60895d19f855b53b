"""The run of the gradient checker, read back from its event file."""

from pathlib import Path

import pytest
from board import SCOREBOARD, SURVEYS
from served import asked
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bp_torch.dashboard import tags
from bp_torch.dashboard.gradient_run import write_gradients


@pytest.fixture
def events(tmp_path: Path) -> EventAccumulator:
    write_gradients(tmp_path / "gradients", SURVEYS, SCOREBOARD)
    accumulator = EventAccumulator(str(tmp_path / "gradients"))
    accumulator.Reload()
    return accumulator


def told(events: EventAccumulator, tag: str) -> str:
    return events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


def test_the_tables_are_there(events: EventAccumulator) -> None:
    functions = told(events, tags.CHECKED_FUNCTIONS)
    for part in ("| linear ", "| gelu ", "0.50 (0.75)", "1.25", "roundings"):
        assert part in functions
    planted = told(events, tags.CHECKER_SCORES)
    for part in ("caught of 2", "false alarms of 7", "| theirs | 0 | 1 | 0.5 |", "| factor | 1 | 1 | 0 |"):
        assert part in planted


def test_the_pictures_are_there(events: EventAccumulator) -> None:
    for tag in (tags.CHECKED_FUNCTIONS_PICTURE, tags.CHECKER_SCORES_PICTURE):
        (picture,) = events.Images(tag)
        assert picture.encoded_image_string.startswith(b"\x89PNG")
        assert picture.width == 800


def test_tensorboard_shows_them(address: str) -> None:
    """Both of its loaders do."""
    shown = [set(asked(address, f"plugin/{tab}/tags")["gradients"]) for tab in ("text", "images")]
    assert shown[0] == {tags.CHECKED_FUNCTIONS, tags.CHECKER_SCORES}
    assert shown[1] == {tags.CHECKED_FUNCTIONS_PICTURE, tags.CHECKER_SCORES_PICTURE}


def test_a_second_time_takes_the_first_ones_place_and_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        write_gradients(tmp_path, SURVEYS, SCOREBOARD)
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert len(accumulator.Images(tags.CHECKER_SCORES_PICTURE)) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("events*"))) == 2
