"""A short training run in frames, and what PyTorch's autograd says of each, in float64."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.data import prepare
from bp_torch.data.digits import draw
from bp_torch.engine import Backprop
from bp_torch.gradients import Comparison, compare
from bp_torch.nn import as_builtin, mlp
from bp_torch.training.logging.traces import FrameCapture

STEPS, RATE, N = 6, 2.0, 20
LABELS = torch.arange(10)
PROBES = prepare(draw(LABELS, seed=1))


@dataclass(frozen=True)
class Reference:
    """A step's start: a model of torch.nn in float64, and its mini-batch."""

    model: torch.nn.Module
    inputs: Tensor
    targets: Tensor

    def of(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The gradient of every parameter, and under "x" that of the inputs, under "2" that of layer 2's input."""
        cut = inputs.double().requires_grad_()
        between = self.model[:2](cut)
        between.retain_grad()
        cost = (self.model[2:](between) - targets).square().sum() / len(inputs)
        cost.backward()
        learning = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        found = {name: parameter.grad.clone() for name, parameter in learning}
        self.model.zero_grad()
        return {**found, "x": cut.grad, "2": between.grad}

    def example(self, probe: int) -> dict[str, Tensor]:
        return self.of(PROBES[probe : probe + 1], torch.eye(10, dtype=torch.float64)[probe : probe + 1])


def write_run(
    folder: Path, *, hidden: int = 8, examples: int = N, wrong: bool = False, frozen: bool = False
) -> list[Reference]:
    """Record every step of a run, of `wrong` gradients, or with the first layer `frozen`."""
    torch.manual_seed(0)
    model = mlp((784, hidden, 10))
    model[0].requires_grad_(not frozen)
    labels = torch.arange(examples) % 10
    inputs, targets = prepare(draw(labels, seed=2)), torch.eye(10)[labels]
    driver = Backprop(model, F.squared_error)
    frames = FrameCapture(model, F.squared_error, PROBES, torch.eye(10))
    references = []
    with TensorBoardRecorder(folder) as recorder:
        recorder.record(frames.network(0, STEPS))
        for step in range(STEPS):
            order = torch.randperm(examples)
            batch = inputs[order], targets[order]
            references.append(Reference(as_builtin(copy.deepcopy(model)).double(), *batch))
            _, gradients = driver.gradients(*batch)
            compared = [comparison(name, gradients[name], references[-1], 1.5 if wrong else 1.0) for name in gradients]
            recorder.record(frames.capture(step, batch, RATE, gradients, compared))
            driver.sgd_step(*batch, RATE)
    return references


def comparison(name: str, gradient: Tensor, reference: Reference, factor: float) -> Comparison:
    truth = reference.of(reference.inputs, reference.targets.double())[name]
    return compare(name, gradient * factor, truth.float(), truth)
