"""Entries of products of batches of matrices, and of Einstein's notation."""

from functools import partial

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(34)
_op_info = partial(op_info, rejects_lists=True)
_a, _b = _draw(2, 3, 4), _draw(2, 4, 3)
_MATRICES = "batch rows inner, batch inner columns"
_MATRIX = ErrorInput((_a[0], _b[0]), RuntimeError, "3D")

OP_INFOS = (
    _op_info(
        "bmm",
        "∂C/∂A = g Bᵀ, ∂C/∂B = Aᵀ g",
        (
            Sample((_a, _b), axes=_MATRICES),
            Sample((_a.mT, _draw(2, 3, 1)), axes=_MATRICES),
            Sample((_draw(2, 3, 0), _draw(2, 0, 2)), axes=_MATRICES),
        ),
        _MATRIX,
        ErrorInput((_a, _a), RuntimeError, "size"),
        ErrorInput((_a, _b.float()), RuntimeError, "dtype|scalar type"),
    ),
    _op_info(
        "baddbmm",
        "∂C/∂x = β g, ∂C/∂A = α g Bᵀ, ∂C/∂B = α Aᵀ g",
        (
            Sample((_draw(2, 3, 3), _a, _b), axes=f"batch rows columns, {_MATRICES}"),
            Sample((_draw(4), _a.mT, _b.mT), {"beta": 0.5, "alpha": -2.0}, axes=f"columns, {_MATRICES}"),
        ),
        ErrorInput((_a, _a[0], _b[0]), IndexError, "range"),
        ErrorInput((_draw(5), _a, _b), RuntimeError, "expand"),
        ErrorInput((_a, _a, _a), RuntimeError, "size"),
    ),
    op_info(
        "einsum",
        "∂C/∂x = the same sum of products with g in place of x",
        (
            Sample(("ij,...j", _draw(3, 4), _a), axes=", columns inner, batch rows inner"),
            Sample(("iij->ji", _draw(3, 3, 2)), axes=", diagonal diagonal columns"),
            Sample(("i,ij,kj->", _draw(3), _draw(3, 2), _draw(4, 2)), axes=", rows, rows 2, others 2"),
            Sample(
                (_draw(2, 3), [0, ...], _draw(1, 3), [1, ...], [1, ...]), axes="rows columns, , , 1 columns, , , , "
            ),
        ),
        ErrorInput(("ij,jk", _a, _b), RuntimeError, "number of subscripts"),
        ErrorInput(("ij,jk", _a[0], _a[0]), RuntimeError, "does not broadcast"),
        ErrorInput(("ij->ijj", _a[0]), RuntimeError, "more than once"),
        ErrorInput((_a[0], [0, 52]), ValueError, "52"),
        ErrorInput(("ij",), ValueError, "operand"),
        ErrorInput(("i", [1.0]), TypeError, "Tensor"),
    ),
)
