"""What is measured during training, when, and in which events it is reported."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from bp_torch.data import Batch, Batches, Split, accuracy_of, first_of_each_class
from bp_torch.engine import Backprop, undisturbed
from bp_torch.gradients import Comparison, Gradients, compare_all, even_direction, perturbed, taylor_order
from bp_torch.inspection import GradientNoise, NoiseScaleAverage, explain, gradient_noise
from bp_torch.models import draw
from bp_torch.nn import as_builtin
from bp_torch.training.backends import COSTS, Backend, Cost, CostFunction, evaluating
from bp_torch.training.config import TrainConfig
from bp_torch.training.logging import events
from bp_torch.training.logging.traces import FrameCapture, frame_steps, layer_activations, maps_of

LOG_EVERY = 100  # steps between events of cost and health
HEARTBEAT_SECONDS = 0.5
WORST = 12  # misclassified digits that are shown
MAPPED = 4  # digits whose feature maps or attention are shown
DRAWN = 2  # digits of each class that gpt draws
SHOWN = 250  # test examples whose activations are shown
CHUNK = 500  # examples evaluated at once


class CheckCounts(NamedTuple):
    """Results of the comparisons of gradients."""

    gradient_checks: int = 0
    gradient_checks_passed: int = 0
    worst_gradient_ratio: float = 0.0  # the largest error relative to PyTorch's own


class Monitor:
    """Measures a network in training and hands events to the attached loggers."""

    def __init__(
        self, config: TrainConfig, model: torch.nn.Module, local: Backend, batches: Batches, test: Batch, digits: Split
    ) -> None:
        """Take the hand-written model, this process's backend, both sets as the model takes them, and the test set."""
        self.loggers: Sequence[events.Logger] = ()
        self.counts = CheckCounts()  # so far
        self.noise: Mapping[str, NoiseScaleAverage] = {}  # by each parameter's name; "" is all parameters together
        self.comparing_seconds = 0.0  # spent on comparisons
        self._config, self._model, self._cost, self._local = config, model, COSTS[config.cost], local
        self._train, self._test, self._digits = (batches.inputs, batches.targets), test, digits
        self._epoch_steps, self._steps = len(batches), config.epochs * len(batches)
        self._probes = first_of_each_class(digits.labels)
        self._reference = ReferenceModels(model, self._cost)
        self._frame_steps = frame_steps(self._steps, config.frames if config.model == "mlp" and config.plain else 0)
        self.noise_unsupported = self._find_noise_unsupported()  # why the gradients' noise is not measured, or ""
        self._frames: FrameCapture | None = None
        self._last_heartbeat = -math.inf
        self._last_logged = (0, 0.0)
        self._before_step: tuple[Gradients, list[Tensor]] | None = None  # of a step that is logged, until it is taken

    def record(self, event: events.Event) -> None:
        """Hand an event to every logger."""
        for logger in self.loggers:
            logger.record(event)

    def close(self) -> None:
        """Close every logger."""
        for logger in self.loggers:
            logger.close()

    def begin(self, step: int) -> None:
        """Record the network and start the clock, before the first step."""
        if self._config.frames:
            probes = self._test[0][self._probes], self._test[1][self._probes]
            with undisturbed(self._model):
                self._frames = FrameCapture(self._model, self._cost.function, *probes, plain=self._config.plain)
            self.record(self._frames.network(step, self._steps))
        self._last_logged = (step, time.perf_counter())

    def should_log(self, step: int) -> bool:
        """Whether a step is measured before it is taken."""
        return step % LOG_EVERY == 0 or self._should_compare(step) or step in self._frame_steps

    def log(self, step: int, batch: Batch, learning_rate: float, cost: Tensor, gradients: Gradients) -> None:
        """Measure a step that is about to be taken."""
        if step % LOG_EVERY == 0:
            self._log_step(step, batch, learning_rate, cost)
            self._before_step = gradients, [parameter.detach().clone() for parameter in self._model.parameters()]
        comparisons = self._compare(step, gradients, batch) if self._should_compare(step) else ()
        if self._frames and step in self._frame_steps:
            self.record(self._frames.capture(step, batch, learning_rate, gradients, comparisons))
        if step == 0 and self._steps > 1:  # otherwise the last evaluation does
            self._explain(0, batch)

    def after_step(self, step: int) -> None:
        """Report a step that was taken: its health, if it was logged, and a heartbeat twice a second at most."""
        if self._before_step is not None:
            self._log_health(step, *self._before_step)
            self._before_step = None
        now = time.perf_counter()
        if now - self._last_heartbeat > HEARTBEAT_SECONDS:
            self._last_heartbeat = now
            self.record(events.Heartbeat(step))

    @torch.no_grad()
    def evaluate(self, step: int, last: Batch) -> events.EpochEvent:
        """Measure both sets after an epoch's last step and mini-batch; whole tensors and pictures log-spaced."""
        began, epoch = time.perf_counter(), (step + 1) // self._epoch_steps
        train_cost, train_accuracy, _ = self._measure(self._train)
        test_cost, test_accuracy, outputs = self._measure(self._test)
        event = events.EpochEvent(step, epoch, train_cost, train_accuracy, test_cost, test_accuracy)
        self.record(event)
        if math.isfinite(train_cost + test_cost):
            if epoch == self._config.epochs or math.log2(epoch) % 1 == 0:
                self._log_distributions(step, last)
            if epoch == self._config.epochs or math.log2(epoch) % 3 == 0:
                self._log_pictures(step, outputs)
                self._explain(step, last)
        logged, then = self._last_logged
        self._last_logged = (logged, then + time.perf_counter() - began)
        return event

    def _should_compare(self, step: int) -> bool:
        every = self._config.compare_every
        return every > 0 and (step % every == 0 or step in self._frame_steps)

    def _find_noise_unsupported(self) -> str:
        count = self._config.batch_size
        examples = self._train[0][:count], self._train[1][:count]
        try:
            with undisturbed(self._model):
                gradient_noise(self._model, self._cost.function, *examples)
        except TypeError as error:
            return str(error)
        return ""

    def _log_step(self, step: int, batch: Batch, learning_rate: float, cost: Tensor) -> None:
        (before, then), now = self._last_logged, time.perf_counter()
        speed = (step - before) / self._epoch_steps * len(self._train[0]) / (now - then)
        self._last_logged = (step, now)
        with torch.no_grad(), undisturbed(self._model):
            accuracy = accuracy_of(self._local.model(batch[0]), batch[1])
        self.record(events.StepEvent(step, step // self._epoch_steps, cost.item(), accuracy, learning_rate, speed))

    def _log_health(self, step: int, gradients: Gradients, before: list[Tensor]) -> None:
        health = {}
        for (name, parameter), old in zip(self._model.named_parameters(), before, strict=True):
            tensors = gradients[name], parameter.detach() - old, old
            gradient, update, size = (torch.linalg.vector_norm(x).item() for x in tensors)
            health[name] = events.ParameterHealth(gradient, update / size if size else math.inf)
        self.record(events.HealthEvent(step, math.hypot(*(part.gradient_norm for part in health.values())), health))

    def _compare(self, step: int, gradients: Gradients, batch: Batch) -> tuple[Comparison, ...]:
        """Compare the gradients, and measure their noise; with backend builtin, compute them by hand first."""
        began = time.perf_counter()
        hand = self._hand_written(gradients, batch)
        comparisons = self._reference.compare(hand, batch)
        order = self._reference.taylor_order(hand, batch, seed=step)
        noise = None if self.noise_unsupported else self._measure_noise(step, batch)
        checks = self.counts.gradient_checks + len(comparisons)
        passed = self.counts.gradient_checks_passed + sum(one.passed for one in comparisons)
        worst = max(self.counts.worst_gradient_ratio, *(one.error_ratio for one in comparisons))
        self.counts = CheckCounts(checks, passed, worst)
        self.comparing_seconds += time.perf_counter() - began
        self.record(events.AgreementEvent(step, comparisons, order, checks, checks - passed))
        if noise:
            self.record(noise)
        return comparisons

    def _hand_written(self, gradients: Gradients, batch: Batch) -> Gradients:
        """The hand-written gradients of the mini-batch.

        Where a model normalizes it, several processes have each normalized a shard: compute them as a whole.
        """
        if self._config.backend == "builtin":
            return self._reference.hand_written(batch)
        if not list(self._model.buffers()):
            return gradients
        with undisturbed(self._model):
            return self._local.gradients(*batch)[1]

    def _measure_noise(self, step: int, batch: Batch) -> events.NoiseEvent:
        with undisturbed(self._model):
            noise = gradient_noise(self._model, self._cost.function, *batch)
        groups: dict[str, Iterable[GradientNoise]] = {
            "": noise.values(),
            **{name: [one] for name, one in noise.items()},
        }
        self.noise = {name: self.noise.get(name, NoiseScaleAverage()).add(group) for name, group in groups.items()}
        scales = {name: average.scale for name, average in self.noise.items()}
        return events.NoiseEvent(step, noise, scales.pop(""), scales)

    def _measure(self, examples: Batch) -> tuple[float, float, Tensor]:
        with evaluating(self._local.model):
            outputs = torch.cat([self._local.model(chunk) for chunk in torch.split(examples[0], CHUNK)])
        return self._cost.function(outputs, examples[1]).item(), accuracy_of(outputs, examples[1]), outputs

    def _log_distributions(self, step: int, last: Batch) -> None:
        parameters = {name: p.detach() for name, p in self._model.named_parameters()}
        with undisturbed(self._model):
            gradients = self._local.gradients(*last)[1]
        examples = self._test[0][:SHOWN], self._test[1][:SHOWN]
        with evaluating(self._model):
            activations = layer_activations(Backprop(self._model, self._cost.function), *examples)
        self.record(events.DistributionEvent(step, parameters, gradients, activations))

    def _explain(self, step: int, last: Batch) -> None:
        """Explain a test digit of each class; where nothing is compared, measure the last mini-batch's noise too."""
        if not self._config.compare_every and not self.noise_unsupported:
            self.record(self._measure_noise(step, last))
        if self._config.model != "mlp":
            return
        examples = [(self._digits.images[index], int(self._digits.labels[index])) for index in self._probes]
        explanations = [explain(self._model, self._cost.function, *example) for example in examples]
        self.record(events.ExplanationEvent(step, tuple(explanations)))

    def _log_pictures(self, step: int, outputs: Tensor) -> None:
        if self._config.model == "gpt":
            self._log_drawing(step)
        else:
            self._log_worst_digits(step, outputs)
        examples = self._test[0][self._probes[:MAPPED]], self._test[1][self._probes[:MAPPED]]
        with evaluating(self._model):
            found = maps_of(Backprop(self._model, self._cost.function), *examples)
        if found is not None:
            self.record(events.MapEvent(step, found.kind, self._digits.images[self._probes[:MAPPED]], *found[1:]))

    def _log_drawing(self, step: int) -> None:
        labels = self._digits.labels[self._probes].repeat(DRAWN)
        with evaluating(self._model):
            images = draw(self._model, labels.to(self._config.device), seed=self._config.seed)
        self.record(events.DrawingEvent(step, images, labels))

    def _log_worst_digits(self, step: int, outputs: Tensor) -> None:
        probabilities, labels = self._cost.probabilities(outputs), self._digits.labels.to(outputs.device)
        given = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
        wrong = (outputs.argmax(1) != labels).nonzero().squeeze(1)
        worst = wrong[given[wrong].argsort()[:WORST]]
        weights = next(p.detach() for name, p in self._model.named_parameters() if "weight" in name)
        digits = self._digits.images[worst.cpu()], labels[worst].cpu(), probabilities[worst].cpu()
        self.record(events.PictureEvent(step, weights, *digits))


class ReferenceModels:
    """Gradients by hand and through PyTorch's own layers, at the parameters of a model or at others."""

    def __init__(self, model: torch.nn.Module, cost: Cost) -> None:
        """Take the hand-written model and its cost."""
        self._hand, self._builtin, self._cost = model, as_builtin(model), cost
        self._parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def compare(self, hand: Gradients, batch: Batch) -> tuple[Comparison, ...]:
        """Compare the hand-written gradients with autograd's, on the same mini-batch and weights."""

        def draw(generator: torch.Generator | None) -> tuple[Gradients, Gradients, Gradients]:
            parameters = {name: perturbed(p, generator) for name, p in self._parameters.items()}
            moved = perturbed(batch[0], generator), batch[1]
            by_hand = hand if generator is None else self.hand_written(moved, parameters)
            return by_hand, *self.reference(moved, parameters)

        return tuple(compare_all(draw))

    def hand_written(self, batch: Batch, parameters: Gradients | None = None) -> Gradients:
        """The hand-written gradients."""
        return _gradients(self._hand, self._cost.function, parameters or self._parameters, batch)

    def reference(self, batch: Batch, parameters: Gradients | None = None) -> tuple[Gradients, Gradients]:
        """Autograd's gradients through PyTorch's own layers: in float32, and in float64."""
        gradients = partial(_gradients, self._builtin, self._cost.reference)
        narrow = parameters or self._parameters
        wide = {name: parameter.double() for name, parameter in narrow.items()}
        return gradients(narrow, batch), gradients(wide, _double(batch))

    @torch.no_grad()
    def taylor_order(self, hand: Gradients, batch: Batch, *, seed: int) -> float:
        """The order of the cost's Taylor remainder along one random direction of all parameters: 2 if `hand` is right.

        The cost is that of the hand-written layers, in float64.
        """
        generator = torch.Generator().manual_seed(seed)
        start = {name: parameter.double() for name, parameter in self._parameters.items()}
        direction = {name: even_direction(p, generator) for name, p in start.items()}
        inputs, targets = _double(batch)

        def cost(t: float) -> float:
            moved = {name: p + t * direction[name] for name, p in start.items()}
            return _cost(self._hand, self._cost.function, moved, (inputs, targets)).item()

        return taylor_order(cost, sum((hand[name] * direction[name]).sum().item() for name in direction))


def _gradients(model: torch.nn.Module, cost: CostFunction, parameters: Gradients, batch: Batch) -> Gradients:
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
    value = _cost(model, cost, leaves, batch)
    return dict(zip(leaves, torch.autograd.grad(value, tuple(leaves.values())), strict=True))


def _cost(model: torch.nn.Module, cost: CostFunction, parameters: Gradients, batch: Batch) -> Tensor:
    """The cost of a mini-batch, with copies of the buffers in the dtype of the parameters."""
    dtype = next(iter(parameters.values())).dtype
    buffers = {name: b.to(dtype if b.is_floating_point() else b.dtype, copy=True) for name, b in model.named_buffers()}
    with undisturbed(model):
        return cost(functional_call(model, {**parameters, **buffers}, batch[0]), batch[1])


def _double(batch: Batch) -> Batch:
    inputs, targets = (x.double() if x.is_floating_point() else x for x in batch)
    return inputs, targets
