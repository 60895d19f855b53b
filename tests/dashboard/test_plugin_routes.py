"""What a real TensorBoard serves of frames, by either of its loaders."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from board import DAMAGED, GARBAGE, MARKUP, Board, loaded, plugin_data, steps_by_run
from served import answer, get_json, serving, until
from tiny_frames import tiny_frame, tiny_network

from bp_torch.dashboard import tags
from bp_torch.dashboard.frame_format import frame_file, network_file
from bp_torch.dashboard.writer import TensorBoardLogger


def costs(address: str, run: str) -> list[list[Any]]:
    return list(get_json(address, f"plugin/backprop/costs?run={quote(run)}"))


def test_the_tab_is_offered(address: str) -> None:
    listed = get_json(address, "plugins_listing")["backprop"]
    assert (listed["enabled"], listed["tab_name"]) == (True, "Backprop")
    assert listed["loading_mechanism"]["module_path"].endswith("data/plugin/backprop/index.js")


def test_every_frame_of_a_long_run_is_kept_the_first_included(address: str) -> None:
    taken = get_json(address, "plugin/backprop/runs")["long"]
    assert [step for step, _ in taken] == list(range(300))
    assert taken == sorted(taken, key=lambda frame: frame[1]), "in the order of their times"


def test_a_run_without_frames_is_not_listed(address: str) -> None:
    assert "plain" in get_json(address, "runs")
    assert "plain" not in steps_by_run(address)


def test_bytes_are_those_that_were_written(address: str, board: Board) -> None:
    sent = "application/octet-stream"
    assert plugin_data(address, "network", run="long") == (200, sent, network_file(board.network))
    for step in (0, 1, 150, 299):
        expected = frame_file(board.frames[step], board.network)
        assert plugin_data(address, "frame", run="long", step=step) == (200, sent, expected)


def test_costs_are_those_of_the_mini_batches(address: str, board: Board) -> None:
    found = costs(address, "long")
    assert [step for step, _ in found] == list(range(300))
    assert [cost for _, cost in found] == pytest.approx([frame.costs[2:].mean().item() for frame in board.frames])


def test_no_chart_is_made_of_them(address: str) -> None:
    assert get_json(address, "plugin/scalars/tags")["long"].keys() == {
        tags.MINI_BATCH_COST, tags.MINI_BATCH_ACCURACY, tags.LEARNING_RATE, tags.EXAMPLES_PER_SECOND
    }  # fmt: skip


@pytest.mark.parametrize(
    ("what", "parameters"),
    [
        ("network", {"run": "none"}),
        ("network", {"run": "plain"}),
        ("frame", {"run": "none", "step": 0}),
        ("frame", {"run": "long", "step": 300}),
        ("frame", {"run": "long", "step": "<i>"}),
        ("frame", {"run": "long", "step": "9" * 40}),
    ],
)
def test_what_was_never_written_is_not_found(address: str, what: str, parameters: dict[str, Any]) -> None:
    assert plugin_data(address, what, **parameters) == (
        404,
        "text/plain",
        f"Not found: there is no such {what}".encode(),
    )


def test_costs_of_no_run_are_none(address: str) -> None:
    assert costs(address, "none") == []


@pytest.mark.parametrize(
    ("what", "missing"), [("network", "run"), ("costs", "run"), ("frame?run=long", "step"), ("frame?step=0", "run")]
)
def test_a_question_that_says_too_little_is_told_so(address: str, what: str, missing: str) -> None:
    response = answer(address, f"plugin/backprop/{what}")
    assert (response.status, response.kind) == (400, "text/plain")
    assert f"?{missing}= is missing" in response.content.decode()


def test_a_name_with_markup_is_text(address: str) -> None:
    assert steps_by_run(address)[MARKUP] == [7]
    assert plugin_data(address, "frame", run=MARKUP, step=7).status == 200
    assert len(costs(address, MARKUP)) == 1


def test_after_a_break_no_step_is_there_twice_and_the_later_network_counts(address: str, board: Board) -> None:
    assert steps_by_run(address)["resumed"] == [step for step, _ in costs(address, "resumed")] == list(range(7))
    before, after = (plugin_data(address, "frame", run="resumed", step=step).content for step in (3, 4))
    assert before == frame_file(board.frames[3], board.network)
    assert after != frame_file(board.frames[4], board.network)
    assert b'\\"steps\\": 7' in plugin_data(address, "network", run="resumed").content


def test_a_file_that_breaks_off_has_the_frames_before(address: str, board: Board) -> None:
    whole = steps_by_run(address)["cut"]
    assert whole == list(range(len(whole)))
    assert 0 < len(whole) < 300
    assert plugin_data(address, "frame", run="cut", step=0).content == frame_file(board.frames[0], board.network)


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_frames_harm_no_other(address: str, board: Board, damage: str) -> None:
    """Garbage is passed on, and the page reports it. Other values cannot be served, and one loader answers 500."""
    found = plugin_data(address, "frame", run=damage, step=3)
    assert found[::2] == (200, GARBAGE) if damage == "garbage" else found.status in (404, 500)
    assert plugin_data(address, "network", run=damage).content == GARBAGE
    assert costs(address, damage) == []
    assert loaded(address, board)
    assert {"long", damage} <= set(get_json(address, "runs"))
    assert plugin_data(address, "frame", run="long", step=0).status == 200


def test_the_page_is_served_and_nothing_beside_it(address: str) -> None:
    page = answer(address, "plugin/backprop/index.js")
    assert (page.status, page.kind) == (200, "text/javascript")
    for other in ("", "index.html", "loader.py", "__init__.py", "../loader.py", "static/index.js", "%2e%2e/loader.py"):
        assert answer(address, f"plugin/backprop/{other}").status == 404, other


def test_below_a_path_prefix_as_soon_as_there_is_something(tmp_path: Path) -> None:
    options = ("--path_prefix=/board", "--load_fast=false", "--reload_interval=1")
    with serving(tmp_path, *options) as address, TensorBoardLogger(tmp_path / "run") as recorder:
        assert address.endswith("/board/")
        assert get_json(address, "plugin/backprop/runs") == {}
        assert get_json(address, "plugins_listing")["backprop"]["enabled"] is False
        recorder.record(network := tiny_network())
        recorder.record(frame := tiny_frame(0))
        until(lambda: steps_by_run(address) == {"run": [0]})
        assert plugin_data(address, "frame", run="run", step=0).content == frame_file(frame, network)
        assert answer(address, "plugin/backprop/index.js").kind == "text/javascript"
