"""Frames of a run: at which steps, of what, and after a break."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from kept import Kept, trained

from bp_torch.data import Dataset
from bp_torch.training import run
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.folder import CHECKPOINT, CONFIG
from bp_torch.training.frames import frame_steps
from bp_torch.training.loop import Trainer
from bp_torch.training.records import AgreementRecord, FrameRecord, NetworkRecord, StepRecord


@pytest.mark.parametrize("backend", get_args(Backend))
def test_a_network_and_then_frames_of_the_first_step_the_last_and_some_between(
    small_digits: Dataset, backend: str
) -> None:
    trainer, kept, _ = trained(small_digits, frames=5, backend=backend)
    assert kept.steps(FrameRecord) == sorted(frame_steps(30, 5))
    assert kept.steps(FrameRecord)[0] == 0
    assert kept.steps(FrameRecord)[-1] == trainer.steps - 1 == 29
    (network,) = kept.of(NetworkRecord)
    assert kept.records[0] is network
    assert (network.step, network.steps, network.sizes, network.refusal) == (0, 30, (784, 16, 16, 10), None)
    assert network.labels.tolist() == list(range(10)), "a test digit of each class"


def test_by_default_there_are_sixty(small_digits: Dataset) -> None:
    trainer, kept, _ = trained(small_digits, frames=TrainConfig().frames, batch_size=100, epochs=7)
    assert trainer.steps == 70
    assert len(set(kept.steps(FrameRecord))) == len(kept.of(FrameRecord)) == 60


def test_none_if_none_are_wanted(small_digits: Dataset) -> None:
    _, kept, _ = trained(small_digits, frames=0, epochs=1)
    assert not kept.of(FrameRecord)
    assert not kept.of(NetworkRecord)


@pytest.mark.parametrize("backend", get_args(Backend))
def test_gradients_are_compared_at_these_steps_too(small_digits: Dataset, backend: str) -> None:
    _, kept, summary = trained(small_digits, frames=5, backend=backend)
    assert kept.steps(AgreementRecord) == sorted(frame_steps(30, 5) | {0, 10, 20})
    assert summary["gradient_checks"] == summary["gradient_checks_passed"] == 6 * len(kept.of(AgreementRecord))
    compared = {record.step: record.comparisons for record in kept.of(AgreementRecord)}
    assert all(frame.comparisons == compared[frame.step] for frame in kept.of(FrameRecord))
    assert {comparison.name for comparison in compared[0]} == set(kept.of(FrameRecord)[0].gradients)


@pytest.mark.parametrize("backend", get_args(Backend))
def test_frames_without_comparisons(small_digits: Dataset, backend: str) -> None:
    _, kept, summary = trained(small_digits, frames=5, compare_every=0, backend=backend)
    assert kept.steps(FrameRecord) == sorted(frame_steps(30, 5))
    assert all(frame.comparisons == () for frame in kept.of(FrameRecord))
    assert not kept.of(AgreementRecord)
    assert summary["gradient_checks"] == 0


def test_steps_between_are_no_more_reported_than_before(small_digits: Dataset) -> None:
    _, kept, _ = trained(small_digits, frames=60, batch_size=10, epochs=2)
    assert kept.steps(StepRecord) == [0, 100]


@pytest.mark.parametrize("cost", ["squared_error", "cross_entropy"])
def test_a_frame_is_of_its_mini_batch_and_of_the_network_before_its_step(small_digits: Dataset, cost: str) -> None:
    """The last one's, which is looked at while it is taken, against a run that stopped there."""
    options: dict[str, Any] = {"epochs": 2, "batch_size": 300, "cost": cost, "learning_rate": 0.5, "frames": 3}
    _, kept, _ = trained(small_digits, **options)
    fresh = Trainer(TrainConfig(**options), small_digits)
    batches = [batch for epoch in range(2) for batch in fresh.batches.epoch(epoch)]
    for step, batch in enumerate(batches[:-1]):
        fresh.learner.driver.sgd_step(*batch, 0.5 * (1 - step / 8))
    frame, (inputs, targets) = kept.of(FrameRecord)[-1], batches[-1]
    assert (frame.step, frame.learning_rate) == (7, pytest.approx(0.5 / 8))
    assert len(inputs) == 100, "a thousand in mini-batches of 300"
    assert torch.equal(frame.inputs, inputs)
    assert torch.equal(frame.labels, targets if cost == "cross_entropy" else targets.argmax(1))
    judge = fresh.learner._judges[0]  # PyTorch's own layers and autograd
    judge.put(dict(fresh.learner.hand.named_parameters()))
    expected_cost, expected = judge.gradients(inputs, targets)
    torch.testing.assert_close(frame.gradients, expected, rtol=1e-4, atol=1e-6)
    assert frame.costs[10:].mean().item() == pytest.approx(expected_cost.item(), rel=1e-5)
    outputs = torch.cat([kept.of(NetworkRecord)[0].inputs, inputs])
    torch.testing.assert_close(frame.layers[-1].activations, fresh.learner.hand(outputs).detach())


