"""The gradient of each example of an embedding: a few rows, and zeros."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.per_example import ExampleGradients, per_example
from bp_torch.functional.embedding import Embedding


class _SelectedRows(ExampleGradients):
    """The contributions (N, V, D) of N examples, of which only the rows that they select are not 0.

    Each row is stored once per example that selects it: the sum over its copies. So squares can be summed row by row,
    and neither norms nor squares need the N · V rows.
    """

    def __init__(self, rows: Tensor, place: Tensor, shape: torch.Size) -> None:
        """Store the rows, (U, D), each with its place n · V + v among all rows, (U,), and the shape (N, V, D)."""
        self._rows, self._place, self._shape = rows, place, shape

    def gradients(self) -> Tensor:
        n, v, d = self._shape
        return self._rows.new_zeros(n * v, d).index_add(0, self._place, self._rows).reshape(n, v, d)

    def total(self) -> Tensor:
        return self._rows.new_zeros(self._shape[1:]).index_add(0, self._place % self._shape[1], self._rows)

    def norms(self) -> Tensor:
        squares = self._rows.square().sum(1)
        return self._rows.new_zeros(self._shape[0]).index_add(0, self._place // self._shape[1], squares).sqrt()

    def sums_of_squares(self) -> Tensor:
        return _SelectedRows(self._rows.square(), self._place, self._shape).total()

    def double(self) -> "_SelectedRows":
        return _SelectedRows(self._rows.double(), self._place, self._shape)


@per_example(Embedding)
def embedding_gradients(ctx: Any, grad_output: Tensor) -> tuple[ExampleGradients | None, ...] | None:
    """∂Cₙ/∂W[v] = Σ gₙₜ over the positions t of example n that select v; with scaling by frequency, None: use vmap."""
    input, (padding_idx, by_freq), (v, d) = ctx.saved_tensors[0], ctx.options, ctx.weight[0]
    if by_freq:
        return None
    example = torch.arange(len(input), device=input.device).reshape(-1, *[1] * (input.dim() - 1))
    place, copy_of = (example * v + input).reshape(-1).unique(return_inverse=True)
    copies = grad_output.reshape(input.numel(), d)
    rows = copies.new_zeros(len(place), d).index_add(0, copy_of, copies)
    if padding_idx is not None:
        rows[place % v == padding_idx] = 0
    return None, _SelectedRows(rows, place, torch.Size((len(input), v, d))), None, None
