"""Frames of a training run: their steps and content, also after an interruption."""

from typing import Any, get_args

import pytest
import torch
from recording import RecordingLogger, train, train_once

from bp_torch.data import Dataset
from bp_torch.training.backends import build_backend
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.logging.events import AgreementEvent, FrameEvent, NetworkEvent, StepEvent
from bp_torch.training.logging.traces import frame_steps
from bp_torch.training.loop import Trainer


@pytest.mark.parametrize("backend", get_args(Backend))
def test_the_network_is_followed_by_frames_from_the_first_to_the_last_step(small_digits: Dataset, backend: str) -> None:
    trainer, logger, _ = train_once(small_digits, frames=5, backend=backend)
    assert logger.steps(FrameEvent) == sorted(frame_steps(30, 5))
    assert logger.steps(FrameEvent)[0] == 0
    assert logger.steps(FrameEvent)[-1] == trainer.steps - 1 == 29
    (network,) = logger.of_type(NetworkEvent)
    assert logger.events[0] is network
    assert (network.step, network.steps, network.sizes, network.refusal) == (0, 30, (784, 16, 16, 10), None)
    assert network.labels.tolist() == list(range(10)), "one test digit of each class"


def test_by_default_there_are_sixty_frames(small_digits: Dataset) -> None:
    trainer, logger, _ = train(small_digits, frames=TrainConfig().frames, compare_every=0, epochs=7)
    assert trainer.steps == 70
    assert len(set(logger.steps(FrameEvent))) == len(logger.of_type(FrameEvent)) == 60


def test_zero_frames(small_digits: Dataset) -> None:
    _, logger, _ = train_once(small_digits, frames=0, epochs=1)
    assert not logger.of_type(FrameEvent)
    assert not logger.of_type(NetworkEvent)


@pytest.mark.parametrize("option", [{"momentum": 0.9}, {"weight_decay": 0.1}, {"optimizer": "adamw"}])
def test_a_step_that_the_tab_does_not_explain_has_no_frames(small_digits: Dataset, option: dict[str, Any]) -> None:
    _, logger, _ = train(small_digits, frames=5, epochs=1, compare_every=0, **option)
    (network,) = logger.of_type(NetworkEvent)
    assert network.refusal == "the tab shows steps without momentum, weight decay and AdamW"
    assert not logger.of_type(FrameEvent)


@pytest.mark.parametrize("backend", get_args(Backend))
def test_gradients_are_compared_at_the_steps_of_frames(small_digits: Dataset, backend: str) -> None:
    _, logger, summary = train_once(small_digits, frames=5, backend=backend)
    assert logger.steps(AgreementEvent) == sorted(frame_steps(30, 5) | {0, 10, 20})
    assert summary["gradient_checks"] == summary["gradient_checks_passed"] == 6 * len(logger.of_type(AgreementEvent))
    compared = {event.step: event.comparisons for event in logger.of_type(AgreementEvent)}
    assert all(frame.comparisons == compared[frame.step] for frame in logger.of_type(FrameEvent))
    assert {comparison.name for comparison in compared[0]} == set(logger.of_type(FrameEvent)[0].gradients)


@pytest.mark.parametrize("backend", get_args(Backend))
def test_frames_without_comparisons(small_digits: Dataset, backend: str) -> None:
    _, logger, summary = train_once(small_digits, frames=5, compare_every=0, backend=backend)
    assert logger.steps(FrameEvent) == sorted(frame_steps(30, 5))
    assert all(frame.comparisons == () for frame in logger.of_type(FrameEvent))
    assert not logger.of_type(AgreementEvent)
    assert summary["gradient_checks"] == 0


def test_frames_do_not_add_step_events(small_digits: Dataset) -> None:
    _, logger, _ = train(small_digits, frames=60, compare_every=0, batch_size=10, epochs=2)
    assert logger.steps(StepEvent) == [0, 100]


@pytest.mark.parametrize("cost", ["squared_error", "cross_entropy"])
def test_a_frame_shows_its_mini_batch_and_the_network_before_its_step(small_digits: Dataset, cost: str) -> None:
    """Compare the last frame with a run that stopped before that step."""
    options: dict[str, Any] = {"epochs": 2, "batch_size": 300, "cost": cost, "learning_rate": 0.5, "frames": 3}
    _, logger, _ = train_once(small_digits, **options)
    fresh = Trainer(TrainConfig(**options), small_digits)
    batches = [batch for epoch in range(2) for batch in fresh.batches.epoch(epoch)]
    for step, batch in enumerate(batches[:-1]):
        fresh.backend.sgd_step(*batch, 0.5 * (1 - step / 8))
    frame, (inputs, targets) = logger.of_type(FrameEvent)[-1], batches[-1]
    assert (frame.step, frame.learning_rate) == (7, pytest.approx(0.5 / 8))
    assert len(inputs) == 100, "a thousand in mini-batches of 300"
    assert torch.equal(frame.inputs, inputs)
    assert torch.equal(frame.labels, targets if cost == "cross_entropy" else targets.argmax(1))
    expected_cost, expected = build_backend("builtin", fresh.model, fresh.cost).gradients(inputs, targets)
    torch.testing.assert_close(frame.gradients, expected, rtol=1e-4, atol=1e-6)
    assert frame.costs[10:].mean().item() == pytest.approx(expected_cost.item(), rel=1e-5)
    outputs = torch.cat([logger.of_type(NetworkEvent)[0].inputs, inputs])
    torch.testing.assert_close(frame.layers[-1].activations, fresh.model(outputs).detach())


def test_a_resumed_run_has_the_frames_of_an_uninterrupted_run(small_digits: Dataset) -> None:
    _, uninterrupted, _ = train(small_digits, frames=7, compare_every=0)
    config, before, after = TrainConfig(epochs=3, frames=7, compare_every=0), RecordingLogger(), RecordingLogger()
    interrupted = Trainer(config, small_digits, [before])
    resumed = Trainer(config, small_digits, [after])
    with pytest.raises(Interruption):
        interrupted.run(lambda: interrupt_after(14, interrupted))
    resumed.load_state(interrupted.state())
    resumed.run()
    assert after.steps(NetworkEvent) == [14]
    assert before.of_type(FrameEvent)
    frames = before.of_type(FrameEvent) + after.of_type(FrameEvent)
    assert [frame.step for frame in frames] == uninterrupted.steps(FrameEvent)
    for frame, expected in zip(frames, uninterrupted.of_type(FrameEvent), strict=True):
        assert torch.equal(frame.inputs, expected.inputs)
        assert torch.equal(frame.costs, expected.costs)


class Interruption(Exception):
    pass


def interrupt_after(step: int, trainer: Trainer) -> None:
    if trainer.step == step:
        raise Interruption
