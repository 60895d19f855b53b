"""Bugs of arithmetic. The correct gradient is g ∂y/∂a, summed over broadcast dimensions."""

from functools import partial

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.arithmetic import Add, Div, Mul, Neg, Pow
from bp_torch.functional.reductions import Matmul, Mean, Sum
from bp_torch.functional.selection import Amax, Maximum, Where
from planted.alterations import clamped, first_row_negated, last_doubled, ones, positive_part
from planted.bug import Original, first_input

_draw = RandomTensors(18)
_X = ((_draw(4, 3),), (_draw(7),))
_PAIRS = ((_draw(4, 3), _draw(3)), (_draw(5), _draw(5)))
_RATIOS = tuple((a, b.abs() + 0.3) for a, b in _PAIRS)
_SAME_SHAPE = ((_draw(4, 3), _draw(4, 3)), (_draw(5), _draw(5)))

ADD = Original("add", Add, partial(torch.add, alpha=0.5), _PAIRS, (0.5,))
SUB = Original("sub", Add, torch.sub, _PAIRS, (-1,))
MUL = Original("mul", Mul, torch.mul, _PAIRS)
DIV = Original("div", Div, torch.div, _RATIOS)
NEG = Original("neg", Neg, torch.neg, _X)
CUBE = Original("pow", Pow, partial(torch.pow, exponent=3), _X, (3,))
POW = Original("pow, of Tensors", Pow, torch.pow, tuple((b, a) for a, b in _RATIOS))
MAXIMUM = Original("maximum", Maximum, torch.maximum, _SAME_SHAPE)


def _mean_of_copies(g: Tensor, like: Tensor) -> Tensor:
    return g.sum_to_size(like.shape) * (like.numel() / g.numel())


def _first_copy(g: Tensor, like: Tensor) -> Tensor:
    return g if g.shape == like.shape else g[0]


def _both(inputs: tuple[Tensor, ...], output: Tensor) -> tuple[Tensor, ...]:
    return inputs[:2]


_sums = (
    ADD.backward("α forgotten", "dropped term", lambda g, a, b: (g, g), saved=_both),
    ADD.backward("α for both", "wrong formula", lambda g, a, b: (0.5 * g, 0.5 * g), saved=_both),
    ADD.backward("copies averaged", "reduction", lambda g, a, b: (g, 0.5 * _mean_of_copies(g, b)), saved=_both),
    ADD.backward("first copy alone", "reduction", lambda g, a, b: (g, 0.5 * _first_copy(g, b)), saved=_both),
    SUB.backward("g for −g", "sign", lambda g, a, b: (g, g), saved=_both),
    SUB.backward("both negated", "sign", lambda g, a, b: (-g, -g), saved=_both),
    SUB.upstream("g clamped to [−1, 1]", clamped),
    NEG.backward("g for −g", "sign", lambda g: g),
    NEG.result("0.01 % too large", "factor", input=lambda d: 1.0001 * d),
    NEG.upstream("|g| for g", torch.abs),
)

_products = (
    MUL.backward("each times its own value", "wrong formula", lambda g, a, b: (g * a, g * b)),
    MUL.backward("copies averaged", "reduction", lambda g, a, b: (g * b, _mean_of_copies(g * a, b))),
    MUL.backward("b detached", "second derivative", lambda g, a, b: (g * b.detach(), g * a)),
    MUL.backward("a's gradient not multiplied by b", "dropped term", lambda g, a, b: (g, g * a)),
    DIV.backward("divisor's gradient not negated", "sign", lambda g, a, b: (g / b, g * a / b**2)),
    DIV.backward("b for b²", "wrong formula", lambda g, a, b: (g / b, -g * a / b)),
    DIV.backward("10⁻⁶ added to b", "epsilon", lambda g, a, b: (g / (b + 1e-6), -g * a / b**2)),
    DIV.backward("a detached", "second derivative", lambda g, a, b: (g / b, -g * a.detach() / b**2)),
)

_powers = (
    CUBE.backward("exponent dropped", "dropped term", lambda g, x: g * x**2),
    CUBE.backward("power not lowered", "wrong formula", lambda g, x: g * 3 * x**3),
    CUBE.backward("x |x| for x²", "sign", lambda g, x: g * 3 * x * x.abs()),
    CUBE.backward("x detached", "second derivative", lambda g, x: g * 3 * x.detach() ** 2),
    POW.backward(
        "logarithm of the exponent", "wrong formula", lambda g, a, b: (g * b * a ** (b - 1), g * a**b * b.abs().log())
    ),
    POW.backward("y dropped", "dropped term", lambda g, a, b: (g * b * a ** (b - 1), g * a.log())),
)

