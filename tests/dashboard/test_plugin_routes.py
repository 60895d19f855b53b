"""What a real TensorBoard serves of frames, by either of its loaders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from served import Answer, answer, asked, serving, until
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util.tensor_util import make_tensor_proto
from tiny_frames import tiny_frame, tiny_network

from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.frames import frame_file, network_file
from bp_torch.dashboard.values import own_bytes
from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.training.logging.events import FrameEvent, NetworkEvent, StepEvent

MARKUP = "<b>&' größer"
GARBAGE = b"\x00\xff no file of safetensors"
BLOBS = DATA_CLASS_BLOB_SEQUENCE
DAMAGED: dict[str, tuple[TensorProto, int]] = {
    "garbage": (make_tensor_proto([GARBAGE]), BLOBS),
    "no blobs": (make_tensor_proto([], dtype="string", shape=(0,)), BLOBS),
    "a bare string": (make_tensor_proto(GARBAGE), BLOBS),
    "numbers": (make_tensor_proto([1.0, 2.0]), BLOBS),
    "a table": (make_tensor_proto([[b"a", b"b"], [b"c", b"d"]]), BLOBS),
    "a scalar": (make_tensor_proto(1.0), DATA_CLASS_SCALAR),
}


class Written(NamedTuple):
    folder: Path
    network: NetworkEvent
    frames: list[FrameEvent]
    """Of the run named long."""


def write(folder: Path, *recorded: Any, first_step: int | None = None) -> None:
    with TensorBoardRecorder(folder, purge_step=first_step) as recorder:
        for record in recorded:
            recorder.record(record)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder, network = tmp_path_factory.mktemp("runs"), tiny_network()
    frames = [tiny_frame(step) for step in range(300)]
    write(folder / "long", network, StepEvent(0, 0, 1.0, 0.5, 0.1, 1.0), *frames)
    write(folder / MARKUP, network, tiny_frame(7))
    write(folder / "plain", StepEvent(0, 0, 1.0, 0.5, 0.1, 1.0))
    write(folder / "resumed", network, *frames[:10])
    write(folder / "resumed", tiny_network(step=4, steps=7), *(tiny_frame(step) for step in range(4, 7)), first_step=4)
    for name, (tensor, data_class) in DAMAGED.items():
        metadata = SummaryMetadata(
            plugin_data=SummaryMetadata.PluginData(plugin_name=tags.BACKPROP), data_class=data_class
        )
        events = EventFile(folder / name)
        events.write([own_bytes(tags.NETWORK, GARBAGE, tags.BACKPROP)], 0)
        events.write([Summary.Value(tag=tags.FRAME, tensor=tensor, metadata=metadata)], 3)
        events.close()
    (whole,) = (folder / "long").iterdir()
    (folder / "cut").mkdir()
    (folder / "cut" / whole.name).write_bytes(whole.read_bytes()[:100_000])
    return Written(folder, network, frames)


@pytest.fixture(scope="module", params=["true", "false"])
def address(request: pytest.FixtureRequest, written: Written) -> Iterator[str]:
    with serving(written.folder, f"--load_fast={request.param}") as address:
        runs = {path.name for path in written.folder.iterdir()}
        until(lambda: set(asked(address, "runs")) == runs and loaded(address))
        yield address


def loaded(address: str) -> bool:
    shown = steps(address)
    return set(shown) >= {"long", "resumed", MARKUP, "cut", *DAMAGED} and len(shown["long"]) == 300


def of(address: str, what: str, **parameters: Any) -> Answer:
    return answer(address, f"plugin/backprop/{what}?" + "&".join(f"{k}={quote(str(v))}" for k, v in parameters.items()))


def steps(address: str) -> dict[str, list[int]]:
    return {run: [step for step, _ in taken] for run, taken in asked(address, "plugin/backprop/runs").items()}


def costs(address: str, run: str) -> list[list[Any]]:
    return list(asked(address, f"plugin/backprop/costs?run={quote(run)}"))


def test_the_tab_is_offered(address: str) -> None:
    listed = asked(address, "plugins_listing")["backprop"]
    assert (listed["enabled"], listed["tab_name"]) == (True, "Backprop")
    assert listed["loading_mechanism"]["module_path"].endswith("data/plugin/backprop/index.js")


def test_every_frame_of_a_long_run_is_kept_the_first_included(address: str) -> None:
    taken = asked(address, "plugin/backprop/runs")["long"]
    assert [step for step, _ in taken] == list(range(300))
    assert taken == sorted(taken, key=lambda frame: frame[1]), "in the order of their times"


def test_a_run_without_frames_is_not_listed(address: str) -> None:
    assert "plain" in asked(address, "runs")
    assert "plain" not in steps(address)


def test_bytes_are_those_that_were_written(address: str, written: Written) -> None:
    sent = "application/octet-stream"
    assert of(address, "network", run="long") == (200, sent, network_file(written.network))
    for step in (0, 1, 150, 299):
        expected = frame_file(written.frames[step], written.network)
        assert of(address, "frame", run="long", step=step) == (200, sent, expected)


def test_costs_are_those_of_the_mini_batches(address: str, written: Written) -> None:
    found = costs(address, "long")
    assert [step for step, _ in found] == list(range(300))
    assert [cost for _, cost in found] == pytest.approx([frame.costs[2:].mean().item() for frame in written.frames])


def test_no_chart_is_made_of_them(address: str) -> None:
    assert asked(address, "plugin/scalars/tags")["long"].keys() == {
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
    assert of(address, what, **parameters) == (404, "text/plain", f"Not found: there is no such {what}".encode())


def test_costs_of_no_run_are_none(address: str) -> None:
    assert costs(address, "none") == []


@pytest.mark.parametrize(
    ("what", "missing"), [("network", "run"), ("costs", "run"), ("frame?run=long", "step"), ("frame?step=0", "run")]
)
def test_a_question_that_says_too_little_is_told_so(address: str, what: str, missing: str) -> None:
    told = answer(address, f"plugin/backprop/{what}")
    assert (told.status, told.kind) == (400, "text/plain")
    assert f"?{missing}= is missing" in told.content.decode()


def test_a_name_with_markup_is_text(address: str) -> None:
    assert steps(address)[MARKUP] == [7]
    assert of(address, "frame", run=MARKUP, step=7).status == 200
    assert len(costs(address, MARKUP)) == 1


def test_after_a_break_no_step_is_there_twice_and_the_later_network_counts(address: str, written: Written) -> None:
    assert steps(address)["resumed"] == [step for step, _ in costs(address, "resumed")] == list(range(7))
    before, after = (of(address, "frame", run="resumed", step=step).content for step in (3, 4))
    assert before == frame_file(written.frames[3], written.network)
    assert after != frame_file(written.frames[4], written.network)
    assert b'\\"steps\\": 7' in of(address, "network", run="resumed").content


def test_a_file_that_breaks_off_has_the_frames_before(address: str, written: Written) -> None:
    whole = steps(address)["cut"]
    assert whole == list(range(len(whole)))
    assert 0 < len(whole) < 300
    assert of(address, "frame", run="cut", step=0).content == frame_file(written.frames[0], written.network)


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_frames_harm_no_other(address: str, damage: str) -> None:
    """Garbage is passed on, for the page to tell of; what is no row of bytes cannot be, and one loader says 500."""
    found = of(address, "frame", run=damage, step=3)
    assert found[::2] == (200, GARBAGE) if damage == "garbage" else found.status in (404, 500)
    assert of(address, "network", run=damage).content == GARBAGE
    assert costs(address, damage) == []
    assert loaded(address)
    assert {"long", damage} <= set(asked(address, "runs"))
    assert of(address, "frame", run="long", step=0).status == 200


def test_the_page_is_served_and_nothing_beside_it(address: str) -> None:
    page = answer(address, "plugin/backprop/index.js")
    assert (page.status, page.kind) == (200, "text/javascript")
    for other in ("", "index.html", "routes.py", "__init__.py", "../routes.py", "static/index.js", "%2e%2e/routes.py"):
        assert answer(address, f"plugin/backprop/{other}").status == 404, other


def test_below_a_path_prefix(written: Written) -> None:
    with serving(written.folder, "--path_prefix=/board", "--load_fast=false") as address:
        assert address.endswith("/board/")
        until(lambda: loaded(address))
        assert of(address, "frame", run="long", step=0).content == frame_file(written.frames[0], written.network)
        assert answer(address, "plugin/backprop/index.js").kind == "text/javascript"


def test_where_nothing_was_written_there_is_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        assert asked(address, "plugin/backprop/runs") == {}
        assert asked(address, "plugins_listing")["backprop"]["enabled"] is False
