"""The charts of the Custom Scalars tab show the scalars that are written."""

import re

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from bp_torch.dashboard import tags
from bp_torch.dashboard.layout import CHARTS, exactly, of_all_parameters

PATTERNS = [pattern for charts in CHARTS.values() for patterns in charts.values() for pattern in patterns]


@pytest.fixture
def written(whole_run: list[Event]) -> set[str]:
    return {value.tag for event in whole_run for value in event.summary.value if value.HasField("simple_value")}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_finds_a_written_scalar(pattern: str, written: set[str]) -> None:
    assert any(re.match(pattern, tag) for tag in written)


def test_every_scalar_but_the_learning_rate_is_in_exactly_one_chart(written: set[str]) -> None:
    found = {tag: sum(bool(re.match(pattern, tag)) for pattern in PATTERNS) for tag in written}
    assert found == {tag: int(tag != tags.LEARNING_RATE) for tag in written}


def test_other_values_are_in_no_chart() -> None:
    kept = (tags.NETWORK, tags.FRAME, tags.FRAME_COST)
    assert not [(pattern, tag) for pattern in PATTERNS for tag in kept if re.match(pattern, tag)]


def test_a_pattern_escapes_special_characters() -> None:
    (pattern,) = exactly("a.b/c+")
    assert re.match(pattern, "a.b/c+")
    assert not re.match(pattern, "axb/c+")
    assert not re.match(pattern, "a.b/c+d")
    (pattern,) = of_all_parameters("a.b/")
    assert re.match(pattern, "a.b/0.weight")
    assert not re.match(pattern, "a.b/")
    assert not re.match(pattern, "axb/0.weight")


def test_tensorboard_reads_the_four_categories(whole_run: list[Event]) -> None:
    (value,) = [value for value in whole_run[0].summary.value if value.tag == metadata.CONFIG_SUMMARY_TAG]
    assert value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME
    layout = layout_pb2.Layout.FromString(value.tensor.string_val[0])
    titles = [category.title for category in layout.category]
    assert titles == ["Learning", "Gradient agreement", "Noise of the mini-batch", "Layer health"]
    assert [tag for c in layout.category for chart in c.chart for tag in chart.multiline.tag] == PATTERNS
