"""What the experiments are done on: the lecture's network, its cost, and a data set."""

from functools import cached_property
from itertools import chain, count, islice

import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch.data import Batches, Dataset, prepare
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
        quick: whether to be content with rougher figures, in a twentieth of the time.
        seed: of all weights and all draws.
        inputs: of the training examples, (N, 784).
        targets: 1 of the right output and 0 of the others, (N, 10).
        labels: the right class, (N,).
        test_images, test_inputs, test_targets, test_labels: the same of the test examples, and how they look.
    """

    def __init__(self, dataset: Dataset, *, quick: bool = False, seed: int = 0) -> None:
        """Prepare the images."""
        self.name = dataset.name
        self.quick = quick
        self.seed = seed
        self.labels, self.test_labels = dataset.train.labels, dataset.test.labels
        self.inputs, self.test_inputs = prepare(dataset.train.images), prepare(dataset.test.images)
        self.targets, self.test_targets = one_hot(self.labels), one_hot(self.test_labels)
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

    def accuracy(self, model: torch.nn.Module) -> float:
        """On the test examples."""
        return accuracy(model, self.test_inputs, self.test_labels)


def one_hot(labels: Tensor) -> Tensor:
    """1 of the right output and 0 of the others, (N, 10)."""
    return torch.eye(SIZES[-1])[labels]


def learn(
    model: torch.nn.Module, inputs: Tensor, targets: Tensor, steps: int, *, of: int | None = None, seed: int
) -> None:
    """So many steps of stochastic gradient descent, of those in which the learning rate falls linearly to 0."""
    driver, batches = Backprop(model, cost), Batches(inputs, targets, BATCH_SIZE, seed=seed)
    walk = chain.from_iterable(batches.epoch(epoch) for epoch in count())
    for step, batch in enumerate(islice(walk, steps)):
        driver.sgd_step(*batch, LEARNING_RATE * (1 - step / (of or steps)))


@torch.no_grad()
def accuracy(model: torch.nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The share of examples whose largest output is the right one."""
    right: Tensor = model(inputs).argmax(1) == labels
    return right.double().mean().item()


def flat(tensors: dict[str, Tensor]) -> Tensor:
    """All of them as one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors.values()])
