"""Convolutional networks, transformers and recurrent ones in training: everything that holds for dense ones."""

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from recording import RecordingLogger, parameters, train

from bp_torch import nn
from bp_torch.data import Dataset, Split
from bp_torch.models import MODELS
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.logging.events import (
    AgreementEvent,
    DistributionEvent,
    DrawingEvent,
    ExplanationEvent,
    FrameEvent,
    MapEvent,
    NetworkEvent,
    NoiseEvent,
    PictureEvent,
)
from bp_torch.training.loop import Trainer
from bp_torch.training.state.run import load_trained
from bp_torch.training.state.run_dir import CHECKPOINT, CONFIG, RunError, pack, unpack, write_json

OPTIONS: dict[str, Any] = {
    "model": "lenet", "cost": "cross_entropy", "momentum": 0.9, "weight_decay": 5e-4, "learning_rate": 0.05
}  # fmt: skip


def tiny(classes: int) -> torch.nn.Sequential:
    """A network with running statistics and random masks."""
    return torch.nn.Sequential(
        nn.AvgPool2d(4), nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(100, classes),
    )  # fmt: skip


@pytest.fixture
def lenet_is_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "lenet", tiny)


def state(trainer: Trainer) -> list[torch.Tensor]:
    return [*parameters(trainer), *(buffer.clone() for buffer in trainer.model.buffers())]


CONVOLUTIONAL = "lenet", "lenet-1998", "resnet"


@pytest.mark.parametrize("model", MODELS)
def test_every_gradient_agrees(small_digits: Dataset, model: str) -> None:
    examples, size = (60, 20) if model in CONVOLUTIONAL else (8, 4)
    few = replace(small_digits, **{
        name: Split(*(x[:count] for x in getattr(small_digits, name)))
        for name, count in {"train": examples, "test": 40}.items()
    })  # fmt: skip
    epochs, warmup = (2, 0) if model in CONVOLUTIONAL else (1, 1)
    changes = {"batch_size": size, "epochs": epochs, "compare_every": 1, "frames": 3, "warmup_steps": warmup}
    trainer, logger, summary = train(few, **vars(replace(TrainConfig.defaults(model), **changes)))
    failed = [str(c) for event in logger.of_type(AgreementEvent) for c in event.comparisons if not c.passed]
    assert not failed, "\n".join(failed)
    assert summary["gradient_checks"] == epochs * (examples // size) * len(list(trainer.model.parameters()))
    if model != "resnet":  # whose many ReLUs change sides along any direction
        orders = [event.taylor_order for event in logger.of_type(AgreementEvent)]
        order = statistics.median(order for order in orders if math.isfinite(order))
        assert 1.9 < order < (2.2 if model in CONVOLUTIONAL else 4)  # of few examples, the second order may be small
    assert bool(logger.of_type(NoiseEvent)) == (model != "resnet")
    assert bool(trainer.monitor.noise_unsupported) == (model == "resnet")
    (network,) = logger.of_type(NetworkEvent)
    assert network.refusal
    assert not logger.of_type(FrameEvent)
    assert not logger.of_type(ExplanationEvent)
    assert_pictures(model, trainer, logger)


def assert_pictures(model: str, trainer: Trainer, logger: RecordingLogger) -> None:
    """Of the first weights and of maps, or of digits drawn."""
    if model == "gpt":
        drawing = logger.of_type(DrawingEvent)[-1]
        assert drawing.images.shape == (2 * len(set(drawing.labels.tolist())), 14, 14)
        torch.testing.assert_close(3 * drawing.images, (3 * drawing.images).round().clamp(0, 3))
    else:
        (shape,) = {event.first_weights.shape for event in logger.of_type(PictureEvent)}
        assert shape == next(p for name, p in trainer.model.named_parameters() if "weight" in name).shape
    kinds = {"lstm": set(), "vit": {"attention"}, "gpt": {"attention"}}.get(model, {"feature maps"})
    assert {event.kind for event in logger.of_type(MapEvent)} == kinds
    for event in logger.of_type(MapEvent):
        assert event.images.shape == (4, 28, 28)
        assert event.maps.shape == event.gradients.shape
        assert event.gradients.any()
    first = {"vit": "patches", "lstm": "rows.lstm", "gpt": "tokens"}.get(model, "conv")
    assert next(iter(logger.of_type(DistributionEvent)[-1].activations)).startswith(first)


@pytest.mark.usefixtures("lenet_is_tiny")
@pytest.mark.parametrize("backend", get_args(Backend))
def test_comparing_and_logging_leave_no_trace(small_digits: Dataset, backend: str) -> None:
    """Neither in the weights, nor in running statistics, nor in the masks of later steps."""
    without, _, _ = train(small_digits, **OPTIONS, backend=backend, epochs=2, compare_every=0)
    logged, logger, summary = train(small_digits, **OPTIONS, backend=backend, epochs=2, compare_every=1)
    assert all(torch.equal(a, b) for a, b in zip(state(without), state(logged), strict=True))
    assert summary["gradient_checks"] == summary["gradient_checks_passed"] == 20 * 5
    assert logger.steps(AgreementEvent) == list(range(20))


@pytest.mark.usefixtures("lenet_is_tiny")
@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "cosine"}])
def test_all_backends_take_the_same_steps(small_digits: Dataset, optimizer: dict[str, Any]) -> None:
    """With the masks, the running statistics, momentum and weight decay of PyTorch's own layers."""
    options = {**OPTIONS, **optimizer, "warmup_steps": 3}
    functions, engine, builtin = (train(small_digits, **options, backend=b)[0] for b in get_args(Backend))
    for other in (functions, engine):
        torch.testing.assert_close(state(other), state(builtin), rtol=2e-3, atol=2e-4)


