"""Entries of the functions that move or copy values: shapes, indexing, joins, dtypes."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.catalogue.op_info import ErrorInput, OpInfo, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(8)
_op_info = partial(op_info, rejects_lists=True)


def _unpacked(join: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`cat` or `stack` with one argument for each Tensor."""
    return lambda *tensors, dim=0: join(tensors, dim)


def _joining(name: str, *shapes: tuple[int, ...], error_input: ErrorInput) -> OpInfo:
    """The entry of `cat` or `stack`, with an empty and a transposed Tensor among the samples."""
    pairs = [tuple(_draw(*shape) for shape in shapes) for _ in range(2)]
    samples = (
        Sample(pairs[0]),
        Sample(pairs[1], {"dim": -1 if name == "stack" else -2}),
        Sample((_draw(2, 3), _draw(3, 2).t()), {"dim": 1}),
        Sample((_draw(2, 0), _draw(2, 0)), {"dim": 1}),
        Sample((_draw(2),)),
    )
    function, reference = _unpacked(getattr(functional, name)), _unpacked(getattr(torch, name))
    return op_info(
        name, "∂C/∂xᵢ = the slice of g that belongs to xᵢ", samples, error_input, function=function, reference=reference
    )


_x, _column, _row, _vector, _number = _draw(2, 3), _draw(2, 1), _draw(1, 3), _draw(3), _draw()
_transposed, _copies, _empty = _draw(3, 2).t(), _row.expand(2, 3), _draw(0, 3)
_cube, _images = _draw(2, 3, 2), _draw(2, 1, 3, 2)
_index = torch.tensor([1, 0, 1, 1])
_SAME = "∂C/∂x = g in the shape of x"
_PIECES = "∂C/∂x = the gradients of the pieces, concatenated"
_NO_THIRD_AXIS = ErrorInput((_x, 2), IndexError, "out of range")

OP_INFOS = (
    _op_info(
        "reshape",
        _SAME,
        ((_x, (-1, 2)), (_transposed, (-1,)), (_copies, (1, 2, -1)), (_number, (1, 1)), (_empty, (3, 0))),
        ErrorInput((_x, (4, 2)), RuntimeError, r"\[4, 2\]"),
    ),
    _op_info(
        "flatten",
        _SAME,
        ((_x,), (_images, 1), (_cube.transpose(1, 2), 0, 1), (_vector,), (_number,), (_draw(0, 2, 3), 1)),
        _NO_THIRD_AXIS,
    ),
    _op_info(
        "unflatten",
        _SAME,
        ((_draw(3, 4), 1, (2, -1)), (_draw(4, 3), 0, (-1, 2)), (_draw(6), -1, (1, -1))),
        ErrorInput((_draw(3, 4), 1, (3, 2)), RuntimeError, r"\[3, 2\]"),
    ),
    _op_info(
        "squeeze",
        _SAME,
        ((_row,), (_draw(2, 1, 3, 1), (1, -1)), (_column, 0), (_draw(3, 1).t(), 0), (_draw(1, 0), 0)),
        _NO_THIRD_AXIS,
    ),
    _op_info(
        "unsqueeze",
        _SAME,
        ((_x, 1), (_transposed, -1), (_number, 0), (_empty, 0), (_vector, 0)),
        ErrorInput((_x, 3), IndexError, "out of range"),
    ),
    _op_info(
        "transpose",
        "∂C/∂x = g, its axes swapped back",
        ((_x, 0, 1), (_transposed, 0, -1), (_images, -2, 1), (_empty, 0, 1)),
        ErrorInput((_x, 0, 2), IndexError, "out of range"),
    ),
    _op_info(
        "t",
        "∂C/∂x = gᵀ",
        ((_x,), (_copies,), (_vector,), (_number,)),
        ErrorInput((_cube,), RuntimeError, r"\(2, 3, 2\)"),
    ),
    _op_info(
        "permute",
        "∂C/∂x = g, inversely permuted",
        ((_x, (1, 0)), (_cube, (2, 0, 1)), (_images, (-1, 0, 2, 1)), (_empty, (1, 0))),
        ErrorInput((_x, (0, 0)), RuntimeError, "permute"),
    ),
    _op_info(
        "movedim",
        "∂C/∂x = g, its axes moved back",
        ((_x, 0, 1), (_cube, 0, -1), (_images, (0, 1), (2, 0)), (_empty, 1, 0)),
        ErrorInput((_x, 2, 0), IndexError, "out of range"),
    ),
    _op_info(
        "expand",
        "∂C/∂x = Σ g over the copies",
        (
            (_column, (3, -1, -1)),
            (_row, (2, 3)),
            (_vector, (2, 2, -1)),
            (_number, (2,)),
            (_row, (0, 3)),
            (_x, (-1, -1)),
        ),
        ErrorInput((_x, (4, 3)), RuntimeError, "expanded size"),
        reference=torch.Tensor.expand,
    ),
    _op_info(
        "narrow",
        "∂C/∂x = g at the selected elements, else 0",
        ((_draw(4, 3), 0, 1, 2), (_draw(3, 4).t(), -2, -2, 2), (_draw(5), 0, 2, 0), (_x, 1, 0, 3)),
        ErrorInput((_x, 1, 2, 2), RuntimeError, "length"),
    ),
    op_info(
        "split",
        _PIECES,
        ((_draw(5, 2), 2), (_draw(2, 5), (1, 4), 1), (_x, 7, -1)),
        ErrorInput((_x, (1, 1), 1), RuntimeError, "split"),
    ),
    _op_info(
        "chunk",
        _PIECES,
        ((_draw(5, 2), 2), (_x, 3, 1), (_draw(2, 2), 7)),
        ErrorInput((_x, 0), RuntimeError, "chunks"),
    ),
    _op_info(
        "getitem",
        "∂C/∂x = Σ g over the copies of each selected element, else 0",
        (
            (_draw(3, 2), _index),
            (_draw(3, 4), (slice(None), slice(0, 3, 2))),
            (_draw(3, 2), 1),
            (_draw(2, 3).t(), (Ellipsis, None, -1)),
            (_draw(2, 2), torch.tensor([[True, False], [True, True]])),
            (_cube, (_index, slice(1, None), torch.tensor([[0], [1]]))),
            (_x, (slice(None), [2, 0])),
            (_draw(3, 2), torch.zeros(0, dtype=torch.int64)),
        ),
        ErrorInput((_x, (0, 3)), IndexError, "index 3"),
        reference=lambda input, index: input[index],
    ),
    _joining("cat", (2, 3), (1, 3), (3, 3), error_input=ErrorInput((_draw(2, 3), _draw(2, 2)), RuntimeError, "Sizes")),
    _joining("stack", (2, 3), (2, 3), (2, 3), error_input=ErrorInput((_draw(2, 3), _draw(2, 2)), RuntimeError, "size")),
    _op_info(
        "to",
        "∂C/∂x = g in the dtype of x",
        ((_x, torch.float64), (_transposed, torch.float64), (_number, torch.float64)),
        ErrorInput((_x, "float16"), RuntimeError, "float16"),
        reference=torch.Tensor.to,
    ),
    _op_info("clone", "∂C/∂x = g", ((_x,), (_transposed,), (_copies,), (_number,), (_empty,))),
)
