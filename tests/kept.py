"""A training run in this process, and all that it records."""

from typing import Any

from torch import Tensor

from bp_torch.data import Dataset
from bp_torch.training.config import TrainConfig
from bp_torch.training.loop import Trainer
from bp_torch.training.records import Record


class Kept:
    """A recorder that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]

    def steps(self, kind: type[Any]) -> list[int]:
        return [record.step for record in self.of(kind)]


def trained(dataset: Dataset, **options: Any) -> tuple[Trainer, Kept, dict[str, Any]]:
    """Three epochs without frames, unless the options say otherwise."""
    kept = Kept()
    config = TrainConfig(**{"epochs": 3, "compare_every": 10, "frames": 0, **options})
    trainer = Trainer(config, dataset, [kept])
    return trainer, kept, trainer.run()


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach() for p in trainer.learner.model.parameters()]
