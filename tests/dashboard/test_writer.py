"""Each recorded value is in the event files once, under the right tag, at the right step."""

import math
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.compat.proto import summary_pb2
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.util.tensor_util import make_ndarray
from tiny_frames import tiny_frame

from bp_torch.dashboard import frame_format, layout, tags
from bp_torch.dashboard.writer import TensorBoardLogger
from bp_torch.training.logging import events as records
from bp_torch.training.logging.events import ParameterHealth, RunStarted

Write = Callable[..., list[Event]]

WHOLE_RUN = {
    tags.MINI_BATCH_COST: (100, 0.75),
    tags.MINI_BATCH_ACCURACY: (100, 0.5),
    tags.LEARNING_RATE: (100, 0.25),
    tags.EXAMPLES_PER_SECOND: (100, 2000),
    tags.agreement("difference", "0.weight"): (200, 2**-23),
    tags.agreement("difference", "0.bias"): (200, 0.5),
    tags.agreement("relative_difference", "0.weight"): (200, 2**-23),
    tags.agreement("relative_difference", "0.bias"): (200, 0.5),
    tags.agreement("cosine", "0.weight"): (200, 1),
    tags.agreement("cosine", "0.bias"): (200, 1),
    tags.agreement("error_ratio", "0.weight"): (200, 0),
    tags.agreement("error_ratio", "0.bias"): (200, 2**22),
    tags.WORST_ERROR_RATIO: (200, 2**22),
    tags.FAILED_COMPARISONS: (200, 1),
    tags.TAYLOR_ORDER: (200, 2),
    tags.NOISE_SCALE: (200, 0.75),
    tags.noise("mean_norm", "0.weight"): (200, 1.5),
    tags.noise("total_variance", "0.weight"): (200, 4),
    tags.noise("signal_to_noise", "0.weight"): (200, 1.5),
    tags.noise_scale("0.weight"): (200, 0.5),
    tags.noise("mean_norm", "0.bias"): (200, 1.5),
    tags.noise("total_variance", "0.bias"): (200, 1),
    tags.noise("signal_to_noise", "0.bias"): (200, 1),
    tags.noise_scale("0.bias"): (200, 2),
    tags.health("gradient_norm", "0.weight"): (300, 3),
    tags.health("update_ratio", "0.weight"): (300, 0.25),
    tags.health("gradient_norm", "0.bias"): (300, 4),
    tags.health("update_ratio", "0.bias"): (300, 0.125),
    tags.GRADIENT_NORM: (300, 5),
    tags.TRAIN_COST: (500, 0.25),
    tags.TRAIN_ACCURACY: (500, 0.875),
    tags.TEST_COST: (500, 0.5),
    tags.TEST_ACCURACY: (500, 0.75),
}


def scalars(events: list[Event]) -> dict[str, tuple[int, float]]:
    return {
        value.tag: (event.step, value.simple_value)
        for event in events
        for value in event.summary.value
        if value.HasField("simple_value")
    }


def values(events: list[Event]) -> dict[str, Any]:
    return {value.tag: value for event in events for value in event.summary.value}


def points(folder: Path, tag: str, loader: ModuleType) -> list[tuple[int, float]]:
    """A curve, read by one of TensorBoard's loaders."""
    board = loader.EventAccumulator(str(folder))
    board.Reload()
    if loader is event_accumulator:
        return [(point.step, point.value) for point in board.Scalars(tag)]
    return [(point.step, make_ndarray(point.tensor_proto).item()) for point in board.Tensors(tag)]


def test_every_scalar_of_a_run_has_its_tag_step_and_value(whole_run: list[Event]) -> None:
    found = scalars(whole_run)
    assert found.keys() == WHOLE_RUN.keys()
    for tag, expected in WHOLE_RUN.items():
        assert found[tag] == pytest.approx(expected, rel=1e-6), tag


def test_each_record_but_the_heartbeat_is_one_event(whole_run: list[Event]) -> None:
    assert [event.step for event in whole_run] == [0, 100, 200, 200, 300, 400, 500, 600, 650, 650, 670, 700]


