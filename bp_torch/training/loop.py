"""Stochastic gradient descent: shuffle, cut into mini-batches, step for each, and look on the way."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.data import Batches, Dataset, Split, prepare
from bp_torch.data.labels import accuracy_of, classes_of, first_of_each
from bp_torch.gradients import Comparison, Gradients
from bp_torch.inspection import simple_noise_scale
from bp_torch.training.config import TrainConfig
from bp_torch.training.frames import Frames, frame_steps
from bp_torch.training.learner import Learner
from bp_torch.training.records import (
    AgreementRecord,
    DistributionRecord,
    EmbeddingRecord,
    EpochRecord,
    ExplanationRecord,
    HealthRecord,
    NoiseRecord,
    ParameterHealth,
    PictureRecord,
    Record,
    Recorder,
    StepRecord,
)

REPORT_EVERY = 100
"""Steps between records of cost and health."""
WORST = 12
"""How many misclassified digits are shown."""
SHOWN = 1000
"""Test examples whose activations are shown."""
CHUNK = 10_000
"""Examples evaluated at once."""

_PROGRESS: dict[str, Callable[[Any], Any]] = {
    "epoch": int,
    "seconds": float,
    "comparisons": int,
    "comparisons_passed": int,
    "worst_ratio": float,
}
"""What a checkpoint holds beside the parameters: attributes of `Trainer`."""


class NonFiniteCost(RuntimeError):
    """The cost became NaN or infinite; the message names the step."""


class Trainer:
    """Trains a learner on a data set and reports records as it goes."""

    def __init__(self, config: TrainConfig, dataset: Dataset, recorders: Sequence[Recorder] = ()) -> None:
        """Prepare the data on the device and draw the first weights."""
        self.config = config
        self.learner = Learner(config)
        self.recorders = recorders
        self.test_images = dataset.test.images
        self._probes = first_of_each(dataset.test.labels)
        self._train = self._prepared(dataset.train)
        self._test = self._prepared(dataset.test)
        self.batches = Batches(*self._train, config.batch_size, seed=config.seed)
        self.steps = config.epochs * len(self.batches)
        self._frames = Frames(self.learner.hand, self.learner.hand_cost, *self._of_probes())
        self._frame_steps = frame_steps(self.steps, config.frames)
        self.step = 0
        """The step to take next, counted from 0 over the whole run."""
        self.epoch = 0
        """Epochs done."""
        self.comparisons = 0
        self.comparisons_passed = 0
        self.worst_ratio = 0.0
        self.comparing_seconds = 0.0
        self.seconds = 0.0
        """Spent on epochs, by all sessions of the run."""
        self._reported = (0, time.perf_counter())
        """When cost was last recorded, as step and time; looking at the whole sets does not count as training."""

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on from the end of an epoch."""
        return {"parameters": self.learner.model.state_dict(), **{name: getattr(self, name) for name in _PROGRESS}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the end of an epoch, as if there had been no break.

        Raises:
            ArithmeticError, KeyError, RuntimeError, TypeError, ValueError: if it is no such state, or of another
                network.
        """
        self.learner.model.load_state_dict(state["parameters"])
        for name, kind in _PROGRESS.items():
            setattr(self, name, kind(state[name]))
        if not (self.epoch >= 0 and 0 <= self.comparisons_passed <= self.comparisons):
            raise ValueError(f"no such progress: {state}")
        self.step = self.epoch * len(self.batches)

    def run(self, after_epoch: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Train to the end.

        Args:
            after_epoch: called after each epoch, for instance to save a checkpoint.

        Returns:
            The figures of summary.json.

        Raises:
            NonFiniteCost: if the cost of a step is NaN or infinite, in which case its update is not applied; or the
                cost over a whole set.
        """
        if self._frame_steps:
            self.record(self._frames.network(self.step, self.steps))
        self._reported = (self.step, time.perf_counter())
        while self.epoch < self.config.epochs:
            began = time.perf_counter()
            evaluated = self.run_epoch()
            self.seconds += time.perf_counter() - began
            after_epoch()
        return self._summary(evaluated)

    def run_epoch(self) -> EpochRecord:
        """Take a step for each mini-batch of the next epoch, and look at both sets afterwards."""
        for inputs, targets in self.batches.epoch(self.epoch):
            self._take_step(inputs, targets)
        self._last = inputs, targets
        self.epoch += 1
        began = time.perf_counter()
        evaluated = self._evaluate()
        self._reported = (self._reported[0], self._reported[1] + time.perf_counter() - began)
        return evaluated

    def _take_step(self, inputs: Tensor, targets: Tensor) -> None:
        """One mini-batch: look where the schedule says so, and step downhill."""
        learning_rate = self.config.learning_rate * (1 - self.step / self.steps)
        try:
            if self.step % REPORT_EVERY == 0 or self._compares() or self.step in self._frame_steps:
                self._look(inputs, targets, learning_rate)
            if self.step == 0 and self.steps > 1:  # otherwise the last look is at this step, too
                self._explain(0, inputs, targets)
            self.learner.driver.sgd_step(inputs, targets, learning_rate)
        except FloatingPointError as error:
            raise self._diverged(f"{error}, at step {self.step} (epoch {self.epoch + 1})") from None
        self.step += 1

    def _compares(self) -> bool:
        every = self.config.compare_every
        return every > 0 and (self.step % every == 0 or self.step in self._frame_steps)

    def _look(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> None:
        """Record what the step about to be taken is like."""
        cost, gradients = self.learner.driver.gradients(inputs, targets)
        if not cost.isfinite():
            raise FloatingPointError(f"the cost is not finite: {cost.item()}")
        if self.step % REPORT_EVERY == 0:
            self._report(cost.item(), gradients, inputs, targets, learning_rate)
        comparisons = self._compare(gradients, inputs, targets) if self._compares() else ()
        if self.step in self._frame_steps:
            self.record(self._frames.take(self.step, inputs, targets, learning_rate, gradients, comparisons))

    def _diverged(self, what: str) -> NonFiniteCost:
        return NonFiniteCost(f"{what}: lower --learning-rate, now {self.config.learning_rate}")

    def record(self, record: Record) -> None:
        """Hand a record to every recorder."""
        for recorder in self.recorders:
            recorder.record(record)

    def _report(self, cost: float, gradients: Gradients, inputs: Tensor, targets: Tensor, learning_rate: float) -> None:
        now = time.perf_counter()
        step, then = self._reported
        speed = (self.step - step) / len(self.batches) * len(self._train[0]) / (now - then)
        self._reported = (self.step, now)
        with torch.no_grad():
            accuracy = accuracy_of(self.learner.model(inputs), targets)
        self.record(StepRecord(self.step, self.epoch, cost, accuracy, learning_rate, speed))
        self.record(self._health(gradients, learning_rate))

    def _health(self, gradients: Gradients, learning_rate: float) -> HealthRecord:
        health, total = {}, 0.0
        for name, parameter in self.learner.model.named_parameters():
            gradient, size = (torch.linalg.vector_norm(x.detach()).item() for x in (gradients[name], parameter))
            health[name] = ParameterHealth(gradient, learning_rate * gradient / size if size else math.inf)
            total += gradient**2
        return HealthRecord(self.step, math.sqrt(total), health)

    def _compare(self, gradients: Gradients, inputs: Tensor, targets: Tensor) -> tuple[Comparison, ...]:
        """Ask whether they are right, and how much of them is noise."""
        started = time.perf_counter()
        hand = self.learner.gradients_by_hand(inputs, targets, gradients)
        comparisons = self.learner.compare(hand, inputs, targets)
        order = self.learner.taylor_order(hand, inputs, targets, seed=self.step)
        noise = self._noise(self.step, inputs, targets)
        self.comparisons += len(comparisons)
        self.comparisons_passed += sum(comparison.passed for comparison in comparisons)
        self.worst_ratio = max(self.worst_ratio, *(comparison.error_ratio for comparison in comparisons))
        self.comparing_seconds += time.perf_counter() - started
        self.record(AgreementRecord(self.step, comparisons, order))
        self.record(noise)
        return comparisons

    def _noise(self, step: int, inputs: Tensor, targets: Tensor) -> NoiseRecord:
        noise = self.learner.noise(inputs, targets)
        return NoiseRecord(step, simple_noise_scale(noise.values()), noise)

    @torch.no_grad()
    def _evaluate(self) -> EpochRecord:
        """Cost and accuracy over both sets; now and then, whole tensors and pictures."""
        train_cost, train_accuracy, _ = self._measure(*self._train)
        test_cost, test_accuracy, outputs = self._measure(*self._test)
        evaluated = EpochRecord(self.step - 1, self.epoch, train_cost, train_accuracy, test_cost, test_accuracy)
        self.record(evaluated)
        for cost in (train_cost, test_cost):
            if not math.isfinite(cost):
                raise self._diverged(f"the cost became {cost} after step {self.step - 1} (epoch {self.epoch})")
        last = self.epoch == self.config.epochs
        if last or _is_power(self.epoch, 2):
            self.record(self._distributions())
        if last or _is_power(self.epoch, 8):  # to draw all this takes a third of a second
            self.record(self._pictures(outputs))
            self._explain(self.step - 1, *self._last)
        return evaluated

    def _measure(self, inputs: Tensor, targets: Tensor) -> tuple[float, float, Tensor]:
        outputs = torch.cat([self.learner.model(chunk) for chunk in torch.split(inputs, CHUNK)])
        return self.learner.cost(outputs, targets).item(), accuracy_of(outputs, targets), outputs

    def _distributions(self) -> DistributionRecord:
        """Whole tensors: parameters, their gradients on the last mini-batch, and the activations of test examples."""
        parameters = {name: p.detach() for name, p in self.learner.model.named_parameters()}
        _, gradients = self.learner.driver.gradients(*self._last)
        return DistributionRecord(self.step - 1, parameters, gradients, self.learner.activations(self._test[0][:SHOWN]))

    def _explain(self, step: int, inputs: Tensor, targets: Tensor) -> None:
        """What a test digit of each class asks for, and where the last hidden layer puts digits.

        Where nothing is compared, also how much of this mini-batch's gradient is noise.
        """
        labels = classes_of(self._test[1])
        asked = [self.learner.explain(self.test_images[place], int(labels[place])) for place in self._probes]
        self.record(ExplanationRecord(step, tuple(asked)))
        if not self.config.compare_every:
            self.record(self._noise(step, inputs, targets))
        if self.config.hidden:
            activations = self.learner.activations(self._test[0][:SHOWN])
            *_, (layer, points), _, (_, outputs) = activations.items()
            images, shown = self.test_images[: len(points)], labels[: len(points)].cpu()
            self.record(EmbeddingRecord(step, layer, points, images, shown, outputs.argmax(1).cpu()))

    def _pictures(self, outputs: Tensor) -> PictureRecord:
        """The misclassified test digits whose right class was given least."""
        probabilities = self.learner.probabilities(outputs)
        labels = classes_of(self._test[1])
        given = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
        wrong = (outputs.argmax(1) != labels).nonzero().squeeze(1)
        worst = wrong[given[wrong].argsort()[:WORST]]
        images = self.test_images[worst.cpu()]
        first_weights = next(self.learner.model.parameters()).detach()
        return PictureRecord(self.step - 1, first_weights, images, labels[worst].cpu(), probabilities[worst].cpu())

    def _of_probes(self) -> tuple[Tensor, Tensor]:
        return tuple(tensor[self._probes] for tensor in self._test)  # type: ignore[return-value]

    def _prepared(self, split: Split) -> tuple[Tensor, Tensor]:
        labels = split.labels.to(self.config.device)
        return prepare(split.images, self.config.device), self.learner.targets(labels)

    def _summary(self, evaluated: EpochRecord) -> dict[str, Any]:
        return {
            "test_accuracy": evaluated.test_accuracy,
            "train_accuracy": evaluated.train_accuracy,
            "test_cost": evaluated.test_cost,
            "train_cost": evaluated.train_cost,
            "epochs": self.epoch,
            "steps": self.step,
            "seconds": self.seconds,
            "examples_per_second": self.epoch * len(self._train[0]) / self.seconds,
            "backend": self.config.backend,
            "gradient_checks": self.comparisons,
            "gradient_checks_passed": self.comparisons_passed,
            "worst_gradient_ratio": self.worst_ratio,
        }


def _is_power(number: int, base: int) -> bool:
    """Whether a positive number is 1, base, base², …: learning is quickest at first, so looks are log-spaced."""
    while number > 1 and number % base == 0:
        number //= base
    return number == 1
