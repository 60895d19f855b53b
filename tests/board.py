"""A folder of runs for one TensorBoard: whole ones, damaged ones, and what the checker and the experiments leave."""

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
from served import Answer, answer, asked
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, DATA_CLASS_SCALAR, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util.tensor_util import make_tensor_proto
from tiny_frames import tiny_frame, tiny_network

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile, of_tab
from bp_torch.dashboard.frame_format import frame_file, network_file
from bp_torch.dashboard.reports import write_experiments, write_gradients
from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.inspection.experiments import ExperimentResult
from bp_torch.training.logging.events import FrameEvent, NetworkEvent, StepEvent
from bp_torch.training.logging.traces import FrameCapture

MARKUP = "<img src=x onerror=alert('1')>&amp; größer"
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

FUNCTIONS = "| function | samples |\n|---|---|\n| linear | 13 |"
SCORES = "| checker | caught |\n|---|---|\n| ours | 261 |"

FIRST = {
    "kept": ExperimentResult((), {"metric": 1.0}, Figure(figsize=(2, 1)), {"curve": {1: 0.25, 10: 0.5}}),
    "gone": ExperimentResult((), {"metric": 5.0}, Figure(figsize=(2, 1))),
}
SECOND = {"kept": ExperimentResult((), {"metric": 2.0}, Figure(figsize=(2, 1)), {"curve": {5: 0.75}})}


class Board(NamedTuple):
    """Where it lies, and what was written."""

    folder: Path
    network: NetworkEvent
    frames: list[FrameEvent]
    """Of the run named long."""
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
    write_gradients(folder / "gradients", FUNCTIONS, SCORES)
    for results in (FIRST, SECOND):
        write_experiments(folder / "experiments", results.items(), "drawn by hand")
        time.sleep(0.01)  # the files are read in the order of their times
    for name, changes in {"frozen": {"frozen": True}, "wrong": {"wrong": True}}.items():
        write_run(folder / name, **changes)
    wide = write_run(folder / "wide", hidden=40, examples=130)
    write(folder / MARKUP, network, tiny_frame(7))
    return Board(folder, network, frames, write_run(folder / "recorded"), wide)


def write(folder: Path, *recorded: Any, first_step: int = 0) -> None:
    with TensorBoardRecorder(folder, purge_step=first_step) as recorder:
        for record in recorded:
            recorder.record(record)


def write_damaged(folder: Path) -> None:
    """Blobs that are none, an event file that breaks off, and frames that are cut, empty or do not fit."""
    for name, (tensor, data_class) in DAMAGED.items():
        plugin = SummaryMetadata.PluginData(plugin_name=tags.BACKPROP)
        metadata = SummaryMetadata(plugin_data=plugin, data_class=data_class)
        write_values(
            folder / name,
            (0, of_tab(tags.NETWORK, GARBAGE)),
            (3, Summary.Value(tag=tags.FRAME, tensor=tensor, metadata=metadata)),
        )
    (whole,) = (folder / "long").iterdir()
    (folder / "cut").mkdir()
    (folder / "cut" / whole.name).write_bytes(whole.read_bytes()[:100_000])
    network, frame = network_file(tiny_network()), tiny_frame(0)
    content = frame_file(frame, tiny_network())
    zeroed = content[:900] + bytes(len(content) - 900)
    write_blobs(folder / "damaged", network, content, content[:500], zeroed, b"", content)
    misfitting = replace(frame, layers=(frame.layers[0], replace(frame.layers[1], weight=torch.ones(3, 9))))
    uncompared = content.replace(b'\\"comparisons\\": []', b'\\"comparisons\\": 12')
    write_blobs(folder / "misfit", network, uncompared, frame_file(misfitting, tiny_network()), content)


def write_unsupported(folder: Path) -> None:
    """A network that is no chain of dense layers, and a format of the future."""
    model = torch.nn.Sequential(nn.Linear(784, 10), nn.Softmax(1))
    write(folder / "softmax", FrameCapture(model, F.squared_error, PROBES, torch.eye(10)).network(0, 3))
    write_blobs(folder / "later", save({}, {"network": json.dumps({"format": 2})}))


def write_blobs(folder: Path, network: bytes, *steps: bytes) -> None:
    frames = [(step, of_tab(tags.FRAME, content)) for step, content in enumerate(steps)]
    write_values(folder, (0, of_tab(tags.NETWORK, network)), *frames)


def write_values(folder: Path, *values: tuple[int, Summary.Value]) -> None:
    events = EventFile(folder)
    for step, value in values:
        events.write([value], step)
    events.close()


def loaded(address: str, board: Board) -> bool:
    """Whether TensorBoard has read all of it."""
    shown, whole = steps(address), {"long", "resumed", "recorded", "wide", "misfit", MARKUP, "cut", *DAMAGED}
    runs = {path.name for path in board.folder.iterdir()}
    numbers = asked(address, "plugin/scalars/tags").get("experiments", {})
    return (
        set(asked(address, "runs")) == runs
        and whole <= set(shown)
        and [len(shown[run]) for run in ("long", "recorded", "wide")] == [300, 6, 6]
        and tags.experiment("kept", "metric") in numbers
        and "gradients" in asked(address, "plugin/text/tags")
    )


def of(address: str, what: str, **parameters: Any) -> Answer:
    return answer(address, f"plugin/backprop/{what}?" + "&".join(f"{k}={quote(str(v))}" for k, v in parameters.items()))


def steps(address: str) -> dict[str, list[int]]:
    return {run: [step for step, _ in taken] for run, taken in asked(address, "plugin/backprop/runs").items()}


def points(address: str, run: str, tag: str) -> list[tuple[int, float]]:
    """A curve as the Scalars tab has it."""
    shown: Iterable[tuple[float, int, float]] = asked(address, f"plugin/scalars/scalars?run={run}&tag={tag}")
    return [(step, value) for _, step, value in shown]