_MASK = torch.tensor([True, False, True])
WHERE = Original(
    "where", Where, lambda condition, a, b: torch.where(condition, a, b), ((_MASK, _draw(4, 3), _draw(4, 3)),)
)
AMAX = Original("amax", Amax, partial(torch.amax, dim=1), ((_draw(4, 3),), (_draw(2, 5),)), (1, False))

_choices = (
    MAXIMUM.backward("all of g to both at a tie", "kink", lambda g, a, b: (g * (a >= b), g * (b >= a))),
    MAXIMUM.backward("half of g to both", "wrong formula", lambda g, a, b: (g / 2, g / 2)),
    MAXIMUM.backward(
        "g to the larger absolute value", "wrong formula", lambda g, a, b: (g * (a.abs() > b.abs()), g * (b > a))
    ),
    MAXIMUM.backward("g to the smaller", "sign", lambda g, a, b: (g * (a < b), g * (b < a))),
    WHERE.backward("masks swapped", "sign", lambda g, c: (None, g * ~c, g * c)),
    WHERE.backward("g to both", "dropped term", lambda g, c: (None, g, g)),
    WHERE.backward("mask by g", "upstream gradient", lambda g, c: (None, g * (g > 0), g * ~c)),
    AMAX.backward("g to all", "dropped term", lambda g, x, y: g.unsqueeze(1).expand_as(x)),
    AMAX.backward("averaged over all", "reduction", lambda g, x, y: g.unsqueeze(1).expand_as(x) / x.shape[1]),
    AMAX.backward("maximum of all rows", "reduction", lambda g, x, y: g.unsqueeze(1) * (x == x.amax())),
    AMAX.backward("g to the minimum", "sign", lambda g, x, y: g.unsqueeze(1) * (x == x.amin(1, keepdim=True))),
)

_MATRICES = ((_draw(4, 3), _draw(3, 5)), (_draw(2, 4, 3), _draw(3, 2)), (_draw(2, 3, 4), _draw(2, 4, 3)))
_SQUARE = ((_draw(3, 3), _draw(3, 3)),)
MATMUL = Original("matmul", Matmul, torch.matmul, _MATRICES)


def _by_rows(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (a.mT @ g).sum_to_size(b.shape)


_matrices = (
    MATMUL.backward("B not transposed", "transposed", lambda g, a, b: (g @ b, a.mT @ g), samples=_SQUARE),
    MATMUL.backward("A not transposed", "transposed", lambda g, a, b: (g @ b.mT, a @ g), samples=_SQUARE),
    MATMUL.backward(
        "B's gradient averaged over the batch",
        "reduction",
        lambda g, a, b: (g @ b.mT, _by_rows(g, a, b) * (b.numel() / (a.mT @ g).numel())),
    ),
    MATMUL.backward(
        "B's gradient of the first matrix of the batch",
        "reduction",
        lambda g, a, b: (g @ b.mT, _by_rows(g, a, b) if a.dim() == b.dim() else a[0].mT @ g[0]),
    ),
    MATMUL.backward("B detached", "second derivative", lambda g, a, b: (g @ b.detach().mT, _by_rows(g, a, b))),
    MATMUL.result("first row of A's gradient negated", "sign", input=first_row_negated),
    MATMUL.result("last element of B's gradient doubled", "position", other=last_doubled),
)

_TABLE = ((_draw(4, 3),), (_draw(2, 5),))
SUM = Original("sum", Sum, partial(torch.sum, dim=1), _TABLE, (1, False, None))
MEAN = Original("mean", Mean, partial(torch.mean, dim=1), _TABLE, (1, False, None))


def _along_rows(g: Tensor, x: Tensor) -> Tensor:
    return g.unsqueeze(1).expand_as(x)


_reductions = (
    SUM.backward("averaged", "reduction", lambda g, x: _along_rows(g, x) / x.shape[1], saved=first_input),
    SUM.backward(
        "along the remaining axis",
        "transposed",
        lambda g, x: g.expand_as(x),
        saved=first_input,
        samples=((_draw(3, 3),),),
    ),
    SUM.upstream("ignores g", ones),
    MEAN.backward("divides by numel", "reduction", lambda g, x: _along_rows(g, x) / x.numel(), saved=first_input),
    MEAN.backward("does not divide", "factor", _along_rows, saved=first_input),
    MEAN.backward(
        "divides by the remaining axis", "reduction", lambda g, x: _along_rows(g, x) / len(x), saved=first_input
    ),
    MEAN.backward("divides by n − 1", "factor", lambda g, x: _along_rows(g, x) / (x.shape[1] - 1), saved=first_input),
    MEAN.upstream("positive part of g", positive_part),
)

BUGS = (*_sums, *_products, *_powers, *_choices, *_matrices, *_reductions)
ORIGINALS = (ADD, SUB, MUL, DIV, NEG, CUBE, POW, MAXIMUM, WHERE, AMAX, MATMUL, SUM, MEAN)
