"""The pictures of nudges, pixel by pixel: positions and colours."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.dashboard import pictures
from bp_torch.dashboard.pictures import draw_explanations
from bp_torch.data.digits import draw
from bp_torch.inspection import Explanation, explain

BLUE, HALF_BLUE, ORANGE, WHITE = (0x00, 0x72, 0xB2), (0x7F, 0xB8, 0xD8), (0xD5, 0x5E, 0x00), (255, 255, 255)
WIDTH, HEIGHT = 438, 120
"""Of one digit's place."""
SHADE = 24
"""Tolerance for a palette of 256 colours."""

Array = npt.NDArray[np.int64]


def explained(count: int, *hidden: int, activation: str = "sigmoid") -> list[Explanation]:
    torch.manual_seed(count)
    model, images = nn.mlp((784, *hidden, 10), activation), draw(torch.arange(count), seed=5)
    return [explain(model, F.squared_error, image, label) for label, image in enumerate(images)]


def places(picture: Summary.Image) -> list[Array]:
    """The picture of each digit, row by row, (120, 438, 3)."""
    with Image.open(BytesIO(picture.encoded_image_string)) as png:
        assert png.size == (picture.width, picture.height)
        seen = np.asarray(png.convert("RGB")).astype(np.int64)
    down, across = seen.shape[0] // HEIGHT, seen.shape[1] // WIDTH
    assert seen.shape == (down * HEIGHT, across * WIDTH, 3)
    return [part for row in np.split(seen, down) for part in np.split(row, across, axis=1)]


def square(place: Array, left: int) -> Array:
    """The colour at the centre of each of 28 by 28 pixels from this column on, (28, 28, 3)."""
    return place[24 + 1 : 24 + 84 : 3, 3 * left + 1 : 3 * (left + 28) : 3]


def image_of(place: Array) -> Array:
    return square(place, 2)


def nudges_of(place: Array) -> Array:
    return square(place, 2 + 28 + 4)


def as_seen(explanation: Explanation) -> tuple[Array, npt.NDArray[np.float64]]:
    """The expected brightness of each pixel, and the expected difference of its nudge from white, blue positive."""
    ink, nudges = explanation.image.double(), explanation.pixel_nudges.double()
    return (255 * (1 - ink)).view(28, 28).numpy(), (nudges / nudges.abs().max()).view(28, 28).numpy()


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_each_digit_has_its_ink_and_its_nudges_side_by_side(count: int) -> None:
    explanations = explained(count, 16)
    picture = draw_explanations(explanations)
    assert (picture.width, picture.height) == (2 * WIDTH, HEIGHT * (1 + (count - 1) // 2))
    seen = places(picture)
    for place, explanation in zip(seen, explanations, strict=False):
        ink, nudges = as_seen(explanation)
        assert abs(image_of(place) - ink[..., None]).max() <= SHADE
        red, _, blue = np.moveaxis(nudges_of(place), -1, 0)
        expected = np.where(nudges > 0, (0xB2 - 0x00) * nudges, (0xD5 - 0x00) * nudges)
        assert abs(blue - red - expected).max() <= 2 * SHADE
    for empty in seen[count:]:
        assert (empty >= 250).all()


def test_blue_is_more_orange_less_and_the_largest_is_the_deepest() -> None:
    model = torch.nn.Sequential(nn.Linear(784, 10))
    pattern = torch.zeros(28, 28)
    pattern[:14, :14], pattern[:14, 14:], pattern[14:, :14] = 1.0, -1.0, 0.5
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.zero_()
        model[0].weight[3] = 1e-3 * pattern.flatten()
    explanation = explain(model, F.squared_error, torch.zeros(784), 3)
    (place, _) = places(draw_explanations([explanation]))
    seen = nudges_of(place)
    for rows, columns, colour in ((0, 0, BLUE), (0, 14, ORANGE), (14, 0, HALF_BLUE), (14, 14, WHITE)):
        assert abs(seen[rows : rows + 14, columns : columns + 14] - colour).max() <= SHADE
    assert (image_of(place) > 255 - SHADE).all()


def test_no_nudge_is_white() -> None:
    torch.manual_seed(0)
    model, image = nn.mlp((784, 16, 10)), draw(torch.tensor([4]), seed=1)[0]
    with torch.no_grad():
        outputs = model(image.view(1, -1) / 255)[0]
    explanation = explain(model, F.squared_error, image, outputs)
    assert not explanation.pixel_nudges.any()
    place = places(draw_explanations([explanation]))[0]
    assert (nudges_of(place) >= 250).all()
    assert image_of(place).min() < SHADE


@pytest.mark.parametrize(
    ("hidden", "activation"),
    [((), "sigmoid"), ((100,), "sigmoid"), ((16, 16), "relu"), ((8, 8, 8, 8), "tanh"), ((1,), "softplus")],
)
def test_any_network_is_drawn_next_to_them(
    hidden: tuple[int, ...], activation: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with large activations, and without warnings."""
    torch.manual_seed(0)
    model = nn.mlp((784, *hidden, 10), activation, output_activation="identity")
    with torch.no_grad():
        model[0].weight.mul_(1e4)
    image = draw(torch.tensor([7]), seed=1)[0]
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        place = places(draw_explanations([explain(model, F.squared_error, image, 7)]))[0]
    assert not caplog.records
    network = place[20:, 3 * 65 : 3 * 144]
    coloured = np.ptp(network, axis=-1) > 60  # neither black nor white nor grey
    assert coloured.sum() > 50, "rims, and edges"
    assert coloured[:, -15:].any(), "the outputs are on its right"
    assert coloured[:, :15].any() == bool(hidden), "the first hidden layer is on its left"


def test_captions_have_class_answer_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(pictures, "render", figures.append)
    explanations = explained(3, 4)
    draw_explanations(explanations)
    (axes,) = figures[0].axes
    captions = {text.get_text(): text.get_position() for text in axes.texts}
    assert list(captions) == [
        f"label {label}, read as {int(one.outputs.argmax())}, cost {one.cost:.3f}"
        for label, one in enumerate(explanations)
    ]
    assert list(captions.values()) == [(2, 6.5), (148, 6.5), (2, 46.5)]  # above each digit, in pixels of the digits
