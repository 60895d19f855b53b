"""Synthetic digits: deterministic, balanced, sized like MNIST's, and recognizable."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch.data import Dataset, Split, load
from bp_torch.data import digits as module
from bp_torch.data.digits import draw

LABELS = torch.arange(1200) % 10  # several chunks


def digest(images: Tensor) -> str:
    """The SHA-256 of the pixels."""
    return hashlib.sha256(images.numpy()).hexdigest()


def features(split: Split) -> Tensor:
    """Pixels in [0, 1] and a 1 for the bias: float64 (N, 785)."""
    pixels = split.images.flatten(start_dim=1).double() / 255
    return torch.cat([pixels, torch.ones(len(pixels), 1, dtype=pixels.dtype)], dim=1)


@pytest.fixture(scope="module")
def weights(digits: Dataset) -> Tensor:
    """A linear classifier (785, 10), fitted to training digits by ridge regression on one-hot labels."""
    fitted = Split(digits.train.images[:6000], digits.train.labels[:6000])
    inputs = features(fitted)
    targets = torch.eye(10, dtype=inputs.dtype)[fitted.labels]
    return torch.linalg.solve(inputs.T @ inputs + 10 * torch.eye(785), inputs.T @ targets)


def accuracy(weights: Tensor, split: Split) -> float:
    """The fraction of examples that a linear classifier gets right."""
    return ((features(split) @ weights).argmax(dim=1) == split.labels).double().mean().item()


# The data set


def test_counts_shapes_and_dtypes(digits: Dataset) -> None:
    assert digits.name == "digits"
    assert "Synthetic" in digits.origin
    for split, count in ((digits.train, 20_000), (digits.test, 4_000)):
        assert split.images.shape == (count, 28, 28)
        assert split.labels.shape == (count,)
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)


def test_classes_are_balanced_and_shuffled(digits: Dataset) -> None:
    for split in (digits.train, digits.test):
        assert split.labels.bincount().tolist() == [len(split.labels) // 10] * 10
        first = split.labels[:1000].bincount(minlength=10)
        assert first.min() > 60, "the first thousand should contain about a hundred of each"
        assert first.unique().numel() > 1, "exactly even counts: not shuffled"


def test_images_are_unique(digits: Dataset) -> None:
    images = torch.cat([digits.train.images, digits.test.images])
    assert len({image.tobytes() for image in images.numpy()}) == 24_000


def test_the_test_images_can_be_drawn_from_their_labels(digits: Dataset) -> None:
    assert torch.equal(draw(digits.test.labels, seed=2), digits.test.images)


# The images


def test_ink_on_an_empty_background(digits: Dataset) -> None:
    images = digits.train.images
    assert (images == 0).double().mean() > 0.7
    assert (images[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all(), "ink in a corner"
    assert images.amax(dim=(1, 2)).min() > 150, "an image without a clear stroke"
    ink = images.double().mean().item() / 255
    assert ink == pytest.approx(0.1307, rel=0.1), "the mean pixel should be near MNIST's"


def test_digits_are_sized_and_centred_as_in_mnist(digits: Dataset) -> None:
    ink = digits.train.images.double()
    positions = torch.arange(28, dtype=ink.dtype)
    for axis in (1, 2):
        profile = ink.sum(dim=axis)
        centre = (profile @ positions) / profile.sum(dim=1)
        assert centre.mean().item() == pytest.approx(14, abs=0.05)
        assert (centre - 14).abs().max() < 1.5
    sizes = torch.stack([(ink.amax(dim=axis) > 25).sum(dim=1) for axis in (1, 2)])
    longer = sizes.amax(dim=0)
    assert longer.min() >= 17
    assert longer.max() <= 23
    assert longer.double().mean().item() == pytest.approx(20, abs=0.5)


def test_digits_are_upright(digits: Dataset) -> None:
    """Ones are tall and narrow and lean to the right; sevens have their bar at the top."""
    ones, sevens = (digits.train.images[digits.train.labels == digit].double().mean(dim=0) for digit in (1, 7))
    across, down = (ones.sum(dim=axis) / ones.sum() for axis in (0, 1))
    assert down.square().sum() < 0.8 * across.square().sum(), "ones should be taller than wide"
    centres = (ones @ torch.arange(28, dtype=ones.dtype)) / ones.sum(dim=1)  # of the ink in each row
    assert centres[7] > centres[20] + 2
    assert sevens[4:12].sum() > 1.3 * sevens[16:24].sum()


def test_ink_rarely_reaches_the_edge(digits: Dataset) -> None:
    images = digits.train.images
    edge = torch.cat([images[:, [0, -1], :], images[:, :, [0, -1]].mT], dim=1)
    assert (edge.amax(dim=(1, 2)) > 25).double().mean() < 0.05


# Determinism


def test_the_images_depend_on_the_seed() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = draw(LABELS, seed=3)
    assert torch.equal(draw(LABELS, seed=3), first)
    assert not torch.equal(draw(LABELS, seed=4), first)
    assert torch.equal(torch.get_rng_state(), state), "drawing must not use the global generator"


def test_a_new_process_draws_the_same_images_without_torchvision() -> None:
    code = f"""
