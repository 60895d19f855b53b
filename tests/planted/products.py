"""Bugs of products of batches of matrices, and of Einstein's notation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.function import Function
from bp_torch.functional.products import Baddbmm, Einsum
from bp_torch.sample import Sample
from planted.bug import Original

_draw = RandomTensors(34)
_MATRICES = "batch rows inner, batch inner columns"
_PLUS = (Sample((_draw(3), _draw(2, 4, 5), _draw(2, 5, 3)), axes=f"columns, {_MATRICES}"),)

BADDBMM = Original("baddbmm", Baddbmm, partial(torch.baddbmm, beta=0.5, alpha=-2), _PLUS, (0.5, -2))


@dataclass(frozen=True)
class _EinsumOriginal(Original):
    """`Einsum` takes the equation first: the one constant."""

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        return partial(function.call, *self.constants)


def _einsum(name: str, equation: str, *shapes: tuple[int, ...]) -> Original:
    samples = (tuple(_draw(*shape) for shape in shapes),)
    return _EinsumOriginal(f"einsum {name}", Einsum, partial(torch.einsum, equation), samples, (equation,))


PRODUCT = _einsum("of matrices", "ij,jk->ik", (3, 3), (3, 3))
SUMS = _einsum("of sums", "ij,k->i", (3, 4), (5,))
DIAGONAL = _einsum("of a diagonal", "ii->i", (4, 4))
THREE = _einsum("of three", "i,ij,j->", (3,), (3, 4), (4,))


def _summed(g: Tensor) -> Tensor:
    return g.sum((0, 1))


_baddbmm = partial(BADDBMM.backward, saved=lambda inputs, output: inputs[1:3])

BUGS = (
    _baddbmm("β forgotten", "dropped term", lambda g, a, b: (_summed(g), -2 * g @ b.mT, -2 * a.mT @ g)),
    _baddbmm("α in one gradient only", "factor", lambda g, a, b: (0.5 * _summed(g), -2 * g @ b.mT, a.mT @ g)),
    _baddbmm("β and α exchanged", "factor", lambda g, a, b: (-2 * _summed(g), 0.5 * g @ b.mT, 0.5 * a.mT @ g)),
    PRODUCT.backward("subscripts not exchanged", "transposed", lambda g, a, b: (None, g @ b, a @ g)),
    PRODUCT.backward("operands exchanged", "transposed", lambda g, a, b: (None, b @ g.mT, g.mT @ a)),
    PRODUCT.backward("b detached", "second derivative", lambda g, a, b: (None, g @ b.detach().mT, a.mT @ g)),
    PRODUCT.methods("tangent of a alone", "forward mode", jvp=lambda ctx, _, t, __: t @ ctx.saved_tensors[1]),
    SUMS.backward(
        "sums averaged",
        "reduction",
        lambda g, a, b: (None, (g * b.mean())[:, None].expand_as(a), (g @ a).sum().expand_as(b)),
    ),
    DIAGONAL.backward("g off the diagonal too", "wrong formula", lambda g, x: (None, g[:, None].expand_as(x))),
    THREE.backward(
        "one operand dropped",
        "dropped term",
        lambda g, a, x, b: (None, g * x @ b, g * a[:, None].expand_as(x), g * a @ x),
    ),
)
ORIGINALS = (BADDBMM, PRODUCT, SUMS, DIAGONAL, THREE)
