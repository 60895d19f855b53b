"""Backends that compute gradients and take steps, in one process or several.

The cost of N examples is a mean, so a shard of n examples has weight n/N. The weighted sums of costs and gradients are
those of the whole mini-batch, also for uneven shards. Only the first process reads and writes files.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import one_hot

from bp_torch.catalogue import CATALOGUE
from bp_torch.engine import Backprop
from bp_torch.gradients import Gradients
from bp_torch.nn import as_builtin

_Made = TypeVar("_Made")
CostFunction = Callable[[Tensor, Tensor], Tensor]
_ADAMW_STATE = "exp_avg", "exp_avg_sq", "step"
_TIMEOUT = timedelta(minutes=10)
"""How long processes wait for each other: the first may have to download the data, or draw pictures."""


class Cost(NamedTuple):
    """A cost to train with."""

    function: CostFunction  # hand-written; takes outputs (N, classes) and targets
    reference: CostFunction  # the same, by PyTorch's own functions
    output_activation: str  # of the network's last layer
    takes_one_hot: bool  # one-hot targets and outputs in [0, 1]; otherwise class indices and logits

    def targets(self, labels: Tensor, classes: int) -> Tensor:
        """The cost's targets, from class indices (N,)."""
        return one_hot(labels, classes).float() if self.takes_one_hot else labels

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Outputs in [0, 1], (N, classes)."""
        return outputs if self.takes_one_hot else outputs.softmax(1)


COSTS = {
    name: Cost(CATALOGUE[name].function, CATALOGUE[name].reference, *rest)
    for name, rest in {"squared_error": ("sigmoid", True), "cross_entropy": ("identity", False)}.items()
}


class Autograd:
    """Autograd and torch.optim's SGD and AdamW."""

    def __init__(
        self, model: torch.nn.Module, cost: CostFunction, *, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        """Take a model and its cost."""
        self.model = model
        self.cost = cost
        self._parameters = dict(model.named_parameters())
        parameters = list(self._parameters.values())
        self._sgd = torch.optim.SGD(parameters, lr=0.0, momentum=momentum, weight_decay=weight_decay)
        self._adamw = torch.optim.AdamW(parameters, lr=0.0, weight_decay=weight_decay)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Gradients]:
        """The cost, and the gradient of each parameter by its name."""
        with torch.enable_grad():
            cost = self.cost(self.model(inputs), targets)
        gradients = torch.autograd.grad(cost, tuple(self._parameters.values()))
        return cost.detach(), dict(zip(self._parameters, gradients, strict=True))

    def sgd_step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """Take one step of SGD; FloatingPointError, and no step, if cost or gradient is not finite."""
        return self._step(self._sgd, inputs, targets, learning_rate)

    def adamw_step(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """Take one step of AdamW; errors as `sgd_step`."""
        return self._step(self._adamw, inputs, targets, learning_rate)

    def _step(self, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        cost, gradients = self.gradients(inputs, targets)
        require_finite(cost, gradients)
        for name, parameter in self._parameters.items():
            parameter.grad = gradients[name]
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        return cost

    def state_dict(self) -> dict[str, Tensor]:
        """The optimizers' state, named as by `bp_torch.engine.Backprop`."""
        state = {name: self._sgd.state.get(p, {}).get("momentum_buffer") for name, p in self._parameters.items()}
        for name, parameter in self._parameters.items():
            state |= {f"{name}.{key}": value for key, value in self._adamw.state.get(parameter, {}).items()}
        return {name: value for name, value in state.items() if value is not None}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the optimizers' state; ValueError if it is of another network."""
        for name, value in state.items():
            owner, _, key = name.rpartition(".")
            of_adamw = key in _ADAMW_STATE and owner in self._parameters
            optimizer, parameter = (self._adamw, owner) if of_adamw else (self._sgd, name)
            known = parameter in self._parameters
            if not known or value.shape != (() if key == "step" else self._parameters[parameter].shape):
                raise ValueError(f"there is no state {name!r} of shape {tuple(value.shape)}")
            optimizer.state[self._parameters[parameter]][key if of_adamw else "momentum_buffer"] = value.clone()


class Distributed(Autograd):
    """A backend in several processes: each computes a shard of the mini-batch, and the gradients are summed."""

    def __init__(self, local: "Backend", group: "ProcessGroup", **options: float) -> None:
        """Take the backend of this process, whose model must be the same in all, the processes, and SGD's options."""
        super().__init__(local.model, local.cost, **options)
        self._local, self._group = local, group

    @torch.no_grad()
    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Gradients]:
        """The cost of the whole mini-batch, and the weighted sum of the shards' gradients."""
        *shard, weight = self._group.shard(inputs, targets)
        cost, gradients = self._local.gradients(*shard)
        flat = torch.cat([cost.reshape(1), *(gradient.flatten() for gradient in gradients.values())])
        sizes = [1, *(gradient.numel() for gradient in gradients.values())]
        total, *sums = torch.split(self._group.all_reduce(flat.mul_(weight)), sizes)
        return total[0], {name: part.view_as(gradients[name]) for name, part in zip(gradients, sums, strict=True)}


Backend = Backprop | Autograd
"""Computes gradients and takes steps, on the model's own parameters."""


def build_backend(name: str, model: torch.nn.Module, cost: Cost, **options: Any) -> Backend:
    """Make a backend for one process, by its name; `options` are momentum and weight_decay."""
    if name == "engine":
        return Backprop(model, cost.function, **options)
    if name == "builtin":
        return Autograd(as_builtin(model), cost.reference, **options)
    return Autograd(model, cost.function, **options)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Set the model to evaluation, and back to training afterwards."""
    model.eval()
    try:
        yield
    finally:
        model.train()


def require_finite(cost: Tensor, gradients: Gradients) -> None:
    """Raise FloatingPointError if the cost or a gradient is not finite."""
    total = sum((gradient.sum() for gradient in gradients.values()), start=cost)
    if math.isfinite(total.item()):  # usually; otherwise the sum alone may have overflowed
        return
    if not cost.isfinite():
        raise FloatingPointError(f"the cost is not finite: {cost.item()}")
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            raise FloatingPointError(f"the gradient of {name!r} is not finite")


class ProcessLost(RuntimeError):
    """Another process of this job has ended or cannot be reached; the message is one line."""


class ProcessGroup(NamedTuple):
    """The processes that train together; by default, this one alone."""

    rank: int = 0  # of this process
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that measures, reads and writes."""
        return self.rank == 0

    def shard(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, float]:
        """This process's inputs and targets of a mini-batch, and their weight: its fraction of the examples.

        With fewer examples than processes, the last processes take one example with weight 0: an empty mean is NaN.
        """
        part, part_targets = (tensor.tensor_split(self.size)[self.rank] for tensor in (inputs, targets))
        return (part, part_targets, len(part) / len(inputs)) if len(part) else (inputs[:1], targets[:1], 0.0)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place; ProcessLost if one of them cannot be reached."""
        if self.size > 1:
            with self.wrap_errors():
                dist.all_reduce(tensor)
        return tensor

    def any(self, condition: bool) -> bool:
        """Whether the condition holds in any process; ProcessLost if one of them cannot be reached."""
        return condition if self.size == 1 else bool(self.all_reduce(torch.tensor(int(condition))).item())

    def broadcast_from_first(self, make: Callable[[], _Made]) -> _Made:
        """Make a value in the first process and send it to all; if `make` raises, the others raise SystemExit."""
        if self.size == 1:
            return make()
        made: list[Any] = [None]
        try:
            made = [(make(),)] if self.first else made
        finally:  # also after an error, because the others wait
            with self.wrap_errors():
                dist.broadcast_object_list(made)
        if made[0] is None:
            raise SystemExit(2)
        return cast(_Made, made[0][0])

    def local_device(self, device: str) -> str:
        """The device of this process: with "cuda", each process of a machine has its own."""
        return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and self.size > 1 else device

    @contextmanager
    def wrap_errors(self) -> Iterator[None]:
        """Turn torch's communication errors into ProcessLost."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = " ".join(str(error).partition("\n")[0].rpartition("] ")[2].split())
            raise ProcessLost(f"process {self.rank} of {self.size} cannot reach another process ({reason})") from None


SINGLE = ProcessGroup()


@contextmanager
def init_processes() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, or raise ProcessLost; without torchrun, there is only this one."""
    size = int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1
    if size == 1:
        yield SINGLE
        return
    group = ProcessGroup(int(os.environ["RANK"]), size)
    with group.wrap_errors():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
    try:
        yield group
    finally:
        dist.destroy_process_group()