import hashlib, sys, torch
from bp_torch.data.digits import draw
images = draw(torch.arange({len(LABELS)}) % 10, seed=3)
print(hashlib.sha256(images.numpy()).hexdigest(), "torchvision" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert output.stdout.split() == [digest(draw(LABELS, seed=3)), "False"]


def test_the_images_are_those_of_the_documented_results(digits: Dataset) -> None:
    hashes = [digest(split.images)[:16] for split in (digits.train, digits.test)]
    assert hashes == ["5ca90f56d8d6e3c0", "e4f7372509a1722d"]


def test_drawing_uses_one_thread_and_restores_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, several threads take ten times the CPU time."""
    counts = []

    def record_threads(*args: Any) -> Tensor:
        counts.append(torch.get_num_threads())
        return draw_chunk(*args)

    draw_chunk = module._draw
    monkeypatch.setattr(module, "_draw", record_threads)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        draw(LABELS, seed=3)
        assert set(counts) == {1}
        assert torch.get_num_threads() == 3
        monkeypatch.setattr(module, "_draw", None)
        with pytest.raises(TypeError):
            draw(LABELS, seed=3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_the_images_do_not_depend_on_the_default_dtype() -> None:
    expected = draw(LABELS[:50], seed=3)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(draw(LABELS[:50], seed=3), expected)
    finally:
        torch.set_default_dtype(torch.float32)


# Recognition


def test_a_linear_classifier_recognizes_them(digits: Dataset, weights: Tensor) -> None:
    assert accuracy(weights, digits.test) > 0.85


def test_a_linear_classifier_fitted_to_them_recognizes_mnist(weights: Tensor, unpacked: Path) -> None:
    assert accuracy(weights, load("mnist", unpacked).test) > 0.6


def test_each_image_shows_its_label() -> None:
    """The mean image of each digit, drawn alone, is nearest to that digit's mean in a mixed set."""
    labels = torch.arange(10).repeat_interleave(200)
    means = draw(labels, seed=5).double().view(10, 200, 784).mean(dim=1)
    for digit in range(10):
        mean = draw(torch.full((200,), digit), seed=6).double().flatten(start_dim=1).mean(dim=0)
        assert int(torch.cdist(mean[None], means).argmin()) == digit


# Invalid and empty labels


def test_no_labels_give_no_images() -> None:
    assert draw(torch.zeros(0, dtype=torch.int64), seed=0).shape == (0, 28, 28)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_not_a_digit_is_rejected(label: int) -> None:
    with pytest.raises(ValueError, match=f"labels: expected digits from 0 to 9, got .*{label}"):
        draw(torch.tensor([5, label]), seed=0)
