"""Stochastic gradient descent: shuffle, cut into mini-batches, step for each, and look on the way."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from bp_torch.data import Batches, Dataset, Split, prepare
from bp_torch.training.checkpoint import number
from bp_torch.training.config import TrainConfig
from bp_torch.training.learner import Learner
from bp_torch.training.observer import Batch, Counts, Observer
from bp_torch.training.processes import ALONE, Processes, ProcessLost
from bp_torch.training.records import EpochRecord, FailureRecord, Recorder
from bp_torch.training.stages import first_odd, stages


class NonFinite(RuntimeError):
    """Cost, gradient or parameters became NaN or infinite; the message is one line.

    Attributes:
        record: the same for recorders.
    """

    def __init__(self, message: str, record: FailureRecord) -> None:
        """Take both."""
        super().__init__(message)
        self.record = record


class Trainer:
    """Trains a learner on a data set, looking as it goes.

    Attributes:
        learner: what learns.
        observer: looks, and reports records; of several processes only the first's does.
        batches: the training set.
        steps: how many there are in all.
        step: the one to take next, counted from 0 over the whole run.
        evaluated: what the last epoch came to.
        best: the highest test accuracy so far, and the number of steps after which it was reached first.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        recorders: Sequence[Recorder] = (),
        processes: Processes = ALONE,
    ) -> None:
        """Prepare the data on the device and draw the first weights."""
        self.config = config
        self.processes = processes
        self.learner = Learner(config, processes)
        self.batches = Batches(*self._prepared(dataset.train), config.batch_size, seed=config.seed)
        self.steps = config.epochs * len(self.batches)
        test = self._prepared(dataset.test)
        self.observer = Observer(config, self.learner, self.batches, test, dataset.test.images)
        self.observer.recorders = recorders
        self.step = 0
        self.evaluated: EpochRecord | None = None
        self.best = (-math.inf, 0)
        self._seconds = 0.0
        self._began: float | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Epochs done, and mini-batches of the next one."""
        return divmod(self.step, len(self.batches))

    @property
    def seconds(self) -> float:
        """Spent on training and looking, by all sessions of the run."""
        return self._seconds + (0.0 if self._began is None else time.perf_counter() - self._began)

    def run(self, after_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Train to the end.

        Args:
            after_step: called after each step, and what is looked at after it; for instance to save a checkpoint.

        Returns:
            The figures of summary.json.

        Raises:
            NonFinite: if cost or gradient of a step is, in which case it is not taken; or the cost over a whole set.
            ProcessLost: if another process cannot be heard.
        """
        self._began = time.perf_counter()
        if self.processes.first:
            self.observer.begin(self.step)
        while self.step < self.steps:
            for batch in self.batches.epoch(*self.place):
                self._take_step(batch)
                if self.place[1] == 0:
                    self._evaluate(batch)
                after_step()
        self._seconds, self._began = self.seconds, None
        return self._figures()

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on from here: numbers and Tensors, in lists and dictionaries."""
        epoch, mini_batch = self.place
        return {
            "parameters": dict(self.learner.model.state_dict()),
            "optimizer": self.learner.driver.state_dict(),
            "random": _random_states(),
            "epoch": epoch,
            "mini_batch": mini_batch,
            "seconds": self.seconds,
            "evaluated": None if self.evaluated is None else asdict(self.evaluated),
            "best": list(self.best),
            "config": self.config.as_dict(),
            **self.observer.counts._asdict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there, as if there had been no break; what an earlier version did not keep is taken for granted.

        Raises:
            ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError: if it is no such state, or
                of another network.
        """
        epoch, mini_batch = (number(state.get(name, 0), least=0) for name in ("epoch", "mini_batch"))
        step = int(epoch * len(self.batches) + mini_batch)
        counts = Counts(*(number(state[name], least=0) for name in Counts._fields))  # type: ignore[arg-type]
        if step > self.steps or counts.comparisons_passed > counts.comparisons:
            raise ValueError(f"there is no step {step}, or there are no {counts}")
        self.evaluated = None if state.get("evaluated") is None else _evaluated(state["evaluated"])
        best = state.get("best", list(self.best))
        if type(best) is not list:
            raise TypeError(f"the best is not a {type(best).__name__}")
        accuracy, reached = map(number, best)
        self.learner.model.load_state_dict(state["parameters"])
        self.learner.driver.load_state_dict(state.get("optimizer", {}))
        _set_random_states(state.get("random", {}))
        self.best = accuracy, int(reached)
        self.step, self._seconds = step, float(number(state["seconds"], least=0))
        self.observer.counts = counts

    def require_finite(self) -> None:
        """Raise NonFinite, rather than keep what cannot be gone on from."""
        if not all(parameter.isfinite().all() for parameter in self.learner.model.parameters()):
            last = self.batches.examples(*divmod(self.step - 1, len(self.batches)))
            batch = self.batches.inputs[last], self.batches.targets[last]
            raise self._broken("the parameters are not finite", batch, self.step - 1)

    def _take_step(self, batch: Batch) -> None:
        """One mini-batch: look where the schedule says so, and step downhill."""
        learning_rate, counts = self.config.learning_rate * (1 - self.step / self.steps), self.observer.counts
        try:
            if self.observer.looks_at(self.step):
                self._look(batch, learning_rate)
            self.learner.driver.sgd_step(*batch, learning_rate)
        except FloatingPointError as error:
            raise self._broken(str(error), batch, self.step) from None
        except ProcessLost:
            self.observer.counts = counts  # the step will be looked at again
            raise
        self.step += 1
        if self.processes.first:
            self.observer.pulse(self.step - 1)

    def _look(self, batch: Batch, learning_rate: float) -> None:
        """All processes compute what will be applied, and the first of them looks at it."""
        cost, gradients = self.learner.driver.gradients(*batch)
        if not cost.isfinite():
            raise FloatingPointError(f"the cost is not finite: {cost.item()}")
        if self.processes.first:
            self.observer.look(self.step, batch, learning_rate, cost, gradients)

    def _evaluate(self, last: Batch) -> None:
        """The first process looks at both sets, and all hear whether their costs are finite."""
        finite = True
        if self.processes.first:
            evaluated = self.observer.evaluate(self.step - 1, last)
            finite = math.isfinite(evaluated.train_cost + evaluated.test_cost)
            if finite:
                self.evaluated = evaluated
            if finite and evaluated.test_accuracy > self.best[0]:
                self.best = evaluated.test_accuracy, self.step
        if self.processes.any(not finite):
            raise self._broken("the cost over a whole set is not finite", last, self.step - 1)

    def _broken(self, what: str, batch: Batch, step: int) -> NonFinite:
        epoch, mini_batch = divmod(step, len(self.batches))
        what = f"{what}, {first_odd(stages(self.learner, *batch))}"
        record = FailureRecord(step, what, self.batches.examples(epoch, mini_batch).cpu())
        rate = f"lower --learning-rate, now {self.config.learning_rate}"
        return NonFinite(f"{what}, at step {step} (epoch {epoch + 1}): {rate}", record)

    def _prepared(self, split: Split) -> tuple[Tensor, Tensor]:
        labels = split.labels.to(self.config.device)
        return prepare(split.images, self.config.device), self.learner.targets(labels)

    def _figures(self) -> dict[str, Any]:
        if self.evaluated is None:  # only the first process did that
            return {}
        figures = asdict(self.evaluated)
        return {
            **{name: figures[name] for name in ("test_accuracy", "train_accuracy", "test_cost", "train_cost")},
            "epochs": self.place[0],
            "steps": self.step,
            "seconds": self.seconds,
            "examples_per_second": self.place[0] * len(self.batches.inputs) / self.seconds,
            "backend": self.config.backend,
            **self.observer.figures(),
        }


def _evaluated(values: dict[str, Any]) -> EpochRecord:
    return EpochRecord(**{name: number(value, least=0) for name, value in values.items()})  # type: ignore[arg-type]


def _random_states() -> dict[str, Any]:
    """Of every generator that has no seed of its own. None is drawn from today, but a layer that drops out would."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_states(states: dict[str, Any]) -> None:
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and len(states.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
