"""A log folder for TensorBoard: complete runs, damaged runs, and the results of the checker and the experiments."""

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import torch
from matplotlib.figure import Figure
from recorded_run import PROBES, Reference, write_run
from safetensors.torch import save
from served import Answer, answer, get_json
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util.tensor_util import make_tensor_proto
from tiny_frames import tiny_frame, tiny_network

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile, plugin_value
from bp_torch.dashboard.frame_format import frame_file, network_file
from bp_torch.dashboard.reports import write_experiments, write_tables
from bp_torch.dashboard.writer import TensorBoardLogger
from bp_torch.inspection.experiments import ExperimentResult
from bp_torch.training.logging.events import FrameEvent, NetworkEvent, StepEvent
from bp_torch.training.logging.traces import FrameCapture

MARKUP = "<img src=x onerror=alert('1')>&amp; größer"
GARBAGE = b"\x00\xff not a safetensors file"
BLOBS = DATA_CLASS_BLOB_SEQUENCE
DAMAGED: dict[str, tuple[TensorProto, int]] = {
    "garbage": (make_tensor_proto([GARBAGE]), BLOBS),
    "no blobs": (make_tensor_proto([], dtype="string", shape=(0,)), BLOBS),
    "a bare string": (make_tensor_proto(GARBAGE), BLOBS),
    "numbers": (make_tensor_proto([1.0, 2.0]), BLOBS),
    "a table": (make_tensor_proto([[b"a", b"b"], [b"c", b"d"]]), BLOBS),
    "a scalar": (make_tensor_proto(1.0), DATA_CLASS_SCALAR),
}

TABLES = {
    tags.CHECKED_FUNCTIONS: "| function | samples |\n|---|---|\n| linear | 13 |",
    tags.CHECKER_SCORES: "| checker | caught |\n|---|---|\n| ours | 261 |",
}

FIRST = {
    "kept": ExperimentResult((), {"metric": 1.0}, Figure(figsize=(2, 1)), {"curve": {1: 0.25, 10: 0.5}}),
    "gone": ExperimentResult((), {"metric": 5.0}, Figure(figsize=(2, 1))),
}
SECOND = {"kept": ExperimentResult((), {"metric": 2.0}, Figure(figsize=(2, 1)), {"curve": {5: 0.75}})}


class Board(NamedTuple):
    """The folder, and the events written to it."""

    folder: Path
    network: NetworkEvent
    frames: list[FrameEvent]
    """Frames of the run "long"."""
    recorded: list[Reference]
    wide: list[Reference]


def write_board(folder: Path) -> Board:
    network, frames = tiny_network(), [tiny_frame(step) for step in range(300)]
    write(folder / "long", network, StepEvent(0, 0, 1.0, 0.5, 0.1, 1.0), *frames)
    write(folder / "plain", StepEvent(0, 0, 1.0, 0.5, 0.1, 1.0))
    write(folder / "resumed", network, *frames[:10])
    write(folder / "resumed", tiny_network(step=4, steps=7), *(tiny_frame(step) for step in range(4, 7)), first_step=4)
    write_damaged(folder)
    write_unsupported(folder)
    write_tables(folder / "gradients", TABLES)
    for results in (FIRST, SECOND):
        write_experiments(folder / "experiments", results.items(), "synthetic digits")
        time.sleep(0.01)  # the files are read in order of their time stamps
    for name, changes in {"frozen": {"frozen": True}, "wrong": {"wrong": True}}.items():
        write_run(folder / name, **changes)
    wide = write_run(folder / "wide", hidden=40, examples=130)
    write(folder / MARKUP, network, tiny_frame(7))
    return Board(folder, network, frames, write_run(folder / "recorded"), wide)


def write(folder: Path, *events: Any, first_step: int = 0) -> None:
    with TensorBoardLogger(folder, purge_step=first_step) as recorder:
        for event in events:
            recorder.record(event)


def write_damaged(folder: Path) -> None:
    """Write invalid blobs, a truncated event file, and frames that are truncated, empty or inconsistent."""
    for name, (tensor, data_class) in DAMAGED.items():
        plugin = SummaryMetadata.PluginData(plugin_name=tags.BACKPROP)
        metadata = SummaryMetadata(plugin_data=plugin, data_class=data_class)
        write_values(
            folder / name,
            (0, plugin_value(tags.NETWORK, GARBAGE)),
            (3, Summary.Value(tag=tags.FRAME, tensor=tensor, metadata=metadata)),
        )
    (whole,) = (folder / "long").iterdir()
    (folder / "cut").mkdir()
    (folder / "cut" / whole.name).write_bytes(whole.read_bytes()[:100_000])
    network, frame = network_file(tiny_network()), tiny_frame(0)
    content = frame_file(frame, tiny_network())
    zeroed = content[:900] + bytes(len(content) - 900)
    write_blobs(folder / "damaged", network, content, content[:500], zeroed, b"", content)
    wrong_shape = replace(frame, layers=(frame.layers[0], replace(frame.layers[1], weight=torch.ones(3, 9))))
    wrong_type = content.replace(b'\\"comparisons\\": []', b'\\"comparisons\\": 12')
    write_blobs(folder / "inconsistent", network, wrong_type, frame_file(wrong_shape, tiny_network()), content)


def write_unsupported(folder: Path) -> None:
    """Write a network that is not a chain of dense layers, and a later format version."""
    model = torch.nn.Sequential(nn.Linear(784, 10), nn.Softmax(1))
    write(folder / "softmax", FrameCapture(model, F.squared_error, PROBES, torch.eye(10)).network(0, 3))
    write_blobs(folder / "later", save({}, {"network": json.dumps({"format": 2})}))


def write_blobs(folder: Path, network: bytes, *steps: bytes) -> None:
    frames = [(step, plugin_value(tags.FRAME, content)) for step, content in enumerate(steps)]
    write_values(folder, (0, plugin_value(tags.NETWORK, network)), *frames)


def write_values(folder: Path, *values: tuple[int, Summary.Value]) -> None:
    events = EventFile(folder)
    for step, value in values:
        events.write([value], step)
    events.close()


def loaded(address: str, board: Board) -> bool:
    """Whether TensorBoard has read every run."""
    steps = steps_by_run(address)
    runs = {path.name for path in board.folder.iterdir()}
    scalars = get_json(address, "plugin/scalars/tags").get("experiments", {})
    return (
        set(get_json(address, "runs")) == runs
        and {"long", "resumed", "recorded", "wide", "inconsistent", MARKUP, "cut", *DAMAGED} <= set(steps)
        and [len(steps[run]) for run in ("long", "recorded", "wide")] == [300, 6, 6]
        and tags.experiment("kept", "metric") in scalars
        and "gradients" in get_json(address, "plugin/text/tags")
    )


def plugin_data(address: str, route: str, **parameters: Any) -> Answer:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
    return answer(address, f"plugin/backprop/{route}?{query}")


def steps_by_run(address: str) -> dict[str, list[int]]:
    return {run: [step for step, _ in frames] for run, frames in get_json(address, "plugin/backprop/runs").items()}


def scalar_points(address: str, run: str, tag: str) -> list[tuple[int, float]]:
    """The points of a curve in the Scalars tab."""
    rows: Iterable[tuple[float, int, float]] = get_json(address, f"plugin/scalars/scalars?run={run}&tag={tag}")
    return [(step, value) for _, step, value in rows]
