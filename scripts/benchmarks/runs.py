"""Benchmarks of whole epochs and runs, compared with the training loop of most tutorials."""

import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.measuring import Row, Workload, seconds, time_interleaved
from bp_torch.dashboard.writer import TensorBoardLogger
from bp_torch.data import Dataset, load
from bp_torch.models import MODELS
from bp_torch.nn import as_builtin, mlp
from bp_torch.training.config import Backend, TrainConfig
from bp_torch.training.loop import Trainer


def epoch_times(dataset: Dataset, root: Path, rounds: int) -> list[Row]:
    """Time one epoch of the default network, without logging or comparing."""
    tutorial = {"DataLoader and eager": tutorial_epoch(root)}
    configs = [TrainConfig(backend=backend) for backend in ("engine", "functions", "builtin")]
    backends = {config.backend: partial(_bare_epoch, Trainer(config, dataset)) for config in configs}
    return time_interleaved(tutorial | backends, *tutorial, rounds=rounds)


def _bare_epoch(trainer: Trainer) -> None:
    for inputs, targets in trainer.batches.epoch(0):
        trainer.backend.sgd_step(inputs, targets, 0.01)


def tutorial_epoch(root: Path) -> Workload:
    """One epoch with torchvision's MNIST and ToTensor, DataLoader, torch.nn and optim.SGD."""
    from torchvision import datasets, transforms  # after load(), which makes it importable

    model = as_builtin(mlp((784, 16, 16, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    examples = datasets.MNIST(root, transform=transforms.ToTensor())
    loader = torch.utils.data.DataLoader(examples, batch_size=100, shuffle=True)

    def work() -> None:
        for images, labels in loader:
            targets = torch.nn.functional.one_hot(labels, 10).float()
            cost = ((model(images.flatten(1)) - targets) ** 2).sum(1).mean()
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()

    return work


def run_shares(backend: Backend, dataset: Dataset) -> Row:
    """Time a default run, and the share of it spent on comparing gradients and on logging."""
    with tempfile.TemporaryDirectory() as folder, TensorBoardLogger(Path(folder)) as board:
        trainer = Trainer(TrainConfig(backend=backend), dataset, [board])
        duration = seconds(trainer.run)
    counts = trainer.monitor.counts
    return {
        "backend": backend,
        "seconds": round(duration, 1),
        "comparing": f"{trainer.monitor.comparing_seconds / duration:.1%}",
        "logging": f"{board.seconds / duration:.1%}",
        "agreeing gradients": f"{counts.gradient_checks_passed} of {counts.gradient_checks}",
    }


def accuracies(dataset: Dataset) -> list[Row]:
    """Mean test accuracy over seeds 0, 1 and 2: of the documented commands, and on MNIST after training on digits."""
    digits = load("digits", Path("data"))
    default = TrainConfig(compare_every=1000)
    relu = replace(default, activation="relu", cost="cross_entropy", learning_rate=0.2, epochs=30)
    return [
        _accuracy(f"default network on {dataset.name}", default, dataset),
        _accuracy(f"ReLU and cross-entropy on {dataset.name}", relu, dataset),
        *(_accuracy(f"{m} on {dataset.name}", replace(TrainConfig.defaults(m), frames=0), dataset) for m in MODELS),
        _accuracy("default network on digits", default, digits),
        _accuracy(f"trained on digits, tested on {dataset.name}", default, replace(digits, test=dataset.test)),
    ]


def _accuracy(training: str, config: TrainConfig, dataset: Dataset) -> Row:
    values = [Trainer(replace(config, seed=seed), dataset).run()["test_accuracy"] for seed in range(3)]
    return {
        "training": training,
        "mean": f"{statistics.mean(values):.2%}",
        "seeds": ", ".join(f"{value:.2%}" for value in values),
    }
