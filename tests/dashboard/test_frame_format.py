"""The files of the Backprop tab, decoded by the safetensors library."""

import json
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_frames import EXAMPLES, PROBES, SIZES, tiny_frame, tiny_network
from torch import Tensor

from bp_torch.dashboard import tags
from bp_torch.dashboard.frame_format import FORMAT, frame_file, mini_batch_cost, network_file
from bp_torch.dashboard.writer import TensorBoardLogger
from bp_torch.gradients import Comparison
from bp_torch.training.logging.events import FrameEvent, NetworkEvent

KINDS = ("weight", "bias", "weight.gradient", "bias.gradient", "activations", "slopes", "nudges")


def metadata_of(content: bytes) -> dict[str, Any]:
    """The header of a file: its length in eight bytes, then JSON."""
    (length,) = struct.unpack_from("<Q", content)
    ((kind, text),) = json.loads(content[8 : 8 + length])["__metadata__"].items()
    assert kind in ("network", "frame")

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return dict(json.loads(text, parse_constant=refuse))


def inflated(content: bytes, columns: int) -> Tensor:
    """The inputs in a file, a row for each example."""
    metadata = metadata_of(content)
    shades = torch.frombuffer(bytearray(zlib.decompress(load(content)["inputs"].numpy().tobytes())), dtype=torch.uint8)
    return metadata["low"] + shades.view(-1, columns) * (metadata["high"] - metadata["low"]) / 255


@pytest.fixture
def network() -> NetworkEvent:
    return tiny_network()


@pytest.fixture
def frame() -> FrameEvent:
    return tiny_frame(3)


def test_a_network_file_has_what_all_frames_share(network: NetworkEvent) -> None:
    content = network_file(network)
    assert {name: value for name, value in metadata_of(content).items() if name not in ("low", "high")} == {
        "format": FORMAT, "steps": 700, "cost": "squared_error", "sizes": [6, 4, 3], "kept": [6, 4, 3],
        "names": [["0.weight", "0.bias"], ["2.weight", "2.bias"]], "functions": ["sigmoid", "sigmoid"], "refusal": None,
    }  # fmt: skip
    assert load(content).keys() == {"inputs", "labels"}
    assert torch.equal(load(content)["labels"], torch.tensor([7, 8], dtype=torch.int32))
    torch.testing.assert_close(inflated(content, 6), network.inputs, rtol=0, atol=1e-7)


def test_a_frame_file_has_every_number_of_its_event(frame: FrameEvent, network: NetworkEvent) -> None:
    content = frame_file(frame, network)
    found = load(content)
    assert found.keys() == {"inputs", "labels", "costs", *(f"{place}.{kind}" for place in (0, 1) for kind in KINDS)}
    for place, layer in enumerate(frame.layers):
        for kind in ("weight", "bias", "activations", "slopes", "nudges"):
            assert torch.equal(found[f"{place}.{kind}"], getattr(layer, kind)), kind
        for kind, name in zip(("weight", "bias"), layer.names, strict=True):
            assert torch.equal(found[f"{place}.{kind}.gradient"], frame.gradients[str(name)])
    assert torch.equal(found["costs"], frame.costs)
    assert found["labels"].tolist() == [7, 8, 0, 1, 2, 0, 1], "the probes first"
    torch.testing.assert_close(inflated(content, 6), frame.inputs, rtol=0, atol=1e-7)
    metadata = metadata_of(content)
    assert (metadata["step"], metadata["examples"], metadata["learning_rate"], metadata["comparisons"]) == (
        3,
        EXAMPLES,
        0.5,
        [],
    )


