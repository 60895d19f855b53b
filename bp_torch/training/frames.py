"""Frames: everything that is needed to walk through one step of training later, phase by phase."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bp_torch.data.labels import classes_of
from bp_torch.engine import Backprop
from bp_torch.gradients import Comparison, Gradients
from bp_torch.inspection import layer_states
from bp_torch.training.records import FrameRecord, NetworkRecord


class Frames:
    """Takes frames of a network, beside the mini-batch always of the same few examples: the probes.

    Attributes:
        refusal: why no frame can be taken, of a model that is no chain of dense layers; otherwise None.
    """

    def __init__(
        self, model: torch.nn.Module, cost: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor
    ) -> None:
        """Take a model, its cost, and the probes.

        Args:
            model: a chain of dense layers that `bp_torch.engine.Backprop` drives.
            cost: its cost, which averages over the examples.
            inputs: of the probes, (P, in).
            targets: of the probes, as the cost takes them: class indices (P,), or what is wanted of each output.
        """
        self._backprop = Backprop(model, cost)
        self._probes = inputs, targets
        self.refusal: str | None = None
        try:
            self._states = layer_states(self._backprop, inputs, targets)
        except TypeError as error:
            self._states, self.refusal = (), str(error)

    def network(self, step: int, steps: int) -> NetworkRecord:
        """What does not change from frame to frame.

        Args:
            step: the first that is taken now.
            steps: how many there will be in all.
        """
        inputs, targets = self._probes
        return NetworkRecord(
            step=step,
            steps=steps,
            cost=getattr(self._backprop.cost, "__name__", type(self._backprop.cost).__name__),
            sizes=(inputs.shape[1], *(state.activations.shape[1] for state in self._states)),
            names=tuple(state.names for state in self._states),
            functions=tuple(state.function for state in self._states),
            inputs=inputs,
            labels=classes_of(targets),
            refusal=self.refusal,
        )

    @torch.no_grad()
    def take(
        self,
        step: int,
        inputs: Tensor,
        targets: Tensor,
        learning_rate: float,
        gradients: Gradients,
        comparisons: Sequence[Comparison] = (),
    ) -> FrameRecord:
        """Take a frame before a step.

        Args:
            step: its number.
            inputs: of its mini-batch, (N, in).
            targets: of its mini-batch.
            learning_rate: by which the gradients will be multiplied.
            gradients: what will be applied, by each parameter's name.
            comparisons: of the hand-written gradients with autograd's, if they were compared.

        Raises:
            TypeError: if the model is no chain of dense layers.
        """
        all_inputs, all_targets = (torch.cat(pair) for pair in zip(self._probes, (inputs, targets), strict=True))
        states = layer_states(self._backprop, all_inputs, all_targets)
        outputs = states[-1].activations
        return FrameRecord(
            step=step,
            learning_rate=learning_rate,
            gradients=gradients,
            inputs=inputs,
            labels=classes_of(targets),
            costs=torch.func.vmap(self._backprop.cost)(outputs.unsqueeze(1), all_targets.unsqueeze(1)),  # each alone
            layers=states,
            comparisons=tuple(comparisons),
        )


def frame_steps(steps: int, frames: int) -> frozenset[int]:
    """Which steps to take frames of: the first, the last, and ever fewer between.

    Args:
        steps: how many there are, from 1.
        frames: how many to take, from 0; of less than 2 only the first step.

    Returns:
        As many as asked for, or all there are. Learning is quickest at first, so they are spaced by their logarithm.
    """
    if frames < 2 or frames >= steps:
        return frozenset(range(min(frames, steps)))
    chosen = [0]
    for left in range(frames - 1, 0, -1):
        done = chosen[-1] + 1
        chosen.append(max(done, round(done * (steps / done) ** (1 / left)) - 1))
    return frozenset(chosen)
