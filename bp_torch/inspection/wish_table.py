"""The lecture's table: what each example asks of chosen weights and biases, and the average that is applied."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bp_torch.inspection.per_example import Cost, per_example_gradients
from bp_torch.inspection.sensitivity import Sensitivity


@dataclass(frozen=True)
class WishTable:
    """Rows are weights and biases, columns are examples.

    Attributes:
        rows: which weights and biases.
        wishes: −∂Cₙ/∂w, what example n asks of each, (rows, N).
    """

    rows: tuple[Sensitivity, ...]
    wishes: Tensor

    @property
    def average(self) -> Tensor:
        """The last column, (rows,): minus the gradient, which a step of SGD applies times the learning rate."""
        return self.wishes.mean(1)


def wish_table(
    model: torch.nn.Module, cost: Cost, inputs: Tensor, targets: Tensor, rows: Sequence[Sensitivity]
) -> WishTable:
    """Record what each example asks for.

    Args:
        model: a chain of dense layers that `bp_torch.engine.Backprop` drives.
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
    wishes = [-gradients[row.name].movedim(0, -1)[row.index] for row in rows]
    return WishTable(tuple(rows), torch.stack(wishes) if wishes else inputs.new_zeros(0, len(inputs)))