def test_the_cost_is_that_of_the_mini_batch(network: NetworkEvent) -> None:
    frame = tiny_frame(0, costs=torch.tensor([100.0, 100.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    assert mini_batch_cost(frame, network) == metadata_of(frame_file(frame, network))["cost"] == 3


def test_comparisons_are_in_the_metadata(
    frame: FrameEvent, network: NetworkEvent, compared: Callable[[str, float], Comparison]
) -> None:
    right, wrong = compared("0.weight", 1.0), compared("0.bias", 1.5)
    first, second = metadata_of(frame_file(replace(frame, comparisons=(right, wrong)), network))["comparisons"]
    assert first == {
        "name": "0.weight", "passed": True, "difference": 2**-23, "relative_difference": pytest.approx(2**-23),
        "cosine": pytest.approx(1), "error_ratio": 0,
    }  # fmt: skip
    assert (second["name"], second["passed"], second["error_ratio"]) == ("0.bias", False, 2**22)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_every_pixel_is_restored(shades: list[int]) -> None:
    """Exactly, even if the mini-batch has no black or no white pixel."""
    inputs = torch.tensor([shades]) / 255
    found = inflated(frame_file(tiny_frame(0, inputs=inputs), tiny_network()), len(shades))
    assert (found * 255).round().tolist() == [shades]


def test_inputs_of_any_range_are_restored_to_half_a_shade() -> None:
    inputs = torch.linspace(-3, 5, 30).view(5, 6)
    found = inflated(frame_file(tiny_frame(0, inputs=inputs), tiny_network()), 6)
    torch.testing.assert_close(found, inputs, rtol=0, atol=8 / 255 / 2 + 1e-6)


def test_wide_layers_are_cut_to_what_can_be_drawn() -> None:
    sizes = (784, 30, 24, 40, 10)
    frame, network = tiny_frame(0, sizes), tiny_network(sizes)
    found = load(frame_file(frame, network))
    shapes = [(24, 784), (24, 24), (24, 24), (10, 24)]
    assert [found[f"{place}.weight"].shape for place in range(4)] == shapes
    assert [found[f"{place}.weight.gradient"].shape for place in range(4)] == shapes
    assert [len(found[f"{place}.bias"]) for place in range(4)] == [24, 24, 24, 10]
    first = frame.layers[0]
    expected = (first.slopes * first.nudges).double() @ first.weight.double()  # by all thirty
    largest = expected.abs().amax(1, keepdim=True)
    torch.testing.assert_close(
        (found["pixel_nudges"].double() - 128) / 127 * largest, expected, rtol=0, atol=largest.max() / 250
    )
    for place, layer in enumerate(frame.layers):
        assert torch.equal(found[f"{place}.weight"], layer.weight[:24] if place == 0 else layer.weight[:24, :24])
        assert torch.equal(found[f"{place}.slopes"], layer.slopes[:, :24])
    metadata = metadata_of(network_file(network))
    assert (metadata["sizes"], metadata["kept"]) == (list(sizes), [784, 24, 24, 24, 10])


def test_frames_that_cannot_be_drawn_are_not_written(tmp_path: Path) -> None:
    sizes = (1025, 4, 3)
    with TensorBoardLogger(tmp_path) as recorder:
        recorder.record(tiny_network(sizes))
        recorder.record(tiny_frame(0, sizes))
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.Tags()["tensors"] == [tags.NETWORK]


@pytest.mark.parametrize(("examples", "kept"), [(100, 100), (101, 100), (250, 100), (1, 1)])
def test_large_mini_batches_are_cut_and_counted(examples: int, kept: int) -> None:
    frame, network = tiny_frame(0, examples=examples), tiny_network()
    content = frame_file(frame, network)
    found, metadata = load(content), metadata_of(content)
    assert metadata["examples"] == examples
    assert metadata["cost"] == pytest.approx(frame.costs[PROBES:].mean().item()), "of all its examples"
    assert {len(found[name]) for name in ("labels", "costs", "0.activations", "1.nudges")} == {PROBES + kept}
    torch.testing.assert_close(inflated(content, 6), frame.inputs[:kept], rtol=0, atol=4e-3)


@pytest.mark.parametrize(("inputs", "refused"), [(1024, None), (1025, "it has 1,025 inputs, and at most 1,024")])
def test_more_inputs_than_can_be_drawn_are_refused(inputs: int, refused: str | None) -> None:
    content = network_file(tiny_network((inputs, 3)))
    assert str(metadata_of(content)["refusal"]).startswith(str(refused))
    assert ("inputs" in load(content)) is (refused is None)


def test_a_network_without_frames_has_only_the_reason() -> None:
    content = network_file(tiny_network((6,), names=(), functions=(), refusal="it is round"))
    assert (metadata_of(content)["refusal"], metadata_of(content)["sizes"], metadata_of(content)["format"]) == (
        "it is round",
        [6],
        FORMAT,
    )
    assert load(content).keys() == {"labels"}


def test_frozen_parameters_have_no_gradient_and_missing_ones_nothing() -> None:
    frame = tiny_frame(0)
    frozen = replace(frame.layers[0], names=(None, None))
    unbiased = replace(frame.layers[1], names=("2.weight", None), bias=None)
    gradients = {"2.weight": frame.gradients["2.weight"]}
    found = load(frame_file(replace(frame, layers=(frozen, unbiased), gradients=gradients), tiny_network()))
    assert {"0.weight", "0.bias", "1.weight", "1.weight.gradient"} <= found.keys()
    assert not {"0.weight.gradient", "0.bias.gradient", "1.bias", "1.bias.gradient"} & found.keys()


def test_non_finite_numbers_are_null_in_metadata_and_kept_in_arrays(
    network: NetworkEvent, compared: Callable[[str, float], Comparison]
) -> None:
    costs = torch.tensor([0.0, 0.0, 1.0, math.nan, 3.0, math.inf, -math.inf])
    frame = tiny_frame(0, costs=costs, learning_rate=math.inf, comparisons=(compared("0.bias", math.nan),))
    frame.layers[0].nudges[0, 0] = math.nan
    metadata, found = metadata_of(frame_file(frame, network)), load(frame_file(frame, network))
    assert metadata["cost"] is metadata["learning_rate"] is metadata["comparisons"][0]["difference"] is None
    assert metadata["comparisons"][0]["passed"] is False
    torch.testing.assert_close(found["costs"], costs, equal_nan=True)
    assert found["0.nudges"][0, 0].isnan()


def test_float64_is_kept_as_float32(network: NetworkEvent) -> None:
    wide = tiny_frame(0, SIZES)
    wide = replace(wide, costs=wide.costs.double(), inputs=wide.inputs.double())
    kinds = {name: array.dtype for name, array in load(frame_file(wide, network)).items()}
    assert (kinds.pop("inputs"), kinds.pop("labels")) == (torch.uint8, torch.int32)
    assert set(kinds.values()) == {torch.float32}
