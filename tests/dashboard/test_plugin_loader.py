"""The entry point of the plugin, and the number of frames that TensorBoard keeps."""

from argparse import Namespace
from importlib.metadata import entry_points

import pytest
from tensorboard.plugins.base_plugin import TBLoader

from bp_torch.dashboard.plugin.loader import BackpropLoader


def test_tensorboard_finds_the_plugin_by_its_entry_point() -> None:
    (found,) = (point for point in entry_points(group="tensorboard_plugins") if point.name == "bp_torch")
    assert found.load() is BackpropLoader
    assert issubclass(BackpropLoader, TBLoader)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"backprop": 0}),  # 0: all of them
        ({"images": 5}, {"images": 5, "backprop": 0}),
        ({"backprop": 10}, {"backprop": 10}),
        (None, None),
    ],
)
def test_every_frame_is_kept_unless_a_user_wants_fewer(
    given: dict[str, int] | None, expected: dict[str, int] | None
) -> None:
    flags = Namespace(samples_per_plugin=given)
    BackpropLoader().fix_flags(flags)
    assert flags.samples_per_plugin == expected
