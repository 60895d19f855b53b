"""Entries of the functions that select or write by indices, and of triangles."""

from functools import partial

import torch

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(33)
_op_info = partial(op_info, rejects_lists=True)
_x, _cube, _row = _draw(4, 3), _draw(2, 3, 4), _draw(4)
_rows = torch.tensor([[3, 0, 3], [0, 1, 3]])  # some twice
_apart = torch.tensor([[3, 0, 2], [0, 1, 3]])  # each once
_columns = torch.tensor([[2, 0], [1, 0], [0, 1], [1, 2]])
_index = torch.tensor([1, 0, 1])
_OUT_OF_RANGE = torch.tensor([[4, 0, 0]])
_FLOAT_INDEX = ErrorInput((_x, 0, torch.zeros(1, 3)), RuntimeError, "index")


def _triangle(name: str, side: str) -> object:
    """The entry of `tril` or `triu`."""
    samples = (
        Sample((_x,), axes="rows columns"),
        Sample((_cube.mT, -1), axes="batch columns rows, "),
    )
    return _op_info(name, f"∂C/∂x = g {side} the diagonal, else 0", samples, ErrorInput((_row,), RuntimeError, "2 dim"))


OP_INFOS = (
    _op_info(
        "gather",
        "∂C/∂xⱼ = Σ gᵢ over all i with indexᵢ = j",
        (
            Sample((_x, 0, _rows), axes="4 columns, , taken columns"),
            Sample((_x, -1, _columns.int()), axes="rows 3, , rows taken"),
            Sample((_row.expand(2, 4).t(), 0, torch.tensor([[2]])), axes="4 columns, , 1 1"),
        ),
        ErrorInput((_x, 0, _OUT_OF_RANGE), RuntimeError, "out of bounds"),
        ErrorInput((_x, 2, _rows), IndexError, "out of range"),
        _FLOAT_INDEX,
        ErrorInput((_x, 0, _index), RuntimeError, "dimensions"),
    ),
    _op_info(
        "index_select",
        "∂C/∂xⱼ = Σ gᵢ over all i with indexᵢ = j",
        (
            Sample((_x, 0, _index), axes="4 columns, , taken"),
            Sample((_cube.transpose(0, 2), -2, _index.int()), axes="depth 3 rows, , taken"),
            Sample((_row, 0, _index[:0]), axes="4, , 0"),
        ),
        ErrorInput((_x, 0, torch.tensor([4])), IndexError, "out of range"),
        ErrorInput((_x, 0, _rows), IndexError, "vector"),
    ),
    _op_info(
        "scatter",
        "∂C/∂x = g, but 0 at the indices; ∂C/∂sᵢ = g[indexᵢ]",
        (
            Sample((_x, 0, _apart, _draw(2, 3)), axes="4 columns, , 2 columns, 2 columns"),
            Sample((_x, 1, _columns, _draw(4, 2)), axes="4 3, , 4 2, 4 2"),
            Sample((_x.t(), 0, _columns.t()), {"value": 0.5}, axes="3 rows, , 2 rows"),
            Sample((_row, 0, _index, -1.5), axes="4, , taken, "),
        ),
        ErrorInput((_x, 0, _OUT_OF_RANGE, _x), RuntimeError, "out of bounds"),
        ErrorInput((_x, 0, _apart, _draw(2, 3).float()), RuntimeError, "dtype"),
        ErrorInput((_x, 0, _apart, _row), IndexError, "range"),
        ErrorInput((_x, 0, _apart), TypeError, "src or value"),
    ),
    _op_info(
        "scatter_add",
        "∂C/∂x = g, ∂C/∂sᵢ = g[indexᵢ]",
        (
            Sample((_x, 0, _rows, _draw(2, 3)), axes="4 columns, , taken columns, taken columns"),
            Sample((_x, 1, _columns, _draw(4, 2)), axes="rows 3, , rows 2, rows 2"),
            Sample((_row, -1, _index, _draw(3)), axes="4, , taken, taken"),
        ),
        ErrorInput((_x, 0, _OUT_OF_RANGE, _x), RuntimeError, "out of bounds"),
        ErrorInput((_x, 0, _rows, _draw(2, 3).float()), RuntimeError, "dtype"),
    ),
    _triangle("tril", "up to"),
    _triangle("triu", "from"),
)
