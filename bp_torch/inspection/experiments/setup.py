"""What the experiments share: the lecture's network, its cost and a data set, and what they return."""

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
"""Of a whole training."""
CLAIM_HEADINGS: Final = ("", "claim", "measured", "holds", "of")
cost = F.squared_error


class Claim(NamedTuple):
    """One statement, measured.

    It is of an equation if it is so for every network, unless a line of backpropagation is wrong; of a network if it
    might have come out otherwise.
    """

    statement: int  # its number in the lecture
    claim: str
    measured: str  # what was found, in numbers
    holds: bool
    of: Literal["equation", "network"] = "network"

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of a table, below `CLAIM_HEADINGS`."""
        return (str(self.statement), self.claim, self.measured, "yes" if self.holds else "no", self.of)


class ExperimentResult(NamedTuple):
    """What one experiment found."""

    claims: tuple[Claim, ...]
    metrics: Mapping[str, float]  # single numbers, by name
    figure: Figure
    curves: Mapping[str, Mapping[int, float]] = {}  # name, whole number such as a mini-batch's size, value


class Setup:
    """A data set, prepared, and networks trained on it; a change to one of them is made to a copy.

    Inputs are (N, 784), targets (N, 10), labels (N,). `quick` asks for rougher figures, in an eighth of the time.
    """

    def __init__(self, dataset: Dataset, *, quick: bool = False, seed: int = 0) -> None:
        """Prepare the images."""
        self.name, self.quick, self.seed = dataset.name, quick, seed
        self.labels, self.test_labels = dataset.train.labels, dataset.test.labels
        self.inputs, self.test_inputs = prepare(dataset.train.images), prepare(dataset.test.images)
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
        return train(self.network(), self.inputs, self.targets, STEPS // 10, of=STEPS, seed=self.seed)

    @cached_property
    def trained(self) -> Sequential:
        """The trained network."""
        return train(self.network(), self.inputs, self.targets, STEPS, seed=self.seed)


def train(model: Sequential, inputs: Tensor, targets: Tensor, steps: int, *, of: int = 0, seed: int) -> Sequential:
    """Take so many steps of stochastic gradient descent, of those in which the learning rate falls linearly to 0."""
    backprop = Backprop(model, cost)
    for step, batch in enumerate(islice(endless_batches(inputs, targets, seed=seed), steps)):
        backprop.sgd_step(*batch, LEARNING_RATE * (1 - step / (of or steps)))
    return model


def endless_batches(inputs: Tensor, targets: Tensor, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches, shuffled anew each epoch."""
    batches = Batches(inputs, targets, BATCH_SIZE, seed=seed)
    return chain.from_iterable(batches.epoch(epoch) for epoch in count())


@torch.no_grad()
def costs_at(model: torch.nn.Module, points: Iterable[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    """The cost with each of these vectors as parameters; the model is left with the last one."""
    found = []
    for point in points:
        torch.nn.utils.vector_to_parameters(point, model.parameters())
        found.append(cost(model(inputs), targets))
    return torch.stack(found)