def test_frames_belong_to_their_plugin_only(whole_run: list[Event], one_of_each: list[records.Event]) -> None:
    """Otherwise TensorBoard would show charts and texts of them."""
    of_plugin = {value.tag: value for value in values(whole_run).values() if value.tag.startswith("backprop/")}
    classes = {tag: value.metadata.data_class for tag, value in of_plugin.items()}
    assert classes == {
        tags.NETWORK: summary_pb2.DATA_CLASS_BLOB_SEQUENCE,
        tags.FRAME: summary_pb2.DATA_CLASS_BLOB_SEQUENCE,
        tags.FRAME_COST: summary_pb2.DATA_CLASS_SCALAR,
    }
    assert {value.metadata.plugin_data.plugin_name for value in of_plugin.values()} == {tags.BACKPROP}
    network, frame = (
        next(r for r in one_of_each if isinstance(r, k)) for k in (records.NetworkEvent, records.FrameEvent)
    )
    contents = {tag: make_ndarray(value.tensor).tolist() for tag, value in of_plugin.items()}
    assert contents[tags.NETWORK] == [frame_format.network_file(network)]
    assert contents[tags.FRAME] == [frame_format.frame_file(frame, network)]
    assert contents[tags.FRAME_COST] == 0.75, "of the mini-batch, not of the probes"


def test_a_frame_without_a_network_is_ignored(write: Write) -> None:
    assert write(tiny_frame(3)) == []


def test_a_resumed_run_starts_at_its_first_step(write: Write, run_started: RunStarted) -> None:
    assert [event.step for event in write(replace(run_started, step=600))] == [600]


def test_unknown_kinds_are_ignored(write: Write) -> None:
    assert write("not a record", None) == []


def test_numbers_that_are_not_finite_are_kept(write: Write) -> None:
    found = scalars(
        write(
            records.StepEvent(1, 0, math.inf, math.nan, 0.5, -math.inf),
            records.EpochEvent(2, 1, 1e300, math.nan, math.nan, math.nan),
            records.HealthEvent(3, math.nan, {"0.weight": ParameterHealth(math.nan, math.inf)}),
        )
    )
    assert found[tags.MINI_BATCH_COST][1] == math.inf
    assert math.isnan(found[tags.MINI_BATCH_ACCURACY][1])
    assert found[tags.EXAMPLES_PER_SECOND][1] == -math.inf
    assert found[tags.TRAIN_COST][1] == math.inf, "beyond float32, in which TensorBoard keeps scalars"
    assert math.isnan(found[tags.GRADIENT_NORM][1])
    assert found[tags.health("update_ratio", "0.weight")][1] == math.inf


def test_histograms_of_weights_gradients_and_activations(write: Write) -> None:
    zeros, ones, twos = (torch.full((3,), float(number)) for number in range(3))
    found = values(write(records.DistributionEvent(9, {"0": zeros}, {"1": ones}, {"2": twos})))
    edges = {tag: make_ndarray(value.tensor)[-1].tolist() for tag, value in found.items()}
    assert edges == {tags.weights("0"): [0, 0, 3], tags.gradients("1"): [1, 1, 3], tags.activations("2"): [2, 2, 3]}


def test_histograms_hold_what_is_finite(write: Write) -> None:
    tensors = {
        "broken": torch.tensor([math.nan, -1.0, 2.0, math.inf, 2.0]),
        "half": torch.tensor([1.0, 3.0], dtype=torch.bfloat16, requires_grad=True),
    }
    lost = {"empty": torch.empty(0), "nothing finite": torch.tensor([math.nan])}
    found = values(write(records.DistributionEvent(9, tensors, lost, {"1": torch.zeros(4, 5)})))
    assert found.keys() == {tags.weights("broken"), tags.weights("half"), tags.activations("1")}
    buckets = make_ndarray(found[tags.weights("broken")].tensor)  # left edge, right edge, count
    assert buckets[:, 2].sum() == 3
    assert (buckets[0, 0], buckets[-1, 1], buckets[-1, 2]) == (-1, 2, 2)
    assert make_ndarray(found[tags.activations("1")].tensor)[:, 2].sum() == 20


def test_pictures_are_png_of_the_stated_size(write: Write, picture: records.PictureEvent) -> None:
    found = values(write(picture))
    assert found.keys() == {tags.FIRST_WEIGHTS, tags.WORST_DIGITS}
    for value in found.values():
        with Image.open(BytesIO(value.image.encoded_image_string)) as png:
            assert png.format == "PNG"
            assert png.size == (value.image.width, value.image.height)


def test_weights_of_inputs_that_are_not_an_image_have_no_picture(write: Write, picture: records.PictureEvent) -> None:
    assert values(write(replace(picture, first_weights=torch.randn(4, 7)))).keys() == {tags.WORST_DIGITS}


