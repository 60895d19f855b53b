"""What the engine's tape of one mini-batch shows: a frame for the Backprop tab, or the magnitudes in every tensor."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bp_torch.data import Batch, classes_of
from bp_torch.engine import Backprop, backward
from bp_torch.functional.attention import Attention, BlockwiseAttention
from bp_torch.functional.elementwise import Elementwise
from bp_torch.functional.scores import softmax_of_scores
from bp_torch.gradients import Comparison, Gradients
from bp_torch.inspection import layer_states
from bp_torch.training.backends import CostFunction
from bp_torch.training.logging.events import FrameEvent, NetworkEvent


class FrameCapture:
    """Captures frames of a network: of a mini-batch, and of the same few examples each time, the probes."""

    def __init__(
        self, model: torch.nn.Module, cost: CostFunction, inputs: Tensor, targets: Tensor, *, plain: bool = True
    ) -> None:
        """Take a model, its cost, which averages over the examples, and the probes: (P, in), and as the cost does.

        `plain` says whether a step is the gradient times the learning rate, as the tab shows it.
        """
        self._backprop = Backprop(model, cost)
        self._probes = inputs, targets
        # why there are no frames, if the model is not a chain of dense layers, or its steps are not those of the tab
        self.refusal = None if plain else "the tab shows steps without momentum, weight decay and AdamW"
        try:
            self._states = layer_states(self._backprop, inputs, targets)
        except TypeError as error:
            self._states, self.refusal = (), str(error)

    def network(self, step: int, steps: int) -> NetworkEvent:
        """What all frames of a run of `steps` steps have in common."""
        inputs, targets = self._probes
        return NetworkEvent(
            step=step,
            steps=steps,
            cost=getattr(self._backprop.cost, "__name__", type(self._backprop.cost).__name__),
            sizes=(inputs[0].numel(), *(state.activations.shape[1] for state in self._states)),
            names=tuple(state.names for state in self._states),
            functions=tuple(state.function for state in self._states),
            inputs=inputs.flatten(1),
            labels=classes_of(targets),
            refusal=self.refusal,
        )

    @torch.no_grad()
    def capture(
        self, step: int, batch: Batch, learning_rate: float, gradients: Gradients, compared: Sequence[Comparison] = ()
    ) -> FrameEvent:
        """Capture a frame before a step on a mini-batch (N, in) with its gradients; TypeError if unsupported."""
        all_inputs, all_targets = (torch.cat(pair) for pair in zip(self._probes, batch, strict=True))
        states = layer_states(self._backprop, all_inputs, all_targets)
        outputs = states[-1].activations.unsqueeze(1)
        costs = torch.func.vmap(self._backprop.cost)(outputs, all_targets.unsqueeze(1))  # each alone
        inputs, labels = batch[0], classes_of(batch[1])
        return FrameEvent(step, learning_rate, gradients, inputs, labels, costs, states, tuple(compared))


@torch.no_grad()
def layer_activations(backprop: Backprop, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The activations of each layer by its name: its output, or that of the last function before the next layer.

    A layer is a module with parameters of its own.
    """
    modules = dict(backprop.model.named_modules())
    _, tape = backprop.trace(inputs, targets)
    found, layer = {}, ""
    for call in tape[: tape.model_calls]:
        name = call.module.partition(" ")[0]
        layer = name if modules[name]._parameters else layer
        if layer:
            found[layer] = call.output.detach()
    return found


class Maps(NamedTuple):
    """Maps in a network for N examples, and their gradients; the fields are those of MapEvent."""

    kind: Literal["feature maps", "attention"]
    maps: Tensor
    gradients: Tensor


@torch.no_grad()
def maps_of(backprop: Backprop, inputs: Tensor, targets: Tensor) -> Maps | None:
    """The weights of the last attention, (N, heads, n, m), or the first feature maps, (N, C, h, w), if there are any.

    Feature maps are the output of the first activation of images. The gradients are those of the sum of the costs; of
    the weights, in evaluation, ∂C/∂P = g vᵀ.
    """
    cost, tape = backprop.trace(inputs, targets)
    calls, gradients = tape[: tape.model_calls], backward(tape, cost)
    for call in reversed(calls):
        if call.function in (Attention, BlockwiseAttention):
            query, key, value, *options, _, _ = call.inputs
            weights = softmax_of_scores(query, key, *options)
            return Maps("attention", weights, len(inputs) * gradients[call.output] @ value.mT)
    for call in calls:
        if call.output.dim() == 4 and issubclass(call.function, Elementwise):
            return Maps("feature maps", call.output.detach(), len(inputs) * gradients[call.output])
    return None


def frame_steps(steps: int, frames: int) -> frozenset[int]:
    """The steps to capture: `frames` of `steps`, log-spaced, from the first to the last; only the first if 1."""
    if frames < 2 or frames >= steps:
        return frozenset(range(min(frames, steps)))
    chosen = [0]
    for left in range(frames - 1, 0, -1):
        done = chosen[-1] + 1
        chosen.append(max(done, round(done * (steps / done) ** (1 / left)) - 1))
    return frozenset(chosen)


class TensorStats(NamedTuple):
    """The magnitudes in one tensor."""

    name: str  # such as "output of module 0 (Linear)"
    largest: float  # largest magnitude of its finite numbers
    non_finite: int  # number of the others
    numel: int


@torch.no_grad()
def tensor_stats(backprop: Backprop, gradients: Gradients, batch: Batch) -> list[TensorStats]:
    """The magnitudes in every tensor of a mini-batch's forward and backward pass, in the order of computation."""
    found = []
    for name, tensor in _forward_and_backward(backprop, gradients, batch):
        finite = tensor.isfinite()
        largest = torch.where(finite, tensor, 0).abs().max().item()
        found.append(TensorStats(name, largest, int((~finite).sum()), tensor.numel()))
    return found


def _forward_and_backward(backprop: Backprop, gradients: Gradients, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    parameters = dict(backprop.model.named_parameters())
    yield from ((f"parameter {name}", parameter) for name, parameter in parameters.items())
    cost, tape = backprop.trace(*batch)
    calls = tape[: tape.model_calls]
    yield from ((f"output of module {call.module}", call.output) for call in calls)
    yield "cost", cost
    found = backward(tape, cost)
    for call in reversed(calls):
        if call.output in found:
            yield f"gradient of the output of module {call.module}", found[call.output]
    yield from ((f"gradient of {name}", gradients[name]) for name in reversed(parameters))


def first_non_finite(stats: Sequence[TensorStats]) -> str:
    """The first tensor with a non-finite number, as the end of a sentence."""
    found = next((tensor.name for tensor in stats if tensor.non_finite), None)
    return f"first in the {found}" if found else "but everything is finite when computed again"


def table_of(stats: Sequence[TensorStats]) -> str:
    """One line for each tensor; an arrow marks the first that is not finite."""
    width, first = max(len(s.name) for s in stats), next((s for s in stats if s.non_finite), None)
    lines = [f"   {'what':<{width}} {'largest':>11}"]
    for s in stats:
        mark = "->" if s is first else "  "
        largest = "" if s.non_finite == s.numel else f"{s.largest:.4g}"
        remark = f"{s.non_finite:,} of {s.numel:,} not finite" if s.non_finite else ""
        lines.append(f"{mark} {s.name:<{width}} {largest:>11}  {remark}".rstrip())
    return "\n".join(lines)
