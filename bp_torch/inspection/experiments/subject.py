"""What the experiments are done on: the lecture's network, its cost, and a data set."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, count, islice

import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch.data import Batches, Dataset, accuracy_of, one_hot, prepare
from bp_torch.engine import Backprop
from bp_torch.nn import mlp

SIZES = (784, 16, 16, 10)
BATCH_SIZE = 100
LEARNING_RATE = 3.0
STEPS = 6000
"""After which a network has learned."""
cost = F.squared_error


class Subject:
    """A data set, prepared, and networks that learn from it.

    Attributes:
        name: of the data set.
        quick: whether to be content with rougher figures, in an eighth of the time.
        seed: of all weights and all draws.
        inputs: of the training examples, (N, 784).
        targets: 1 of the right output and 0 of the others, (N, 10).
        labels: the right class, (N,).
        test_images, test_inputs, test_labels: the same of the test examples, and how they look.
    """

    def __init__(self, dataset: Dataset, *, quick: bool = False, seed: int = 0) -> None:
        """Prepare the images."""
        self.name = dataset.name
        self.quick = quick
        self.seed = seed
        self.labels, self.test_labels = dataset.train.labels, dataset.test.labels
        self.inputs, self.test_inputs = prepare(dataset.train.images), prepare(dataset.test.images)
        self.targets = one_hot(self.labels, dataset.classes)
        self.test_images = dataset.test.images

    def network(self, seed: int = 0) -> torch.nn.Sequential:
        """The lecture's network with its first weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + seed)
            return mlp(SIZES)

    @cached_property
    def learning(self) -> torch.nn.Sequential:
        """The network in the midst of learning; who changes it changes a copy."""
        return self._after(STEPS // 10)

    @cached_property
    def taught(self) -> torch.nn.Sequential:
        """The network that has learned; who changes it changes a copy."""
        return self._after(STEPS)

    def _after(self, steps: int) -> torch.nn.Sequential:
        model = self.network()
        learn(model, self.inputs, self.targets, steps, of=STEPS, seed=self.seed)
        return model

    @torch.no_grad()
    def accuracy(self, model: torch.nn.Module) -> float:
        """On the test examples."""
        return accuracy_of(model(self.test_inputs), self.test_labels)


def learn(
    model: torch.nn.Module, inputs: Tensor, targets: Tensor, steps: int, *, of: int | None = None, seed: int
) -> None:
    """So many steps of stochastic gradient descent, of those in which the learning rate falls linearly to 0."""
    driver = Backprop(model, cost)
    for step, batch in enumerate(islice(walk(inputs, targets, seed=seed), steps)):
        driver.sgd_step(*batch, LEARNING_RATE * (1 - step / (of or steps)))


def walk(inputs: Tensor, targets: Tensor, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches, shuffled anew each epoch, without end."""
    batches = Batches(inputs, targets, BATCH_SIZE, seed=seed)
    return chain.from_iterable(batches.epoch(epoch) for epoch in count())


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """All of them as one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def place(model: torch.nn.Module) -> Tensor:
    """Where a network stands: all its weights and biases as one vector."""
    return flat(model.parameters()).detach()