def test_the_first_event_describes_the_run(write: Write, run_started: RunStarted) -> None:
    page = make_ndarray(values(write(run_started))[tags.RUN_START].tensor).item().decode()
    for part in (
        "Data: digits",
        "in place of MNIST",
        "13,002",
        "| learning\\_rate | 0.5 |",
        "3.11.2",
        "--run-name 'a|b' |",
    ):
        assert part in page


def test_hparams_hold_the_configuration_and_name_metrics_that_exist(whole_run: list[Event]) -> None:
    content = {tag: value.metadata.plugin_data.content for tag, value in values(whole_run).items()}
    experiment = hparams_metadata.parse_experiment_plugin_data(content[hparams_metadata.EXPERIMENT_TAG])
    started = hparams_metadata.parse_session_start_info_plugin_data(content[hparams_metadata.SESSION_START_INFO_TAG])
    ended = hparams_metadata.parse_session_end_info_plugin_data(content[hparams_metadata.SESSION_END_INFO_TAG])
    assert [metric.name.tag for metric in experiment.metric_infos] == list(layout.METRICS)
    assert set(layout.METRICS) <= scalars(whole_run).keys()
    assert {info.name for info in experiment.hparam_infos} == started.hparams.keys()
    assert started.group_name == "run"
    assert started.hparams["hidden"].string_value == "(16, 16)"
    assert started.hparams["learning_rate"].number_value == 0.5
    assert started.hparams["shuffle"].bool_value is True
    assert started.hparams["resume"].string_value == "None"
    assert ended.status == Status.Value("STATUS_SUCCESS")


@pytest.mark.parametrize("loader", [event_accumulator, plugin_event_accumulator])
@pytest.mark.parametrize(("purge_step", "expected"), [(100, [(0, 1), (100, 2), (200, 2)]), (0, [(100, 2), (200, 2)])])
def test_a_resumed_run_replaces_the_events_from_its_first_step_on(
    tmp_path: Path, loader: ModuleType, purge_step: int, expected: list[tuple[int, float]]
) -> None:
    for first_step, steps, cost in ((0, (0, 100, 200, 300), 1.0), (purge_step, (100, 200), 2.0)):
        with TensorBoardLogger(tmp_path, purge_step=first_step) as recorder:
            for step in steps:
                recorder.record(records.StepEvent(step, 0, cost, 0.5, 0.1, 1.0))
    assert points(tmp_path, tags.MINI_BATCH_COST, loader) == expected


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    recorder = TensorBoardLogger(tmp_path)
    recorder.record(records.StepEvent(7, 0, 1.0, 0.5, 0.1, 1.0))
    assert points(tmp_path, tags.MINI_BATCH_COST, event_accumulator) == [(7, 1)]
    recorder.close()


def test_the_time_it_took_is_counted(tmp_path: Path, picture: records.PictureEvent) -> None:
    with TensorBoardLogger(tmp_path) as recorder:
        assert recorder.seconds == 0
        recorder.record(picture)
        assert recorder.seconds > 0


def test_closing_twice_is_allowed_and_ends_the_recording(tmp_path: Path) -> None:
    with TensorBoardLogger(tmp_path) as recorder:
        recorder.close()
    with pytest.raises(ValueError, match="closed"):
        recorder.record(records.StepEvent(0, 0, 1.0, 0.5, 0.1, 1.0))


def test_a_failure_is_shown_with_its_mini_batch(whole_run: list[Event]) -> None:
    page = make_ndarray(values(whole_run)[tags.RUN_FAILURE].tensor).item().decode()
    assert "At step 670" in page
    assert "first in the output of module hidden2" in page
    assert page.endswith("4 8")


def test_a_resumed_run_repairs_damaged_files_and_reports_it(tmp_path: Path) -> None:
    with TensorBoardLogger(tmp_path) as recorder:
        recorder.record(records.EpochEvent(5, 1, 0.25, 0.875, 0.5, 0.75))
    assert recorder.remarks == []
    (path,) = tmp_path.glob("events.out.tfevents.*")
    path.write_bytes(path.read_bytes() + b"torn")
    with TensorBoardLogger(tmp_path, purge_step=6) as recorder:
        assert recorder.remarks == [f"{path.name} was damaged: 4 bytes of it cannot be read, the rest is kept"]
