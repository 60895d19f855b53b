"""The lecture's network, its cost and a data set for all experiments, and their results."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain, count, islice
from typing import Final, Literal, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import Sequential
from torch.nn.functional import one_hot

import bp_torch.functional as F
from bp_torch.data import Batches, Dataset, prepare
from bp_torch.engine import Backprop
from bp_torch.nn import mlp

SIZES = (784, 16, 16, 10)
BATCH_SIZE = 100
LEARNING_RATE = 3.0
STEPS = 6000
"""Number of steps of a full training."""
CLAIM_HEADINGS: Final = ("", "claim", "measured", "holds", "scope")
cost = F.squared_error


class Claim(NamedTuple):
    """One statement of the lecture, measured.

    A claim about an equation holds for every network, unless a line of backpropagation is wrong. The others are
    measured on this network, and may fail on another.
    """

    statement: int  # its number in the lecture
    claim: str
    measured: str  # the result, in numbers
    holds: bool
    scope: Literal["every network", "this network"] = "this network"

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of a table with the headings `CLAIM_HEADINGS`."""
        return (str(self.statement), self.claim, self.measured, "yes" if self.holds else "no", self.scope)


class ExperimentResult(NamedTuple):
    """The result of one experiment."""

    claims: tuple[Claim, ...]
    metrics: Mapping[str, float]  # single numbers, by name
    figure: Figure
    curves: Mapping[str, Mapping[int, float]] = {}  # name, whole number such as a mini-batch's size, value


class Setup:
    """A prepared data set, and networks trained on it, which must be copied before they are changed.

    Inputs are (N, 784), targets (N, 10), labels (N,). With `quick` the experiments take an eighth of the time.
    """

    def __init__(self, dataset: Dataset, *, quick: bool = False, seed: int = 0) -> None:
        """Prepare the images."""
        self.name, self.quick, self.seed = dataset.name, quick, seed
        self.labels, self.test_labels = dataset.train.labels, dataset.test.labels
        self.inputs, self.test_inputs = (prepare(split.images).flatten(1) for split in (dataset.train, dataset.test))
        self.targets = one_hot(self.labels, dataset.classes).float()
        self.test_images = dataset.test.images

    def network(self, seed: int = 0) -> Sequential:
        """The lecture's network with its initial weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + seed)
            return mlp(SIZES)

    @cached_property
    def partly_trained(self) -> Sequential:
        """The network after a tenth of its training."""
        return train(self.network(), self.inputs, self.targets, STEPS // 10, schedule=STEPS, seed=self.seed)

    @cached_property
    def trained(self) -> Sequential:
        """The trained network."""
        return train(self.network(), self.inputs, self.targets, STEPS, seed=self.seed)


def train(
    model: Sequential, inputs: Tensor, targets: Tensor, steps: int, *, schedule: int = 0, seed: int
) -> Sequential:
    """Take `steps` steps of SGD at a learning rate that falls linearly, to reach 0 after `schedule` steps."""
    backprop = Backprop(model, cost)
    for step, batch in enumerate(islice(endless_batches(inputs, targets, seed=seed), steps)):
        backprop.sgd_step(*batch, LEARNING_RATE * (1 - step / (schedule or steps)))
    return model


def endless_batches(inputs: Tensor, targets: Tensor, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches without end, shuffled each epoch."""
    batches = Batches(inputs, targets, BATCH_SIZE, seed=seed)
    return chain.from_iterable(batches.epoch(epoch) for epoch in count())


@torch.no_grad()
def costs_at(model: torch.nn.Module, points: Iterable[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    """The cost with each of these vectors as parameters; the model keeps the last one."""
    found = []
    for point in points:
        torch.nn.utils.vector_to_parameters(point, model.parameters())
        found.append(cost(model(inputs), targets))
    return torch.stack(found)
