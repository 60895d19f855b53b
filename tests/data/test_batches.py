"""Mini-batches: each example once per epoch, in an order given by the seed and the epoch."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bp_torch.data import Batches, prepare


def order(batches: Batches, epoch: int) -> Tensor:
    """The order of the examples in one epoch, for batches whose targets are the examples' indices."""
    return torch.cat([targets for _, targets in batches.epoch(epoch)])


def indexed(count: int, batch_size: int = 10, *, seed: int = 0) -> Batches:
    """Batches of `count` examples; example i has input [2i, -i] and target i."""
    indices = torch.arange(count)
    return Batches(torch.stack([2 * indices, -indices], dim=1).float(), indices, batch_size, seed=seed)


def test_prepare_scales_pixels_to_zero_to_one() -> None:
    images = torch.zeros(3, 28, 28, dtype=torch.uint8)
    images[1, 0, 1], images[2, 27, 27] = 255, 51
    inputs = prepare(images)
    assert inputs.shape == (3, 1, 28, 28)
    assert inputs.dtype == torch.float32
    assert inputs.sum() == pytest.approx(1.2)
    assert inputs[1, 0, 0, 1] == 1
    assert inputs[2, 0, 27, 27] == pytest.approx(0.2)


def test_prepare_copies_and_accepts_an_empty_set() -> None:
    images = torch.full((2, 28, 28), 255, dtype=torch.uint8)
    prepare(images)
    assert (images == 255).all()
    assert prepare(images[:0]).shape == (0, 1, 28, 28)


def test_prepare_moves_the_images_to_the_device() -> None:
    assert prepare(torch.zeros(1, 28, 28, dtype=torch.uint8), "meta").device.type == "meta"


def test_prepare_rejects_scaled_pixels() -> None:
    with pytest.raises(TypeError, match=r"images: expected uint8 .* got torch\.float32"):
        prepare(torch.rand(2, 28, 28))


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(), epoch=st.integers(0))
def test_an_epoch_contains_each_example_once(count: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = indexed(count, batch_size, seed=seed)
    epoch_batches = list(batches.epoch(epoch))
    assert len(epoch_batches) == len(batches)
    assert [len(targets) for _, targets in epoch_batches[:-1]] == [batch_size] * (len(epoch_batches) - 1)
    assert 1 <= len(epoch_batches[-1][1]) <= batch_size
    assert order(batches, epoch).sort().values.tolist() == list(range(count))


def test_inputs_and_targets_match() -> None:
    for inputs, targets in indexed(25).epoch(3):
        assert torch.equal(inputs, torch.stack([2 * targets, -targets], dim=1).float())


def test_a_short_last_batch_is_used() -> None:
    batches = indexed(23)
    assert len(batches) == 3
    assert [len(targets) for _, targets in batches.epoch(0)] == [10, 10, 3]


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    batches = indexed(100, seed=4)
    first = order(batches, 7)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    order(batches, 8)
    assert torch.equal(order(batches, 7), first)
    assert torch.equal(order(indexed(100, batch_size=33, seed=4), 7), first)
    assert torch.equal(torch.get_rng_state(), before), "the order must not use the global generator"


def test_every_seed_and_epoch_has_its_own_order() -> None:
    orders = {
        tuple(order(indexed(100, seed=seed), epoch).tolist()) for seed, epoch in product(range(-2, 12), range(12))
    }
    assert len(orders) == 14 * 12, (
        "two pairs share an order, as seed 0, epoch 1 and seed 1, epoch 0 do with seed + epoch"
    )


def test_shuffling_is_uniform() -> None:
    """Over many epochs, each example's mean position is the middle, within 5 standard deviations."""
    batches = indexed(20, seed=0)
    positions = torch.stack([order(batches, epoch).argsort() for epoch in range(400)]).double()
    deviation = (20**2 - 1) ** 0.5 / 12**0.5 / 400**0.5  # of the mean of 400 uniform draws from 0..19
    assert (positions.mean(dim=0) - 9.5).abs().max() < 5 * deviation


def test_batches_do_not_share_memory_with_the_data() -> None:
    batches = indexed(10)
    for inputs, _ in batches.epoch(0):
        inputs.zero_()
    assert batches.inputs.abs().sum() > 0


@pytest.mark.parametrize(
    ("inputs", "targets", "batch_size", "message"),
    [
        (0, 0, 1, "inputs: expected at least one example"),
        (5, 4, 1, "targets: expected one for each of the 5 inputs, got 4"),
        (5, 5, 0, "batch_size: expected at least 1, got 0"),
        (5, 5, -3, "batch_size: expected at least 1, got -3"),
    ],
)
def test_invalid_arguments_are_named(inputs: int, targets: int, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Batches(torch.zeros(inputs, 2), torch.zeros(targets), batch_size, seed=0)
