"""The run of the gradient checker, read back from its event file."""

from pathlib import Path

from board import TABLES
from served import get_json
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from bp_torch.dashboard.reports import write_tables


def test_tensorboard_shows_the_tables(address: str) -> None:
    """Both of its loaders do."""
    assert set(get_json(address, "plugin/text/tags")["gradients"]) == set(TABLES)


def test_a_second_time_takes_the_first_ones_place_and_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for tables in (dict.fromkeys(TABLES, "an earlier table"), TABLES):
        write_tables(tmp_path, tables)
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    shown = {
        tag: [each.tensor_proto.string_val[0].decode() for each in board.Tensors(tag)]
        for tag in board.Tags()["tensors"]
    }
    assert shown == {tag: [table] for tag, table in TABLES.items()}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("events*"))) == 2
