"""A run that is gone on with is the run that was never stopped; what cannot be gone on with is refused."""

import math
from typing import Any, get_args

import pytest
import torch
from kept import Kept, weights

from bp_torch.data import Dataset
from bp_torch.training.checkpoint import packed, unpacked
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.folder import RunError
from bp_torch.training.loop import Trainer
from bp_torch.training.records import EpochRecord, StepRecord
from bp_torch.training.run import _go_on


@pytest.mark.parametrize("backend", get_args(Backend))
def test_gone_on_with_from_any_step_it_is_the_same_run(small_digits: Dataset, backend: Any) -> None:
    """Parameters and costs, bit for bit, from each of twenty steps, the ends of epochs among them."""
    config = TrainConfig(epochs=2, backend=backend, compare_every=3, frames=4)
    trainer, states = Trainer(config, small_digits, [unbroken := Kept()]), dict[int, bytes]()

    def keep() -> None:
        states[trainer.step] = packed(trainer.state())

    summary = trainer.run(keep)
    assert list(states) == list(range(1, 21))
    for step, content in states.items():
        torch.rand(7)  # which a run of its own would not have drawn
        again = Trainer(config, small_digits, [rest := Kept()])
        again.load_state(unpacked(content))
        assert torch.equal(torch.get_rng_state(), unpacked(content)["random"]["cpu"])
        ended = again.run()
        assert all(torch.equal(a, b) for a, b in zip(weights(trainer), weights(again), strict=True))
        assert {k: v for k, v in ended.items() if "second" not in k} == {
            k: v for k, v in summary.items() if "second" not in k
        }
        costs = [record.cost for record in unbroken.of(StepRecord) if record.step >= step]
        assert [record.cost for record in rest.of(StepRecord)] == costs
        evaluated = [record for record in unbroken.of(EpochRecord) if record.step >= step]
        assert rest.of(EpochRecord) == evaluated


HUGE = torch.ones(1).expand(10**11)
"""A view of one number, which must not be copied."""


@pytest.mark.parametrize(
    "damage",
    [
        {"epoch": -3}, {"epoch": math.inf}, {"epoch": HUGE}, {"mini_batch": -1}, {"mini_batch": "0"},
        {"comparisons": -1}, {"comparisons_passed": 7}, {"worst_ratio": math.nan}, {"seconds": -1.0},
        {"seconds": math.nan}, {"best": HUGE}, {"best": [0.5]}, {"best": [HUGE, 3]}, {"evaluated": HUGE},
        {"evaluated": {"epoch": -3}}, {"evaluated": {"nothing": 3}}, {"optimizer": HUGE}, {"optimizer": 3},
        {"random": HUGE}, {"random": {"cpu": HUGE}}, {"random": {"cpu": torch.ones(3)}}, {"parameters": {}},
        {"parameters": HUGE}, {"parameters": {"0.weight": HUGE}},
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_is_refused(small_digits: Dataset, damage: dict[str, Any]) -> None:
    trainer = Trainer(TrainConfig(epochs=1), small_digits)
    with pytest.raises((ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)):
        trainer.load_state({**trainer.state(), **damage})


def test_an_end_without_an_evaluation_is_refused(small_digits: Dataset) -> None:
    trainer = Trainer(TrainConfig(epochs=1, run_name="a"), small_digits)
    for damage in ({"epoch": 1}, {"parameters": {n: p / 0 for n, p in trainer.state()["parameters"].items()}}):
        with pytest.raises(RunError, match=r"cannot resume 'a': its checkpoint\.pt does not fit its config\.json"):
            _go_on(trainer, {**trainer.state(), **damage})