@pytest.mark.usefixtures("lenet_is_tiny")
@pytest.mark.parametrize(("backend", "optimizer"), [("functions", "adamw"), ("engine", "adamw"), ("engine", "sgd")])
def test_a_resumed_run_equals_the_uninterrupted_run(small_digits: Dataset, backend: Any, optimizer: Any) -> None:
    config = TrainConfig(**OPTIONS, epochs=2, backend=backend, compare_every=6, optimizer=optimizer, warmup_steps=8)
    trainer, states = Trainer(config, small_digits, [RecordingLogger()]), dict[int, bytes]()

    def save() -> None:
        states[trainer.step] = pack(trainer.state())

    trainer.run(save)
    for step in (1, 7, 10, 13):
        torch.rand(7)  # a change of the random state
        again = Trainer(config, small_digits, [RecordingLogger()])
        again.load_state(unpack(states[step]))
        again.run()
        assert all(torch.equal(a, b) for a, b in zip(state(trainer), state(again), strict=True)), step


def test_a_trained_network_is_loaded(small_digits: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(**OPTIONS, epochs=1, compare_every=0, run_name="a", runs_dir=tmp_path, batch_size=500)
    trainer = Trainer(config, small_digits)
    trainer.run()
    (tmp_path / "a").mkdir()
    write_json(tmp_path / "a" / CONFIG, config.as_dict())
    (tmp_path / "a" / CHECKPOINT).write_bytes(pack(trainer.state()))
    loaded, model = load_trained(tmp_path / "a")
    assert loaded == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trainer.model.parameters(), strict=True))


def test_images_of_another_size_are_refused_in_one_line(
    small_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bp_torch.training.state import run

    small = replace(small_digits, **{
        name: Split(getattr(small_digits, name).images[:, :20, :20], getattr(small_digits, name).labels)
        for name in ("train", "test")
    })  # fmt: skip
    monkeypatch.setattr(run, "load", lambda *args, **options: small)
    config = TrainConfig(**OPTIONS, run_name="small", runs_dir=tmp_path)
    with pytest.raises(RunError, match=r"^--model lenet does not take images of 20 × 20 pixels: [^\n]*$"):
        run.train(config, lambda folder, step: [])
    assert not (tmp_path / "small").exists()


def test_each_model_has_its_own_defaults() -> None:
    for model in MODELS:
        config = TrainConfig.defaults(model)
        assert (config.model, config.cost) == (model, "cross_entropy")
        assert (config.optimizer, config.momentum) == (("sgd", 0.9) if model in CONVOLUTIONAL else ("adamw", 0.0))
    assert TrainConfig.defaults("mlp") == TrainConfig()


@pytest.mark.usefixtures("lenet_is_tiny")
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_never_measured_with_batch_normalization(small_digits: Dataset, seed: int) -> None:
    trainer, logger, _ = train(small_digits, **OPTIONS, epochs=1, compare_every=3, seed=seed)
    assert "BatchNorm mixes" in trainer.monitor.noise_unsupported
    assert not logger.of_type(NoiseEvent)
