"""Training runs in this process, and all events of them."""

import functools
from typing import Any

from torch import Tensor

from bp_torch.data import Dataset
from bp_torch.training.config import TrainConfig
from bp_torch.training.logging.events import Event
from bp_torch.training.loop import Trainer
from bp_torch.training.state.run_dir import State


class RecordingLogger:
    """A logger that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def steps(self, kind: type[Any]) -> list[int]:
        return [event.step for event in self.of(kind)]


def train(dataset: Dataset, **options: Any) -> tuple[Trainer, RecordingLogger, dict[str, Any]]:
    """Three epochs without frames, unless the options say otherwise."""
    logger = RecordingLogger()
    config = TrainConfig(**{"epochs": 3, "compare_every": 10, "frames": 0, **options})
    trainer = Trainer(config, dataset, [logger])
    return trainer, logger, trainer.run()


trained = functools.cache(train)
"""The same, trained once for all tests that only look at it."""


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach() for p in trainer.model.parameters()]


def changed(state: State, **changes: Any) -> State:
    """A state with other values, or of Tensors other Tensors; None removes one."""
    values, tensors = dict(state.values), dict(state.tensors)
    for name, value in changes.items():
        kind = tensors if isinstance(value, Tensor) or name in tensors else values
        kind[name] = value
    return State(values, {name: tensor for name, tensor in tensors.items() if tensor is not None})
