from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch.optim import lr_scheduler as scheduler

from bp_torch.catalogue import CATALOGUE
from bp_torch.nn import ACTIVATIONS
from bp_torch.training.backends import COSTS
from bp_torch.training.config import TrainConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "--batch-size must be from 1 to 1,000,000,000, got 0"),
        ({"epochs": 0}, "--epochs"),
        ({"threads": -1}, "--threads"),
        ({"compare_every": -1}, "--compare-every"),
        ({"frames": -1}, "--frames must be from 0 to 1,000,000, got -1"),
        ({"frames": 1.5}, "--frames must be of type int"),
        ({"seed": -1}, "--seed"),
        ({"learning_rate": 0.0}, "--learning-rate must be from 1e-38 to"),
        ({"learning_rate": 1e39}, r"--learning-rate must be from .* got 1e\+39"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"learning_rate": float("inf")}, "--learning-rate"),
        ({"batch_size": 10**21}, "--batch-size must be from 1 to"),
        ({"optimizer": "adam"}, "--optimizer must be one of sgd, adamw"),
        ({"schedule": "step"}, "--schedule must be one of linear, cosine"),
        ({"warmup_steps": -1}, "--warmup-steps must be from 0 to"),
        ({"checkpoint_seconds": -1.0}, "--checkpoint-seconds"),
        ({"batch_size": 2500.5}, "--batch-size must be of type int"),
        ({"epochs": True}, "--epochs must be of type int"),
        ({"learning_rate": True}, "--learning-rate must be of type float"),
        ({"hidden": [16]}, "--hidden must be integers"),
        ({"hidden": (16, 1.5)}, "--hidden must be integers"),
        ({"hidden": (10**9,)}, "--hidden sizes must be from 1"),
        ({"seed": 2**64}, "--seed"),
        ({"threads": 10**9}, "--threads"),
        ({"device": "meta"}, "--device"),
        ({"run_name": "x" * 300}, "--run-name"),
        ({"run_name": 3}, "--run-name"),
        ({"run_name": "a\nb"}, "--run-name"),
        ({"run_name": "\udcff"}, "--run-name"),
        ({"hidden": (16, 0)}, "--hidden .* got 16 0"),
        ({"model": "lenet", "hidden": (8,)}, "--hidden is a setting of --model mlp; leave it out for lenet"),
        ({"model": "resnet", "activation": "relu"}, "--activation is a setting of --model mlp"),
        ({"model": "gpt"}, "--cost must be cross_entropy for --model gpt"),
        ({"cost": "hinge"}, "--cost must be one of squared_error, cross_entropy"),
        ({"data": "cifar"}, "--data must be one of"),
        ({"activation": "step"}, "--activation must be one of sigmoid, tanh, relu"),
        ({"device": "abacus"}, "--device"),
        ({"run_name": "a/b"}, "--run-name must be a folder name"),
        ({"run_name": ".."}, "--run-name"),
        ({"run_name": ""}, "--run-name"),
        ({"resume": "a", "run_name": "b"}, "--resume"),
        ({"resume": "a", "overwrite": True}, "--resume"),
    ],
)
def test_an_invalid_setting_is_refused_by_its_flag(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TrainConfig(**options)
    assert "\n" not in str(caught.value)


def test_a_configuration_is_read_back_from_json() -> None:
    config = TrainConfig(hidden=(8,), mnist_source=Path("somewhere"), run_name="a")
    assert TrainConfig.from_dict({**config.as_dict(), "data_origin": "not a setting"}) == config


def test_the_configuration_of_an_earlier_version_is_read() -> None:
    values = TrainConfig(run_name="a").as_dict()
    for name in ("model", "optimizer", "schedule", "warmup_steps", "momentum", "weight_decay"):
        del values[name]
    assert TrainConfig.from_dict(values) == TrainConfig(run_name="a")


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_learning_rates_are_those_of_pytorchs_schedulers(schedule: Any, warmup: int) -> None:
    config, steps = TrainConfig(schedule=schedule, warmup_steps=warmup, learning_rate=0.7), 10
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.7)
    falling = (
        scheduler.CosineAnnealingLR(optimizer, steps - warmup)
        if schedule == "cosine"
        else scheduler.LinearLR(optimizer, 1, 0, steps - warmup)
    )
    rising = scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1, warmup)
    both = scheduler.SequentialLR(optimizer, [rising, falling], [warmup])
    expected = []
    for _ in range(steps):
        expected.append(both.get_last_lr()[0])
        optimizer.step()
        both.step()
    assert [config.learning_rate_at(step, steps) for step in range(steps)] == pytest.approx(expected)


def test_the_choices_are_those_of_the_registries() -> None:
    """A new activation or cost needs no change to the configuration."""
    hints = get_type_hints(TrainConfig)
    assert get_args(hints["activation"]) == tuple(ACTIVATIONS)
    assert get_args(hints["cost"]) == tuple(COSTS)
    assert set(COSTS) <= set(CATALOGUE)


def test_a_network_too_large_for_its_data_is_refused() -> None:
    config = TrainConfig(hidden=(100_000, 300))
    with pytest.raises(ValueError, match="--hidden 100000 300 makes 108,503,310 parameters"):
        config.sizes(784, 10)
