"""The run of the gradient checker, read back from its event file."""

from pathlib import Path

import pytest
from served import asked, serving, until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bp_torch.dashboard import tags
from bp_torch.dashboard.gradient_run import write_gradients
from bp_torch.gradients.entry_report import DTYPES, Accuracy, EntryReport

ACCURACIES = tuple(Accuracy(str(dtype).removeprefix("torch."), 0.5, 0.75, ()) for dtype in DTYPES)
REPORTS = [EntryReport(name, 13, 1000, (), (), ACCURACIES) for name in ("linear", "gelu")]
SCORES = "| checker | caught |\n|---|---|\n| theirs | 0 |"
CAUGHT = {"factor": {"planted": 1, "ours": 1, "theirs": 0}, "sign": {"planted": 2, "ours": 2, "theirs": 1}}


@pytest.fixture
def events(tmp_path: Path) -> EventAccumulator:
    write_gradients(tmp_path / "gradients", REPORTS, SCORES, CAUGHT)
    accumulator = EventAccumulator(str(tmp_path / "gradients"))
    accumulator.Reload()
    return accumulator


def told(events: EventAccumulator, tag: str) -> str:
    return events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


def test_the_tables_are_there(events: EventAccumulator) -> None:
    functions = told(events, tags.CHECKED_FUNCTIONS)
    for part in ("| linear ", "| gelu ", "0.50 (0.75)", "float16", "roundings"):
        assert part in functions
    assert told(events, tags.CHECKER_SCORES) == SCORES


def test_the_pictures_are_there(events: EventAccumulator) -> None:
    for tag in (tags.CHECKED_FUNCTIONS_PICTURE, tags.CHECKER_SCORES_PICTURE):
        (picture,) = events.Images(tag)
        assert picture.encoded_image_string.startswith(b"\x89PNG")
        assert picture.width == 800


@pytest.mark.parametrize("load_fast", ["true", "false"])
def test_tensorboard_shows_them(tmp_path: Path, load_fast: str) -> None:
    """Both of its loaders do."""
    write_gradients(tmp_path / "gradients", REPORTS, SCORES, CAUGHT)
    with serving(tmp_path, f"--load_fast={load_fast}") as address:
        assert shown(address, "text") == {tags.CHECKED_FUNCTIONS, tags.CHECKER_SCORES}
        assert shown(address, "images") == {tags.CHECKED_FUNCTIONS_PICTURE, tags.CHECKER_SCORES_PICTURE}


def shown(address: str, tab: str) -> set[str]:
    """The tags on a tab of TensorBoard's, as soon as it has read the run."""
    until(lambda: asked(address, f"plugin/{tab}/tags"))
    return set(asked(address, f"plugin/{tab}/tags")["gradients"])


def test_a_second_time_takes_the_first_ones_place_and_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        write_gradients(tmp_path, REPORTS, SCORES, CAUGHT)
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert len(accumulator.Images(tags.CHECKER_SCORES_PICTURE)) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("events*"))) == 2
