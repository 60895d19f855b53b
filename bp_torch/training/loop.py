"""Training: shuffle, split into mini-batches, take a step for each, and log."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from bp_torch.data import Batch, Batches, Dataset, Split, prepare
from bp_torch.engine import Backprop, undisturbed
from bp_torch.inspection import NoiseScaleAverage
from bp_torch.models import MODELS, pixel_tokens
from bp_torch.nn import ACTIVATIONS, mlp
from bp_torch.training.backends import (
    COSTS,
    SINGLE,
    Distributed,
    ProcessGroup,
    ProcessLost,
    build_backend,
)
from bp_torch.training.config import TrainConfig
from bp_torch.training.logging.events import EpochEvent, FailureEvent, Logger
from bp_torch.training.logging.monitor import CheckCounts, Monitor
from bp_torch.training.logging.traces import TensorStats, first_non_finite, tensor_stats
from bp_torch.training.state.run_dir import State, number


class NonFinite(RuntimeError):
    """A cost, a gradient or a parameter is NaN or infinite; the message is one line."""

    def __init__(self, message: str, event: FailureEvent) -> None:
        """Take the message, and the event for loggers."""
        super().__init__(message)
        self.event = event


def build_model(config: TrainConfig, image_shape: Sequence[int], classes: int) -> torch.nn.Sequential:
    """The network of hand-written layers for images (H, W), with initial weights from the seed."""
    torch.manual_seed(config.seed)
    output_activation = COSTS[config.cost].output_activation
    if config.model == "mlp":
        sizes = config.sizes(math.prod(image_shape), classes)
        model = mlp(sizes, config.activation, output_activation=output_activation)
    else:
        model = MODELS[config.model](classes)
        model.add_module(f"output_{output_activation}", ACTIVATIONS[output_activation]())
    return model.to(config.device)


def model_batch(config: TrainConfig, digits: Split, classes: int) -> Batch:
    """The inputs and targets of the network, from uint8 images (N, H, W) and labels (N,).

    The inputs are (N, 1, H, W), (N, H·W) for dense layers, and tokens (N, T) for gpt, whose targets are tokens too.
    """
    images, labels = prepare(digits.images, config.device), digits.labels.to(config.device)
    if config.model == "gpt":
        return pixel_tokens(images, labels)
    return images.flatten(1) if config.model == "mlp" else images, COSTS[config.cost].targets(labels, classes)


class Trainer:
    """Trains a network on a data set, and logs."""

    def __init__(
        self, config: TrainConfig, dataset: Dataset, loggers: Sequence[Logger] = (), group: ProcessGroup = SINGLE
    ) -> None:
        """Prepare the data on the device and initialise the weights."""
        self.config = config
        self.group = group
        self.cost = COSTS[config.cost]
        self._image_shape, self._classes = tuple(dataset.image_shape), dataset.classes
        self.model = build_model(config, self._image_shape, self._classes)  # whose parameters every backend trains
        options = {"momentum": config.momentum, "weight_decay": config.weight_decay}
        self.local = build_backend(config.backend, self.model, self.cost, **options)
        self.backend = self.local if group.size == 1 else Distributed(self.local, group, **options)  # in all processes
        train, test = (model_batch(config, split, dataset.classes) for split in (dataset.train, dataset.test))
        self.batches = Batches(*train, config.batch_size, seed=config.seed)
        self.steps = config.epochs * len(self.batches)
        self.monitor = Monitor(config, self.model, self.local, self.batches, test, dataset.test)
        self.monitor.loggers = loggers  # empty in all processes but the first
        self.step = 0  # the next step, counted over the whole run
        self.evaluated: EpochEvent | None = None  # after the last epoch
        self.best = (-math.inf, 0)  # highest test accuracy so far, and the step at which it was first reached
        self.seconds = 0.0  # spent on training and logging, including sessions before the run was resumed

    def run(self, after_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Train to the end; call `after_step` after each step and its evaluation.

        Returns:
            The figures of summary.json; empty if this is not the first process.

        Raises:
            NonFinite: if the cost or a gradient of a step is not finite, before the step is taken; or if the cost over
                a whole set is not finite.
            ProcessLost: if another process cannot be reached.
        """
        began = time.perf_counter() - self.seconds
        if self.group.first:
            self.monitor.begin(self.step)
        while self.step < self.steps:
            for batch in self.batches.epoch(*divmod(self.step, len(self.batches))):
                self._take_step(batch)
                if self.step % len(self.batches) == 0:
                    self._evaluate(batch)
                self.seconds = time.perf_counter() - began
                after_step()
        self.seconds = time.perf_counter() - began
        return self._figures()

    def state(self) -> State:
        """What `load_state` needs to resume from here."""
        values = {
            "config": self.config.as_dict(),
            "image_shape": self._image_shape,
            "classes": self._classes,
            "step": self.step,
            "seconds": self.seconds,
            "evaluated": self.evaluated and asdict(self.evaluated),
            "best": self.best,
            "noise": self.monitor.noise,
            **self.monitor.counts._asdict(),
        }
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        tensors = {
            "parameters": self.model.state_dict(),
            "optimizer": self.backend.state_dict(),
            "random": {"cpu": torch.get_rng_state(), **{f"cuda{i}": state for i, state in enumerate(cuda)}},
        }
        return State(values, {f"{kind}.{name}": t for kind, named in tensors.items() for name, t in named.items()})

    def load_state(self, state: State) -> None:
        """Resume from a state as if never interrupted; various exceptions if the state does not fit."""
        values = state.values
        step, seconds, *counts = (number(values[name], least=0) for name in ("step", "seconds", *CheckCounts._fields))
        if step != int(step) or step > self.steps or counts[1] > counts[0]:
            raise ValueError(f"invalid step {step} or counts {counts}")
        accuracy, reached = map(number, values["best"])
        averages = values.get("noise", {}).items()  # missing in checkpoints of earlier versions
        noise = {name: NoiseScaleAverage(number(trace), number(signal)) for name, (trace, signal) in averages}
        evaluated = values["evaluated"] and {name: number(v, least=0) for name, v in values["evaluated"].items()}
        parameters, optimizer = (state.of_model(kind, self.model) for kind in ("parameters", "optimizer"))
        random = state.group("random")
        if len(parameters) + len(optimizer) + len(random) != len(state.tensors):
            raise ValueError("unexpected tensors")
        if any(parameters[name].dtype != tensor.dtype for name, tensor in self.model.state_dict().items()):
            raise TypeError("parameters of another dtype")
        self.model.load_state_dict(parameters)
        self.backend.load_state_dict({name: tensor.to(self.config.device) for name, tensor in optimizer.items()})
        torch.set_rng_state(random.pop("cpu"))
        if torch.cuda.is_available() and len(random) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([random[f"cuda{i}"] for i in range(len(random))])
        self.evaluated = EpochEvent(**evaluated) if evaluated else None
        self.best = accuracy, int(reached)
        self.step, self.seconds = int(step), seconds
        self.monitor.counts = CheckCounts(*counts)  # type: ignore[arg-type]
        self.monitor.noise = noise

    def require_finite(self) -> None:
        """Raise NonFinite if a parameter is not finite: such a state cannot be resumed."""
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            last = self.batches.epoch(*divmod(self.step - 1, len(self.batches)))
            raise self._failure("the parameters are not finite", next(last), self.step - 1)

    def stats(self, batch: Batch) -> list[TensorStats]:
        """The largest magnitude in every tensor of a mini-batch's forward and backward pass, in this process alone."""
        with undisturbed(self.model):
            gradients = self.local.gradients(*batch)[1]
        with undisturbed(self.model):
            return tensor_stats(Backprop(self.model, self.cost.function), gradients, batch)

    def _take_step(self, batch: Batch) -> None:
        learning_rate = self.config.learning_rate_at(self.step, self.steps)
        before = self.monitor.counts, self.monitor.noise
        try:
            if self.monitor.should_log(self.step):
                self._log(batch, learning_rate)
            getattr(self.backend, f"{self.config.optimizer}_step")(*batch, learning_rate)
        except FloatingPointError as error:
            raise self._failure(str(error), batch, self.step) from None
        except ProcessLost:
            self.monitor.counts, self.monitor.noise = before  # the resumed run logs this step again
            raise
        self.step += 1
        if self.group.first:
            self.monitor.after_step(self.step - 1)

    def _log(self, batch: Batch, learning_rate: float) -> None:
        """Compute the gradients of the step in all processes, and log them in the first."""
        with undisturbed(self.model):
            cost, gradients = self.backend.gradients(*batch)
        if not cost.isfinite():
            raise FloatingPointError(f"the cost is not finite: {cost.item()}")
        if self.group.first:
            self.monitor.log(self.step, batch, learning_rate, cost, gradients)

    def _evaluate(self, last: Batch) -> None:
        """Evaluate both sets in the first process; stop all if a cost is not finite."""
        finite = True
        if self.group.first:
            evaluated = self.monitor.evaluate(self.step - 1, last)
            finite = math.isfinite(evaluated.train_cost + evaluated.test_cost)
            if finite:
                self.evaluated = evaluated
                self.best = max(self.best, (evaluated.test_accuracy, self.step), key=lambda best: best[0])
        if self.group.any(not finite):
            raise self._failure("the training or test cost is not finite", last, self.step - 1)

    def _failure(self, what: str, batch: Batch, step: int) -> NonFinite:
        epoch, index = divmod(step, len(self.batches))
        what = f"{what}, {first_non_finite(self.stats(batch))}"
        event = FailureEvent(step, what, self.batches.examples(epoch, index).cpu())
        rate = f"lower --learning-rate, now {self.config.learning_rate}"
        return NonFinite(f"{what}, at step {step} (epoch {epoch + 1}): {rate}", event)

    def _figures(self) -> dict[str, Any]:
        if self.evaluated is None:  # not the first process
            return {}
        evaluated = asdict(self.evaluated)
        return {
            **{name: evaluated[name] for name in ("test_accuracy", "train_accuracy", "test_cost", "train_cost")},
            "epochs": self.config.epochs,
            "steps": self.step,
            "seconds": self.seconds,
            "examples_per_second": self.config.epochs * len(self.batches.inputs) / self.seconds,
            "backend": self.config.backend,
            **self.monitor.counts._asdict(),
        }
