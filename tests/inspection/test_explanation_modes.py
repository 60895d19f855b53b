"""Explanations computed in inference mode, and of tensors that change afterwards."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.inspection import Explanation, explain


def entered(image: Tensor) -> Explanation:
    with torch.inference_mode():
        return explain(network(), F.squared_error, image, 1)


def made_there(image: Tensor) -> Explanation:
    with torch.inference_mode():
        image = image.clone()
    return explain(network(), F.squared_error, image, 1)


def without_gradients(image: Tensor) -> Explanation:
    with torch.no_grad():
        return explain(network(), F.squared_error, image, 1)


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return nn.mlp((6, 4, 3))


@pytest.mark.parametrize("way", [without_gradients, entered, made_there])
def test_the_mode_makes_no_difference(way: Callable[[Tensor], Explanation]) -> None:
    image = torch.rand(6)
    found, expected = way(image), explain(network(), F.squared_error, image, 1)
    assert torch.equal(found.pixel_nudges, expected.pixel_nudges)
    assert found.difference == expected.difference < 1e-5


def test_it_does_not_change_when_training_continues() -> None:
    model = network()
    explanation = explain(model, F.squared_error, torch.rand(6), 1)
    before = explanation.layers[0].weight.clone()
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(explanation.layers[0].weight, before)


def test_it_does_not_change_when_the_image_is_overwritten() -> None:
    image = torch.rand(6)
    explanation = explain(network(), F.squared_error, image, 1)
    before = image.clone()
    image.zero_()
    assert torch.equal(explanation.image, before)
    assert torch.equal(explanation.layers[0].inputs, before)
