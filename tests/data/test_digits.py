"""Drawn digits: always the same, evenly spread, sized like MNIST's, and readable."""

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

LABELS = torch.arange(1200) % 10  # more than are drawn at once


def digest(images: Tensor) -> str:
    """SHA-256 of the pixels."""
    return hashlib.sha256(images.numpy()).hexdigest()


def features(split: Split) -> Tensor:
    """Pixels in [0, 1] and a 1 for the bias: float64 (N, 785)."""
    pixels = split.images.flatten(start_dim=1).double() / 255
    return torch.cat([pixels, torch.ones(len(pixels), 1, dtype=pixels.dtype)], dim=1)


@pytest.fixture(scope="module")
def weights(digits: Dataset) -> Tensor:
    """A linear model fitted to the one-hot labels of some training digits by ridge regression: (785, 10)."""
    some = Split(digits.train.images[:6000], digits.train.labels[:6000])
    inputs = features(some)
    targets = torch.eye(10, dtype=inputs.dtype)[some.labels]
    return torch.linalg.solve(inputs.T @ inputs + 10 * torch.eye(785), inputs.T @ targets)


def accuracy(weights: Tensor, split: Split) -> float:
    """The share of examples that a linear model reads right."""
    return ((features(split) @ weights).argmax(dim=1) == split.labels).double().mean().item()


# What the set is


def test_counts_shapes_and_types(digits: Dataset) -> None:
    assert digits.name == "digits"
    assert "bp_torch" in digits.origin
    for split, count in ((digits.train, 20_000), (digits.test, 4_000)):
        assert split.images.shape == (count, 28, 28)
        assert split.labels.shape == (count,)
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)


def test_classes_are_balanced_and_shuffled(digits: Dataset) -> None:
    for split in (digits.train, digits.test):
        assert split.labels.bincount().tolist() == [len(split.labels) // 10] * 10
        first = split.labels[:1000].bincount(minlength=10)
        assert first.min() > 60, "the first thousand should hold about a hundred of each"
        assert first.unique().numel() > 1, "exactly even counts: not shuffled"


def test_no_image_comes_twice(digits: Dataset) -> None:
    images = torch.cat([digits.train.images, digits.test.images])
    assert len({image.tobytes() for image in images.numpy()}) == 24_000


def test_the_set_can_be_drawn_again(digits: Dataset) -> None:
    assert torch.equal(draw(digits.test.labels, seed=2), digits.test.images)


# What an image is like


def test_ink_on_an_empty_background(digits: Dataset) -> None:
    images = digits.train.images
    assert (images == 0).double().mean() > 0.7
    assert (images[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).all(), "ink in a corner"
    assert images.amax(dim=(1, 2)).min() > 150, "an image without a clear stroke"
    ink = images.double().mean().item() / 255
    assert ink == pytest.approx(0.1307, rel=0.1), "the mean pixel should be near MNIST's"


def test_digits_are_sized_and_centred_as_in_mnist(digits: Dataset) -> None:
    ink = digits.train.images.double()
    places = torch.arange(28, dtype=ink.dtype)
    for along in (1, 2):
        profile = ink.sum(dim=along)
        centre = (profile @ places) / profile.sum(dim=1)
        assert centre.mean().item() == pytest.approx(14, abs=0.05)
        assert (centre - 14).abs().max() < 1.5
    sides = torch.stack([(ink.amax(dim=along) > 25).sum(dim=1) for along in (1, 2)])
    longer = sides.amax(dim=0)
    assert longer.min() >= 17
    assert longer.max() <= 23
    assert longer.double().mean().item() == pytest.approx(20, abs=0.5)


def test_digits_stand_upright(digits: Dataset) -> None:
    """Ones are tall and narrow and lean to the right, as people write; sevens have their bar on top."""
    ones, sevens = (digits.train.images[digits.train.labels == digit].double().mean(dim=0) for digit in (1, 7))
    across, down = (ones.sum(dim=along) / ones.sum() for along in (0, 1))
    assert down.square().sum() < 0.8 * across.square().sum(), "the ink of ones should spread more down than across"
    middles = (ones @ torch.arange(28, dtype=ones.dtype)) / ones.sum(dim=1)  # the ink's middle in each row
    assert middles[7] > middles[20] + 2
    assert sevens[4:12].sum() > 1.3 * sevens[16:24].sum()


def test_the_edge_of_the_image_is_rarely_touched(digits: Dataset) -> None:
    images = digits.train.images
    edge = torch.cat([images[:, [0, -1], :], images[:, :, [0, -1]].mT], dim=1)
    assert (edge.amax(dim=(1, 2)) > 25).double().mean() < 0.05


# The same again


def test_the_seed_decides() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = draw(LABELS, seed=3)
    assert torch.equal(draw(LABELS, seed=3), first)
    assert not torch.equal(draw(LABELS, seed=4), first)
    assert torch.equal(torch.get_rng_state(), state), "drawing must leave the global generator alone"


def test_a_fresh_process_with_other_threads_draws_the_same_bytes_and_needs_no_torchvision() -> None:
    code = f"""
import hashlib, sys, torch
from bp_torch.data.digits import draw
torch.set_num_threads({torch.get_num_threads() + 2})
images = draw(torch.arange({len(LABELS)}) % 10, seed=3)
print(hashlib.sha256(images.numpy()).hexdigest(), "torchvision" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert output.stdout.split() == [digest(draw(LABELS, seed=3)), "False"]


def test_the_pixels_are_those_of_the_documented_results(digits: Dataset) -> None:
    hashes = [digest(split.images)[:16] for split in (digits.train, digits.test)]
    assert hashes == ["5ca90f56d8d6e3c0", "e4f7372509a1722d"]


def test_drawing_uses_one_thread_and_restores_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads cost up to ten times the CPU time on a busy machine."""
    counts = []

    def counted(*args: Any) -> Tensor:
        counts.append(torch.get_num_threads())
        return draw_chunk(*args)

    draw_chunk = module._draw
    monkeypatch.setattr(module, "_draw", counted)
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


def test_the_default_dtype_does_not_matter() -> None:
    expected = draw(LABELS[:50], seed=3)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(draw(LABELS[:50], seed=3), expected)
    finally:
        torch.set_default_dtype(torch.float32)


# Readable


def test_a_linear_model_reads_them(digits: Dataset, weights: Tensor) -> None:
    assert accuracy(weights, digits.test) > 0.85


def test_a_linear_model_that_saw_only_them_reads_mnist(weights: Tensor, unpacked: Path) -> None:
    assert accuracy(weights, load("mnist", unpacked).test) > 0.6


def test_each_digit_is_drawn_after_its_label() -> None:
    """Drawn alone or among others, a digit looks like its class's mean in the set more than like any other's."""
    labels = torch.arange(10).repeat_interleave(200)
    means = draw(labels, seed=5).double().view(10, 200, 784).mean(dim=1)
    for digit in range(10):
        mean = draw(torch.full((200,), digit), seed=6).double().flatten(start_dim=1).mean(dim=0)
        assert int(torch.cdist(mean[None], means).argmin()) == digit


# Bad and odd calls


def test_no_labels_give_no_images() -> None:
    assert draw(torch.zeros(0, dtype=torch.int64), seed=0).shape == (0, 28, 28)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_digit_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match=f"labels: expected digits from 0 to 9, got .*{label}"):
        draw(torch.tensor([5, label]), seed=0)
