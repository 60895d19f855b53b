"""Non-finite numbers: the step is not applied, and the error names the first layer that has one."""

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from recording import RecordingLogger, parameters
from torch import Tensor

from bp_torch.data import Dataset
from bp_torch.functional.linear import Linear
from bp_torch.training.backends import build_backend, require_finite
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.logging.events import StepEvent
from bp_torch.training.loop import NonFinite, Trainer


@pytest.mark.parametrize("backend", get_args(Backend))
def test_an_infinite_cost_stops_before_the_update(small_digits: Dataset, backend: Any) -> None:
    config = TrainConfig(cost="cross_entropy", activation="relu", learning_rate=1e30, epochs=3, backend=backend)
    trainer = Trainer(config, small_digits, [logger := RecordingLogger()])
    with pytest.raises(
        NonFinite, match=r"first in the output of module hidden2 \(Linear\), at step 1 \(epoch 1\): lower --l"
    ) as e:
        trainer.run()
    assert e.value.event.step == trainer.step == 1
    assert torch.equal(e.value.event.examples, trainer.batches.examples(0, 1))
    assert logger.of_type(StepEvent)
    assert all(parameter.isfinite().all() for parameter in parameters(trainer))


def make_infinite(backward: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(ctx: Any, grad_output: Tensor) -> Any:
        grad_input, grad_weight, grad_bias = backward(ctx, grad_output)
        return grad_input, None if grad_weight is None else grad_weight / 0, grad_bias

    return wrong


@pytest.mark.parametrize("backend", ["functions", "builtin"])
def test_a_gradient_that_is_not_finite_stops_before_the_update(
    small_digits: Dataset, monkeypatch: pytest.MonkeyPatch, backend: Any
) -> None:
    """The cost is finite."""
    trainer = Trainer(TrainConfig(backend=backend, compare_every=0, frames=0), small_digits)
    infinite = {name: torch.zeros_like(p) for name, p in trainer.model.named_parameters()}
    infinite["hidden2.weight"][3, 4] = math.inf
    monkeypatch.setattr(trainer.backend, "gradients", lambda *_: (torch.tensor(1.0), infinite))
    monkeypatch.setattr(trainer, "local", build_backend(backend, trainer.model, trainer.cost))
    before = [parameter.clone() for parameter in parameters(trainer)]
    with pytest.raises(NonFinite, match=r"the gradient of 'hidden2.weight' is not finite, but everything is"):
        trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(trainer), strict=True))


def test_the_first_gradient_that_is_not_finite_is_named(small_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Linear, "backward", staticmethod(make_infinite(Linear.backward)))
    trainer = Trainer(TrainConfig(compare_every=0, frames=0), small_digits)
    trainer.step = 1  # not logged
    with pytest.raises(NonFinite, match=r"is not finite, first in the gradient of output.weight, at step 1"):
        trainer.run()


def test_large_finite_gradients_are_accepted() -> None:
    """Their sum overflows."""
    require_finite(torch.tensor(1.0), {"weight": torch.tensor([3e38, 3e38])})
    with pytest.raises(FloatingPointError, match="'bias'"):
        require_finite(torch.tensor(1.0), {"weight": torch.ones(2), "bias": torch.tensor(math.nan)})


def test_parameters_that_are_not_finite_are_not_saved(small_digits: Dataset) -> None:
    trainer = Trainer(TrainConfig(), small_digits)
    trainer.require_finite()
    trainer.step = 4
    parameters(trainer)[2][3, 4] = math.inf
    with pytest.raises(
        NonFinite, match=r"parameters are not finite, first in the parameter hidden2.weight, at step 3 "
    ):
        trainer.require_finite()
