"""What a training run reports: plain data, handed to whatever recorder is attached.

The loop knows no recorder, a recorder knows no loop; both know these. Steps are counted from 0; what is measured after
an epoch bears the number of its last step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from bp_torch.gradients import Comparison
from bp_torch.inspection import Explanation, GradientNoise, LayerState


@dataclass(frozen=True)
class RunStarted:
    """Once, before the first step."""

    config: Mapping[str, Any]
    """Every flag and its value."""
    data: str
    """'mnist' or 'digits'."""
    data_origin: str
    """A sentence: where the data come from, and why not from elsewhere."""
    versions: Mapping[str, str]
    """Of python, torch and this project."""
    command: str
    """What was typed."""
    model: str
    """Its repr."""
    parameters: int
    """How many weights and biases it has."""
    first_step: int
    """0, or where a resumed run goes on."""
    steps: int
    """How many there will be in all."""
    compared: int = 0
    """Gradients compared before a break, if this run goes on after one."""
    agreed: int = 0
    """How many of them agreed."""
    processes: int = 1
    """How many train together."""
    remarks: tuple[str, ...] = ()
    """What was found amiss in the run's folder, a sentence each."""


@dataclass(frozen=True)
class StepRecord:
    """One step of gradient descent, every so many steps."""

    step: int
    epoch: int
    cost: float
    """Of this mini-batch, before the step."""
    accuracy: float
    """Of this mini-batch, before the step, in [0, 1]."""
    learning_rate: float
    examples_per_second: float
    """Over the steps since the last record."""


@dataclass(frozen=True)
class AgreementRecord:
    """The hand-written gradient of one step's mini-batch against autograd's, parameter by parameter."""

    step: int
    comparisons: tuple[Comparison, ...]
    taylor_order: float
    """Of the whole cost's Taylor remainder along one random direction: 2 if the gradient is right, 1 if not; NaN where
    the remainder is lost in rounding."""


@dataclass(frozen=True)
class NoiseRecord:
    """How what the examples of one step's mini-batch ask for spreads around its mean, the gradient."""

    step: int
    scale: float
    """The simple noise scale of all parameters together: mini-batches much larger than it teach little more."""
    parameters: Mapping[str, GradientNoise]
    """The same of each parameter, by its name."""


@dataclass(frozen=True)
class ParameterHealth:
    """Sizes that tell whether a layer learns."""

    gradient_norm: float
    update_ratio: float
    """‖learning rate · gradient‖ / ‖parameter‖: about 1e-3 to 1e-2 when all is well."""


@dataclass(frozen=True)
class HealthRecord:
    """The health of every parameter at one step, by its name."""

    step: int
    gradient_norm: float
    """Of all parameters together."""
    parameters: Mapping[str, ParameterHealth]


@dataclass(frozen=True)
class DistributionRecord:
    """Whole tensors after one step, for histograms: parameters, their gradients on its mini-batch, and activations."""

    step: int
    parameters: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """Costs and accuracies over the whole sets, after an epoch."""

    step: int
    epoch: int
    """Epochs done, from 1."""
    train_cost: float
    train_accuracy: float
    test_cost: float
    test_accuracy: float


@dataclass(frozen=True)
class PictureRecord:
    """What can be looked at: the first layer's weights, and the test digits most wrongly classified."""

    step: int
    first_weights: Tensor
    """(neurons, inputs), float."""
    worst_images: Tensor
    """(K, 28, 28), uint8, the worst first."""
    worst_labels: Tensor
    """(K,), int64."""
    worst_outputs: Tensor
    """(K, classes), float: activations or probabilities in [0, 1]."""


@dataclass(frozen=True)
class ExplanationRecord:
    """What some test digits ask of the network, one of each class."""

    step: int
    explanations: tuple[Explanation, ...]


@dataclass(frozen=True)
class EmbeddingRecord:
    """What one layer makes of some digits: a point in as many dimensions as it has neurons for each of them."""

    step: int
    layer: str
    """Its name in the model and its kind, such as "3.Sigmoid"."""
    activations: Tensor
    """(N, neurons), float."""
    images: Tensor
    """(N, 28, 28), uint8."""
    labels: Tensor
    """(N,), int64."""
    answers: Tensor
    """(N,), int64: what the network reads."""


@dataclass(frozen=True)
class NetworkRecord:
    """What the frames of a run have in common; once, before the first of them."""

    step: int
    steps: int
    """How many there will be in all."""
    cost: str
    """Its name, such as "squared_error"."""
    sizes: tuple[int, ...]
    """Neurons of each layer, the inputs first."""
    names: tuple[tuple[str | None, str | None], ...]
    """Of weight and bias of each dense layer; None of what does not learn."""
    functions: tuple[str, ...]
    """The activation of each, such as "sigmoid"."""
    inputs: Tensor
    """Of the probes, examples that every frame shows, (P, in), float."""
    labels: Tensor
    """Of the probes, (P,), int64."""
    refusal: str | None
    """Why there are no frames, of a model that is no chain of dense layers."""


@dataclass(frozen=True)
class FrameRecord:
    """One step, whole: a network as the step found it, and what its mini-batch of N examples and P probes ask for."""

    step: int
    learning_rate: float
    gradients: Mapping[str, Tensor]
    """By each parameter's name, what the step will apply, times −learning_rate."""
    inputs: Tensor
    """Of the mini-batch, (N, in), float."""
    labels: Tensor
    """Of the mini-batch, (N,), int64."""
    costs: Tensor
    """Of each example alone, the probes first, (P + N,), float."""
    layers: tuple[LayerState, ...]
    """Of P + N examples, the probes first."""
    comparisons: tuple[Comparison, ...]
    """Of each parameter's hand-written gradient with autograd's; none if they were not compared."""


@dataclass(frozen=True)
class PulseRecord:
    """A sign of life, once or twice a second."""

    step: int
    """The last that was taken."""


@dataclass(frozen=True)
class FailureRecord:
    """Numbers that are not finite have ended a run."""

    step: int
    """The one that was about to be taken, or if what it led to is not finite, had been."""
    what: str
    """What is not finite, and where it is so first."""
    examples: Tensor
    """Of the step's mini-batch: places in the training set, (N,), int64."""


@dataclass(frozen=True)
class RunFinished:
    """Once, at the end: what summary.json holds."""

    step: int
    """How many were taken."""
    summary: Mapping[str, Any]


Record = (
    RunStarted
    | StepRecord
    | AgreementRecord
    | NoiseRecord
    | HealthRecord
    | DistributionRecord
    | EpochRecord
    | PictureRecord
    | ExplanationRecord
    | EmbeddingRecord
    | NetworkRecord
    | FrameRecord
    | PulseRecord
    | FailureRecord
    | RunFinished
)


class Recorder(Protocol):
    """Takes records as they come."""

    def record(self, record: Record) -> None:
        """Take one record; a kind it has no use for is passed over."""

    def close(self) -> None:
        """There will be no more."""