def test_a_resumed_run_s_frames_are_those_of_an_unbroken_run(small_digits: Dataset) -> None:
    _, unbroken, _ = trained(small_digits, frames=7)
    config, before, after = TrainConfig(epochs=3, frames=7), Kept(), Kept()
    broken = Trainer(config, small_digits, [before])
    resumed = Trainer(config, small_digits, [after])
    with pytest.raises(Break):
        broken.run(lambda: break_after(14, broken))
    resumed.load_state(broken.state())
    resumed.run()
    assert after.steps(NetworkRecord) == [14]
    assert before.of(FrameRecord)
    taken = before.of(FrameRecord) + after.of(FrameRecord)
    assert [frame.step for frame in taken] == unbroken.steps(FrameRecord)
    for frame, expected in zip(taken, unbroken.of(FrameRecord), strict=True):
        assert torch.equal(frame.inputs, expected.inputs)
        assert torch.equal(frame.costs, expected.costs)


class Break(Exception):
    pass


def break_after(step: int, trainer: Trainer) -> None:
    if trainer.step == step:
        raise Break


@pytest.fixture
def old_run(small_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stopped after its first epoch, by a version that took no frames, and kept no more than this in its checkpoint."""
    monkeypatch.setattr(run, "load", lambda *_, **__: small_digits)
    trainer = Trainer(TrainConfig(epochs=3, runs_dir=tmp_path, run_name="old", frames=0), small_digits)
    with pytest.raises(Break):
        trainer.run(lambda: break_after(10, trainer))
    (tmp_path / "old").mkdir()
    then = ("parameters", "epoch", "seconds", "comparisons", "comparisons_passed", "worst_ratio")
    torch.save({name: trainer.state()[name] for name in then}, tmp_path / "old" / CHECKPOINT)
    since = ("frames", "replay", "quiet", "checkpoint_seconds")
    config = {**trainer.config.as_dict(), "data": "digits", "data_origin": "a thousand digits"}
    (tmp_path / "old" / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if k not in since}))
    return tmp_path


@pytest.mark.parametrize(("asked", "steps"), [({}, []), ({"frames": 7}, [s for s in frame_steps(30, 7) if s >= 10])])
def test_an_old_run_goes_on_without_frames_unless_asked_for(
    old_run: Path, asked: dict[str, int], steps: list[int]
) -> None:
    kept = Kept()
    summary = run.train(TrainConfig(runs_dir=old_run, resume="old", **asked), lambda *_: [kept], "").summary
    assert summary["epochs"] == 3
    assert kept.steps(FrameRecord) == sorted(steps)


def test_an_old_run_can_be_loaded(old_run: Path) -> None:
    config, learner = run.trained(old_run / "old")
    assert config.frames == 0
    kept = torch.load(old_run / "old" / CHECKPOINT, weights_only=True)["parameters"]
    assert all(torch.equal(kept[name], parameter) for name, parameter in learner.hand.state_dict().items())


def test_it_is_gone_on_with_in_as_many_threads(old_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number of them would round its sums otherwise."""
    path, threads = old_run / "old" / CONFIG, list[int]()
    path.write_text(json.dumps({**json.loads(path.read_text()), "threads": 3}))
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    run.train(TrainConfig(runs_dir=old_run, resume="old"), lambda *_: [], "")
    assert threads == [3]
