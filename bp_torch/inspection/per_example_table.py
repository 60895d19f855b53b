"""The lecture's table: what each example asks of chosen weights and biases, and the average that is applied."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bp_torch.inspection.per_example import Cost, per_example_gradients
from bp_torch.inspection.sensitivity import Sensitivity


@dataclass(frozen=True)
class PerExampleTable:
    """Rows are weights and biases, columns are examples.

    Attributes:
        rows: which weights and biases.
        nudges: −∂Cₙ/∂w, how example n would change each, (rows, N).
    """

    rows: tuple[Sensitivity, ...]
    nudges: Tensor

    @property
    def average(self) -> Tensor:
        """The last column, (rows,): minus the gradient, which a step of SGD applies times the learning rate."""
        return self.nudges.mean(1)


def per_example_table(
    model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor, rows: Sequence[Sensitivity]
) -> PerExampleTable:
    """The nudges of each example.

    Args:
        model: a model that `bp_torch.engine.Backprop` drives.
        cost: its cost.
        inputs: (N, in).
        targets: as the cost takes them.
        rows: of which weights and biases.

    Returns:
        The table.

    Raises:
        As `per_example_gradients`.

    Source:
        The lecture's statement 10.
    """
    gradients = per_example_gradients(model, cost, inputs, targets)
    nudges = [-gradients[row.name].movedim(0, -1)[row.index] for row in rows]
    return PerExampleTable(tuple(rows), torch.stack(nudges) if nudges else inputs.new_zeros(0, len(inputs)))
