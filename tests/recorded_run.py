"""A short training run in frames, and autograd's gradients at each step in float64."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch.dashboard.writer import TensorBoardLogger
from bp_torch.data import prepare
from bp_torch.data.digits import draw
from bp_torch.engine import Backprop
from bp_torch.gradients import Comparison, compare
from bp_torch.nn import as_builtin, mlp
from bp_torch.training.logging.traces import FrameCapture

STEPS, RATE, N = 6, 2.0, 20
LABELS = torch.arange(10)
PROBES = prepare(draw(LABELS, seed=1)).flatten(1)


@dataclass(frozen=True)
class Reference:
    """The start of a step: a torch.nn model in float64, and the mini-batch."""

    model: torch.nn.Module
    inputs: Tensor
    targets: Tensor

    def of(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The gradients of all parameters, of the inputs ("x") and of the hidden activations ("hidden")."""
        leaf = inputs.double().requires_grad_()
        activations = self.model[:2](leaf)
        activations.retain_grad()
        cost = (self.model[2:](activations) - targets).square().sum() / len(inputs)
        cost.backward()
        trainable = [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        found = {name: parameter.grad.clone() for name, parameter in trainable}
        self.model.zero_grad()
        return {**found, "x": leaf.grad, "hidden": activations.grad}

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
    inputs, targets = prepare(draw(labels, seed=2)).flatten(1), torch.eye(10)[labels]
    driver = Backprop(model, F.squared_error)
    frames = FrameCapture(model, F.squared_error, PROBES, torch.eye(10))
    references = []
    with TensorBoardLogger(folder) as recorder:
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
