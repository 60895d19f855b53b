"""Training in this process, with a logger that records every event."""

import functools
from typing import Any

from torch import Tensor

from bp_torch.data import Dataset
from bp_torch.training.config import TrainConfig
from bp_torch.training.logging.events import Event
from bp_torch.training.loop import Trainer
from bp_torch.training.state.run_dir import State


class RecordingLogger:
    """A logger that stores the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    def of_type(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def steps(self, kind: type[Any]) -> list[int]:
        return [event.step for event in self.of_type(kind)]


def train(dataset: Dataset, **options: Any) -> tuple[Trainer, RecordingLogger, dict[str, Any]]:
    """Train, by default for three epochs without frames; returns the trainer, its logger and the summary."""
    logger = RecordingLogger()
    config = TrainConfig(**{"epochs": 3, "compare_every": 10, "frames": 0, **options})
    trainer = Trainer(config, dataset, [logger])
    return trainer, logger, trainer.run()


train_once = functools.cache(train)
"""`train`, with the result shared by all tests that pass the same options; they must not change it."""


def parameters(trainer: Trainer) -> list[Tensor]:
    return [p.detach() for p in trainer.model.parameters()]


def modified(state: State, **changes: Any) -> State:
    """A copy of the state with some values or tensors replaced, or removed if None."""
    values, tensors = dict(state.values), dict(state.tensors)
    for name, value in changes.items():
        kind = tensors if isinstance(value, Tensor) or name in tensors else values
        kind[name] = value
    return State(values, {name: tensor for name, tensor in tensors.items() if tensor is not None})
