"""The pictures, pixel by pixel: sizes, colours, and inputs that cannot be drawn."""

import math
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary

from bp_torch.dashboard.pictures import first_weights, worst_digits

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def pixels(picture: Summary.Image) -> npt.NDArray[np.int64]:
    with Image.open(BytesIO(picture.encoded_image_string)) as png:
        assert png.size == (picture.width, picture.height)
        return np.asarray(png.convert("RGB")).astype(np.int64)


def share(picture: Summary.Image, colour: tuple[int, int, int]) -> float:
    """Which pixels have this colour, within the tolerance of a palette."""
    return float((abs(pixels(picture) - colour) <= 6).all(axis=-1).mean())


@pytest.mark.parametrize("neurons", [1, 2, 10, 16, 64, 100])
def test_any_number_of_neurons_fits(neurons: int) -> None:
    picture = first_weights(torch.randn(neurons, 784))
    assert picture is not None
    assert picture.width == 640
    assert pixels(picture).shape[0] == picture.height <= 640


def test_neurons_beyond_64_are_left_out() -> None:
    weights = torch.randn(70, 784).clamp(-1, 1)
    fewer, more = first_weights(weights), first_weights(weights + (torch.arange(70) >= 64).view(-1, 1) * 9)
    assert fewer == more


@pytest.mark.parametrize("shape", [(16, 10), (16, 0), (0, 784), (3, 785)])
def test_inputs_that_are_not_a_square_image_have_no_picture(shape: tuple[int, int]) -> None:
    assert first_weights(torch.randn(shape)) is None


def test_blue_excites_orange_inhibits_and_the_scale_is_centred_on_zero() -> None:
    weights = torch.tensor([[0.5] * 784, [-0.25] * 784, [0.0] * 784, [-0.5] * 784])
    picture = first_weights(weights)
    assert picture is not None
    seen = pixels(picture)
    at = {n: tuple(seen[60 + 172 + 345 * (n // 2), 16 + 172 + 345 * (n % 2)]) for n in range(4)}
    blue, pale, white, orange = (at[n] for n in range(4))
    assert orange == pytest.approx(ORANGE, abs=6), "the most negative weight has the deepest orange"
    assert blue == pytest.approx(BLUE, abs=6), "the largest one has the deepest blue"
    assert pale == pytest.approx([(255 + channel) / 2 for channel in ORANGE], abs=6)
    assert min(white) > 240


def test_weights_that_are_not_finite_stay_blank_and_do_not_stretch_the_scale() -> None:
    weights = torch.full((2, 784), math.nan)
    assert first_weights(weights) is not None
    weights[1, :392] = math.inf
    weights[1, 392:588], weights[1, 588:] = -1.0, -2.0
    picture = first_weights(weights)
    assert picture is not None
    assert 0.05 < share(picture, ORANGE) < 0.12, "a quarter of one map of the four there is room for"
    assert share(picture, (255, 255, 255)) > 0.5


def test_weights_that_are_all_zero_are_drawn_white() -> None:
    picture = first_weights(torch.zeros(4, 784))
    assert picture is not None
    assert (pixels(picture) > 240).mean() > 0.9


def test_a_bar_is_as_high_as_its_output_blue_for_the_class_and_orange_for_the_answer() -> None:
    blank, labels = torch.zeros(1, 28, 28, dtype=torch.uint8), torch.tensor([8])
    outputs = torch.zeros(1, 10)
    outputs[0, 3] = 1.0
    without = worst_digits(blank, labels, outputs)
    outputs[0, 8] = 0.5
    half = worst_digits(blank, labels, outputs)
    outputs[0, 3] = 0.75
    less = worst_digits(blank, labels, outputs)
    blue, orange = share(half, BLUE) - share(without, BLUE), share(half, ORANGE) - share(less, ORANGE)
    assert share(without, BLUE) == pytest.approx(share(less, BLUE) - blue)
    assert blue == pytest.approx(2 * orange, rel=0.1), "a half, against one less three quarters"


@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_rows_of_four_digits(count: int) -> None:
    images = torch.full((count, 28, 28), 255, dtype=torch.uint8)
    picture = worst_digits(images, torch.arange(count) % 10, torch.rand(count, 10))
    ink = (pixels(picture) == 0).all(axis=-1).sum()
    assert ink == pytest.approx(count * (28 * 0.98 * 640 / 148) ** 2, rel=0.1)


def test_digits_beyond_12_are_left_out() -> None:
    images, labels = torch.randint(256, (20, 28, 28), dtype=torch.uint8), torch.zeros(20, dtype=torch.int64)
    outputs = torch.rand(20, 10)
    assert worst_digits(images, labels, outputs) == worst_digits(images[:12], labels[:12], outputs[:12])


def test_outputs_beyond_0_and_1_are_drawn_as_0_and_1() -> None:
    images, labels = torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([1, 0])
    wild = torch.tensor([[math.nan, 0.5, 7.0], [-1.0, math.inf, 0.0]])
    tame = torch.tensor([[0.0, 0.5, 1.0], [0.0, 1.0, 0.0]])
    assert worst_digits(images, labels, wild) == worst_digits(images, labels, tame)


def test_without_a_misclassified_digit_the_picture_says_so() -> None:
    picture = worst_digits(
        torch.empty(0, 28, 28, dtype=torch.uint8), torch.empty(0, dtype=torch.int64), torch.empty(0, 10)
    )
    assert 0 < (pixels(picture) < 128).mean() < 0.2
    assert picture.height < 100
