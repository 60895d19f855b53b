"""What a training run reports to its loggers, as plain data.

The loop does not know the loggers, and the loggers do not know the loop; both know these events. Steps are counted from
0. What is measured after an epoch has the number of its last step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from bp_torch.gradients import Comparison
from bp_torch.inspection import Explanation, GradientNoise, LayerState


@dataclass(frozen=True)
class Event:
    """Something that happened at a step."""

    step: int


@dataclass(frozen=True)
class RunStarted(Event):
    """Once, before the first step, which is 0 or the step at which a run is resumed."""

    config: Mapping[str, Any]  # every flag and its value
    data: str  # 'mnist' or 'digits'
    data_origin: str  # a sentence on where the data come from
    versions: Mapping[str, str]  # of Python, torch and bp_torch
    command: str  # the command line
    model: str  # its repr
    parameters: int  # number of weights and biases
    steps: int  # number of steps of the whole run
    processes: int = 1  # number of processes that train together
    remarks: tuple[str, ...] = ()  # problems found in the run's folder, a sentence each


@dataclass(frozen=True)
class StepEvent(Event):
    """One step of gradient descent, every 100 steps."""

    epoch: int
    cost: float  # of this mini-batch, before the step
    accuracy: float  # of this mini-batch, before the step, in [0, 1]
    learning_rate: float
    examples_per_second: float  # over the steps since the last event


@dataclass(frozen=True)
class AgreementEvent(Event):
    """The comparison of hand-written gradients with autograd's, on the mini-batch of one step."""

    comparisons: tuple[Comparison, ...]
    taylor_order: float  # along a random direction: 2 if the gradient is correct, 1 if not, NaN if lost in rounding
    compared: int  # number of gradients compared in the run so far
    failed: int  # number of these that did not agree


@dataclass(frozen=True)
class NoiseEvent(Event):
    """How the gradients of one mini-batch's examples spread around their mean."""

    parameters: Mapping[str, GradientNoise]  # by each parameter's name
    scale: float  # the noise scale of all parameters together, from running averages over the logged mini-batches
    scales: Mapping[str, float]  # the same by each parameter's name


@dataclass(frozen=True)
class ParameterHealth:
    """Figures that show whether a layer learns."""

    gradient_norm: float
    update_ratio: float  # ‖change in the step‖ / ‖parameter before it‖: about 1e-3 to 1e-2 in healthy training


@dataclass(frozen=True)
class HealthEvent(Event):
    """The health of every parameter at one step, by its name."""

    gradient_norm: float  # over all parameters
    parameters: Mapping[str, ParameterHealth]


@dataclass(frozen=True)
class DistributionEvent(Event):
    """Whole tensors after one step, for histograms: parameters, their gradients on its mini-batch, and activations."""

    parameters: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]


@dataclass(frozen=True)
class EpochEvent(Event):
    """Costs and accuracies over the whole sets, after an epoch."""

    epoch: int  # epochs done, from 1
    train_cost: float
    train_accuracy: float
    test_cost: float
    test_accuracy: float


@dataclass(frozen=True)
class PictureEvent(Event):
    """The first layer's weights, and the misclassified test digits with the lowest output for their label."""

    first_weights: Tensor  # (neurons, inputs), or filters (out, in, height, width), float
    worst_images: Tensor  # (K, H, W), uint8, the worst first
    worst_labels: Tensor  # (K,), int64
    worst_outputs: Tensor  # (K, classes), float: activations or probabilities in [0, 1]


@dataclass(frozen=True)
class MapEvent(Event):
    """Maps in a network for some test digits, and the gradients of each digit's cost with respect to them."""

    kind: Literal["feature maps", "attention"]  # of the first convolution, or of the heads of the last block
    images: Tensor  # (K, H, W), uint8
    maps: Tensor  # (K, C, h, w), float
    gradients: Tensor  # (K, C, h, w), float


@dataclass(frozen=True)
class DrawingEvent(Event):
    """Digits that a model has drawn."""

    images: Tensor  # (K, h, w), float in [0, 1]
    labels: Tensor  # the class that each should be, (K,), int64


@dataclass(frozen=True)
class ExplanationEvent(Event):
    """The explanations of some test digits, one of each class."""

    explanations: tuple[Explanation, ...]


@dataclass(frozen=True)
class NetworkEvent(Event):
    """The network of a run's frames; once, before the first of them."""

    steps: int  # number of steps of the whole run
    cost: str  # its name, such as "squared_error"
    sizes: tuple[int, ...]  # neurons of each layer, the inputs first
    names: tuple[tuple[str | None, str | None], ...]  # of each layer's weight and bias; None if not trained
    functions: tuple[str, ...]  # the activation of each, such as "sigmoid"
    inputs: Tensor  # of the probes, examples that every frame shows, (P, in), float
    labels: Tensor  # of the probes, (P,), int64
    refusal: str | None  # why there are no frames, if there are none


@dataclass(frozen=True)
class FrameEvent(Event):
    """One step in full: the network before the step, with its mini-batch of N examples and with P probes."""

    learning_rate: float
    gradients: Mapping[str, Tensor]  # by parameter name; the step adds −learning_rate times these
    inputs: Tensor  # of the mini-batch, (N, in), float
    labels: Tensor  # of the mini-batch, (N,), int64
    costs: Tensor  # of each example alone, the probes first, (P + N,), float
    layers: tuple[LayerState, ...]  # of P + N examples, the probes first
    comparisons: tuple[Comparison, ...]  # with autograd's gradients; empty if not compared


@dataclass(frozen=True)
class Heartbeat(Event):
    """The last step taken, reported twice a second."""


@dataclass(frozen=True)
class FailureEvent(Event):
    """A number that is not finite ended the run, before a step or after it."""

    what: str  # what is not finite, and the first layer where it is
    examples: Tensor  # of the step's mini-batch: indices in the training set, (N,), int64


@dataclass(frozen=True)
class RunFinished(Event):
    """Once, at the end; the step is the number of steps taken."""

    summary: Mapping[str, Any]  # the content of summary.json


class Logger(Protocol):
    """Receives events as they happen."""

    def record(self, event: Event) -> None:
        """Take one event; ignore unused kinds."""

    def close(self) -> None:
        """Close the logger after the last event."""
