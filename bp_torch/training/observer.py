"""Looking at a network while it trains: what is measured when, and reported as records."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch.data import Batches
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
    PulseRecord,
    Record,
    Recorder,
    StepRecord,
)

REPORT_EVERY = 100
"""Steps between records of cost and health."""
PULSE_SECONDS = 0.5
"""Between two signs of life."""
WORST = 12
"""How many misclassified digits are shown."""
SHOWN = 1000
"""Test examples whose activations are shown."""
CHUNK = 10_000
"""Examples evaluated at once."""

Batch = tuple[Tensor, Tensor]
"""Inputs and targets."""


class Counts(NamedTuple):
    """How comparisons of gradients ended.

    Attributes:
        comparisons: how many there were.
        comparisons_passed: how many of them agreed.
        worst_ratio: of an error to PyTorch's own.
    """

    comparisons: int = 0
    comparisons_passed: int = 0
    worst_ratio: float = 0.0

    def and_of(self, more: Sequence[Comparison]) -> "Counts":
        """With these."""
        passed = sum(comparison.passed for comparison in more)
        worst = max(self.worst_ratio, *(comparison.error_ratio for comparison in more))
        return Counts(self.comparisons + len(more), self.comparisons_passed + passed, worst)


class Observer:
    """Looks at a learner and hands records to whoever is attached.

    Attributes:
        recorders: who is.
        counts: how the comparisons ended so far.
        comparing_seconds: spent on that.
    """

    def __init__(self, config: TrainConfig, learner: Learner, batches: Batches, test: Batch, images: Tensor) -> None:
        """Take what is trained, both sets as they are trained and tested on, and the images to test on."""
        self.config = config
        self.recorders: Sequence[Recorder] = ()
        self.counts = Counts()
        self.comparing_seconds = 0.0
        self._learner = learner
        self._images = images
        self._train, self._test = (batches.inputs, batches.targets), test
        self._epoch_steps = len(batches)
        self._steps = config.epochs * len(batches)
        self._probes = first_of_each(classes_of(test[1]).cpu())
        probes = self._test[0][self._probes], self._test[1][self._probes]
        self._frames = Frames(learner.hand, learner.hand_cost, *probes)
        self._frame_steps = frame_steps(self._steps, config.frames)
        self._told = -math.inf
        self._reported = (0, 0.0)

    def record(self, record: Record) -> None:
        """Hand a record to every recorder."""
        for recorder in self.recorders:
            recorder.record(record)

    def begin(self, step: int) -> None:
        """There is a step to be taken first."""
        if self._frame_steps:
            self.record(self._frames.network(step, self._steps))
        self._reported = (step, time.perf_counter())

    def looks_at(self, step: int) -> bool:
        """Whether a step is looked at before it is taken."""
        return step % REPORT_EVERY == 0 or self._compares(step) or step in self._frame_steps

    def look(self, step: int, batch: Batch, learning_rate: float, cost: Tensor, gradients: Gradients) -> None:
        """Record what a step about to be taken is like."""
        if step % REPORT_EVERY == 0:
            self._report(step, batch, learning_rate, cost, gradients)
        comparisons = self._compare(step, gradients, batch) if self._compares(step) else ()
        if step in self._frame_steps:
            self.record(self._frames.take(step, *batch, learning_rate, gradients, comparisons))
        if step == 0 and self._steps > 1:  # otherwise the last look is at this step, too
            self._explain(0, batch)

    def pulse(self, step: int) -> None:
        """A step has been taken; say so now and then."""
        now = time.perf_counter()
        if now - self._told > PULSE_SECONDS:
            self._told = now
            self.record(PulseRecord(step))

    @torch.no_grad()
    def evaluate(self, step: int, last: Batch) -> EpochRecord:
        """Cost and accuracy over both sets after an epoch; now and then, whole tensors and pictures.

        Args:
            step: the last that was taken.
            last: its mini-batch.
        """
        began, epoch = time.perf_counter(), (step + 1) // self._epoch_steps
        train_cost, train_accuracy, _ = self._measure(self._train)
        test_cost, test_accuracy, outputs = self._measure(self._test)
        evaluated = EpochRecord(step, epoch, train_cost, train_accuracy, test_cost, test_accuracy)
        self.record(evaluated)
        if math.isfinite(train_cost + test_cost):
            if epoch == self.config.epochs or _is_power(epoch, 2):
                self.record(self._distributions(step, last))
            if epoch == self.config.epochs or _is_power(epoch, 8):  # to draw all this takes a third of a second
                self.record(self._pictures(step, outputs))
                self._explain(step, last)
        self._reported = (self._reported[0], self._reported[1] + time.perf_counter() - began)
        return evaluated

    def figures(self) -> dict[str, Any]:
        """How the comparisons ended."""
        return {
            "gradient_checks": self.counts.comparisons,
            "gradient_checks_passed": self.counts.comparisons_passed,
            "worst_gradient_ratio": self.counts.worst_ratio,
        }

    def _compares(self, step: int) -> bool:
        every = self.config.compare_every
        return every > 0 and (step % every == 0 or step in self._frame_steps)

    def _report(self, step: int, batch: Batch, learning_rate: float, cost: Tensor, gradients: Gradients) -> None:
        now = time.perf_counter()
        before, then = self._reported
        speed = (step - before) / self._epoch_steps * len(self._train[0]) / (now - then)
        self._reported = (step, now)
        with torch.no_grad():
            accuracy = accuracy_of(self._learner.model(batch[0]), batch[1])
        self.record(StepRecord(step, step // self._epoch_steps, cost.item(), accuracy, learning_rate, speed))
        self.record(self._health(step, gradients, learning_rate))

    def _health(self, step: int, gradients: Gradients, learning_rate: float) -> HealthRecord:
        health, total = {}, 0.0
        for name, parameter in self._learner.model.named_parameters():
            gradient, size = (torch.linalg.vector_norm(x.detach()).item() for x in (gradients[name], parameter))
            health[name] = ParameterHealth(gradient, learning_rate * gradient / size if size else math.inf)
            total += gradient**2
        return HealthRecord(step, math.sqrt(total), health)

    def _compare(self, step: int, gradients: Gradients, batch: Batch) -> tuple[Comparison, ...]:
        """Ask whether they are right, and how much of them is noise."""
        started = time.perf_counter()
        hand = self._learner.gradients_by_hand(*batch, gradients)
        comparisons = self._learner.compare(hand, *batch)
        order = self._learner.taylor_order(hand, *batch, seed=step)
        noise = self._noise(step, batch)
        self.counts = self.counts.and_of(comparisons)
        self.comparing_seconds += time.perf_counter() - started
        self.record(AgreementRecord(step, comparisons, order))
        self.record(noise)
        return comparisons

    def _noise(self, step: int, batch: Batch) -> NoiseRecord:
        noise = self._learner.noise(*batch)
        return NoiseRecord(step, simple_noise_scale(noise.values()), noise)

    def _measure(self, examples: Batch) -> tuple[float, float, Tensor]:
        inputs, targets = examples
        outputs = torch.cat([self._learner.model(chunk) for chunk in torch.split(inputs, CHUNK)])
        return self._learner.cost(outputs, targets).item(), accuracy_of(outputs, targets), outputs

    def _distributions(self, step: int, last: Batch) -> DistributionRecord:
        """Whole tensors: parameters, their gradients on the last mini-batch, and the activations of test examples."""
        parameters = {name: p.detach() for name, p in self._learner.model.named_parameters()}
        gradients = self._learner.gradients_alone(*last)
        return DistributionRecord(step, parameters, gradients, self._learner.activations(self._test[0][:SHOWN]))

    def _explain(self, step: int, last: Batch) -> None:
        """What a test digit of each class asks for, and where the last hidden layer puts digits.

        Where nothing is compared, also how much of this mini-batch's gradient is noise.
        """
        labels = classes_of(self._test[1])
        asked = [self._learner.explain(self._images[place], int(labels[place])) for place in self._probes]
        self.record(ExplanationRecord(step, tuple(asked)))
        if not self.config.compare_every:
            self.record(self._noise(step, last))
        if self.config.hidden:
            activations = self._learner.activations(self._test[0][:SHOWN])
            *_, (layer, points), _, (_, outputs) = activations.items()
            images, shown = self._images[: len(points)], labels[: len(points)].cpu()
            self.record(EmbeddingRecord(step, layer, points, images, shown, outputs.argmax(1).cpu()))

    def _pictures(self, step: int, outputs: Tensor) -> PictureRecord:
        """The misclassified test digits whose right class was given least."""
        probabilities = self._learner.probabilities(outputs)
        labels = classes_of(self._test[1])
        given = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
        wrong = (outputs.argmax(1) != labels).nonzero().squeeze(1)
        worst = wrong[given[wrong].argsort()[:WORST]]
        images = self._images[worst.cpu()]
        first_weights = next(self._learner.model.parameters()).detach()
        return PictureRecord(step, first_weights, images, labels[worst].cpu(), probabilities[worst].cpu())


def _is_power(number: int, base: int) -> bool:
    """Whether a positive number is 1, base, base², …: learning is quickest at first, so looks are log-spaced."""
    while number > 1 and number % base == 0:
        number //= base
    return number == 1
