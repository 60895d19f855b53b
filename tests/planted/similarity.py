"""Bugs of the similarity and distance of vectors."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.similarity import CosineMargin, CosineSimilarity, PairwiseDistance, clamped_norm
from bp_torch.sample import Sample
from planted.bug import Original

_draw = RandomTensors(46)
_PAIRS = ((_draw(4, 3), _draw(4, 3)), (_draw(2, 5), _draw(2, 5)))
_SQUARE = ((_draw(4, 4), _draw(4, 4)),)

COSINE = Original("cosine_similarity", CosineSimilarity, F.cosine_similarity, _PAIRS, (clamped_norm, 1, 1e-8))
DISTANCE = Original(
    "pairwise_distance", PairwiseDistance, partial(F.pairwise_distance, eps=0.01), _PAIRS, (2.0, 0.01, False)
)
EXACT = Original(
    "pairwise_distance, ε = 0", PairwiseDistance, partial(F.pairwise_distance, eps=0.0), _PAIRS, (2.0, 0.0, False)
)
CUBIC = Original(
    "pairwise_distance, p = 3", PairwiseDistance, partial(F.pairwise_distance, p=3.0), _PAIRS, (3.0, 1e-6, False)
)


def _cosine_margin(y: Tensor, t: Tensor) -> Tensor:
    """`cosine_embedding_loss` of the cosines y."""
    return (torch.where(t == 1, 1 - y, 0) + torch.where(t == -1, (y - 0.1).clamp_min(0), 0)).sum()


MARGIN = Original(
    "cosine_embedding_loss",
    CosineMargin,
    _cosine_margin,
    (Sample((_draw(8).tanh(), 2 * _draw.classes(8, below=2) - 1)),),
    ("sum", 0.1),
)


def _norm(x: Tensor, p: float = 2) -> Tensor:
    return torch.linalg.vector_norm(x, p, 1, keepdim=True)


def _cosine(g: Tensor, a: Tensor, b: Tensor, epsilon: float = 0, projected: bool = True) -> tuple[Tensor, Tensor]:
    """The correct gradients where the norms are not tiny, unless an option is changed."""
    n, m, g = _norm(a) + epsilon, _norm(b) + epsilon, g.unsqueeze(1)
    a, b = a / n, b / m
    y = projected * (a * b).sum(1, keepdim=True)
    return g * (b - y * a) / n, g * (a - y * b) / m


_cosines = (
    COSINE.backward("not projected: the norms are constants", "dropped term", partial(_cosine, projected=False)),
    COSINE.backward("ε = 10⁻⁶ added to the norms", "epsilon", partial(_cosine, epsilon=1e-6)),
    COSINE.backward(
        "g along the rows",
        "transposed",
        lambda g, a, b: tuple(g * d for d in _cosine(torch.ones_like(g), a, b)),
        samples=_SQUARE,
    ),
    COSINE.backward(
        "similarity detached",
        "second derivative",
        lambda g, a, b: tuple(_detached_cosine(g, *pair) for pair in ((a, b), (b, a))),
    ),
)


def _detached_cosine(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    x, y = a / _norm(a), b / _norm(b)
    return g.unsqueeze(1) * (y - (x * y).sum(1, keepdim=True).detach() * x) / _norm(a)


def _times(g: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a and b from that of a − b."""
    return g.unsqueeze(1) * slope, -g.unsqueeze(1) * slope


_distances = (
    DISTANCE.backward("ε forgotten", "epsilon", lambda g, a, b: _times(g, (a - b) / _norm(a - b))),
    DISTANCE.backward("both alike", "sign", lambda g, a, b: 2 * _times(g, (a - b + 0.01) / _norm(a - b + 0.01))[:1]),
    EXACT.backward("NaN at equal vectors: 0/0", "overflow", lambda g, a, b: _times(g, (a - b) / _norm(a - b))),
    CUBIC.backward(
        "d² without the sign of d",
        "sign",
        lambda g, a, b: _times(g, ((a - b + 1e-6) / _norm(a - b + 1e-6, 3)) ** 2),
    ),
)

_margins = (
    MARGIN.backward(
        "margin ignored", "wrong formula", lambda g, y, t: g * (-(t == 1).to(y) + ((t == -1) & (y >= 0)).to(y))
    ),
    MARGIN.backward("beyond the margin, too", "dropped term", lambda g, y, t: -g * t.to(y)),
)

BUGS = (*_cosines, *_distances, *_margins)
ORIGINALS = (COSINE, DISTANCE, EXACT, CUBIC, MARGIN)
