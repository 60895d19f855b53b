"""Bugs of the margin losses."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue import CATALOGUE
from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.class_margin_losses import MultilabelMargin, MultiMargin
from bp_torch.functional.margin_losses import HingeEmbedding, MarginRanking, SoftMargin
from bp_torch.sample import Sample
from planted.bug import Bug, Original, function_of

_draw = RandomTensors(45)
_x, _classes = _draw(4, 3), torch.tensor([[2], [0], [2], [1]])
_signs = 2 * _draw.classes(4, 3, below=2) - 1
_labels = torch.tensor([[0, 0, 3, -1], [2, -1, 1, -1], [1, 3, -1, 0]])

RANKING = Original(
    "margin_ranking_loss",
    MarginRanking,
    partial(F.margin_ranking_loss, margin=0.5),
    (Sample((_x, _draw(4, 3), _signs)),),
    ("mean", 0.5),
)
RANKING_AT_0 = Original(
    "margin_ranking_loss, margin 0",
    MarginRanking,
    partial(F.margin_ranking_loss, reduction="sum"),
    (Sample((_x, _draw(4, 3), _signs)),),
    ("sum", 0.0),
)
HINGE = Original(
    "hinge_embedding_loss",
    HingeEmbedding,
    partial(F.hinge_embedding_loss, reduction="sum"),
    ((_x, _signs),),
    ("sum", 1.0),
)
SOFT = Original("soft_margin_loss", SoftMargin, partial(F.soft_margin_loss, reduction="sum"), ((_x, _signs),), ("sum",))


def _multi_margin(x: Tensor, t: Tensor) -> Tensor:
    weight = torch.tensor([0.5, 2.0, 3.0]).to(x)
    return CATALOGUE["multi_margin_loss"].reference(x, t.squeeze(1), p=2, margin=0.8, weight=weight)


MULTI = Original(
    "multi_margin_loss",
    MultiMargin,
    _multi_margin,
    (Sample((_x, _classes), axes="batch _, batch 1"),),
    (torch.tensor([0.5, 2.0, 3.0]), "mean", 2, 0.8),
)
MULTILABEL = Original(
    "multilabel_margin_loss",
    MultilabelMargin,
    partial(CATALOGUE["multilabel_margin_loss"].reference, reduction="sum"),
    (Sample((_draw(3, 4), _labels), axes="batch _, batch _"),),
    (None, "sum"),
)


def _ranking(g: Tensor, a: Tensor, b: Tensor, t: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    by_a = -g / a.numel() * t * active
    return by_a, -by_a


_margin_ranking = (
    RANKING.backward(
        "beyond the margin, too", "dropped term", lambda g, a, b, t: _ranking(g, a, b, t, torch.ones_like(a))
    ),
    RANKING.backward(
        "active without the margin", "wrong formula", lambda g, a, b, t: _ranking(g, a, b, t, t * (a - b) <= 0)
    ),
    RANKING_AT_0.backward(
        "> for ≥ at the margin", "kink", lambda g, a, b, t: _ranking(a.numel() * g, a, b, t, t * (a - b) < 0)
    ),
)

_hinge_embedding = (
    HINGE.backward("1 for a dissimilar pair", "sign", lambda g, x, t: g * ((t == 1) | (x <= 1)).to(x)),
    HINGE.backward("beyond the margin, too", "dropped term", lambda g, x, t: g * t.to(x)),
)


_soft_margin = (
    SOFT.backward(
        "0 where t x > 4", "saturation", lambda g, x, t: torch.where(t * x > 4, 0, -g * t * torch.sigmoid(-t * x))
    ),
    SOFT.backward("σ(t x) for σ(−t x)", "wrong formula", lambda g, x, t: -g * t * torch.sigmoid(t * x)),
)


def _multi(g: Tensor, x: Tensor, target: Tensor, weight: Tensor, slopes: Tensor) -> Tensor:
    slopes = g / x.numel() * weight * slopes.scatter(1, target, 0)
    return slopes.scatter(1, target, -slopes.sum(1, keepdim=True))


def _hinges(x: Tensor, target: Tensor) -> Tensor:
    return (0.8 - x.gather(1, target) + x).clamp_min(0)


_multi_margins = (
    MULTI.backward(
        "slope of p = 1", "wrong formula", lambda g, x, t, w: _multi(g, x, t, w[t], (_hinges(x, t) > 0).to(x))
    ),
    MULTI.backward("weight of each class", "transposed", lambda g, x, t, w: _multi(g, x, t, w, 2 * _hinges(x, t))),
    MULTI.backward(
        "class itself without gradient",
        "dropped term",
        lambda g, x, t, w: _multi(g, x, t, w[t], 2 * _hinges(x, t)).scatter(1, t, 0),
    ),
)


def _multilabel(
    g: Tensor, x: Tensor, target: Tensor, *, end: int = -1, among: bool = False, add: bool = True
) -> Tensor:
    """The correct gradient, unless an option is changed."""
    given = (target < 0).cumsum(1) == 0 if end else target >= 0
    labels = target.masked_fill(~given, 0)
    others = torch.zeros_like(x).scatter_add(1, labels, given.to(x)) == 0
    pairs = (
        (1 - x.gather(1, labels).unsqueeze(2) + x.unsqueeze(1) > 0) & given.unsqueeze(2) & (others.unsqueeze(1) | among)
    )
    pulls = torch.zeros_like(x).scatter_add(1, labels, pairs.sum(2).to(x))
    last = torch.zeros_like(x).scatter(1, labels, pairs.sum(2).to(x))
    return g / x.shape[1] * (pairs.sum(1) - (pulls if add else last))


_multilabel_margins = (
    MULTILABEL.backward("repeated label counted once", "position", partial(_multilabel, add=False)),
    MULTILABEL.backward("labels among the others", "wrong formula", partial(_multilabel, among=True)),
    MULTILABEL.backward("labels beyond −1, too", "position", partial(_multilabel, end=0)),
)


def _triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, ...]:
    near, far = F.pairwise_distance(anchor, positive), F.pairwise_distance(anchor, negative)
    return (near - far + 1).clamp_min(0).sum(), anchor, positive, negative


def _triplet_gradients(
    g: Tensor, anchor: Tensor, positive: Tensor, negative: Tensor, only_active: bool = True
) -> tuple[Tensor, ...]:
    near, far = anchor - positive + 1e-6, anchor - negative + 1e-6
    excess = near.norm(dim=1, keepdim=True) - far.norm(dim=1, keepdim=True) + 1
    to_positive, to_negative = (g * d / d.norm(dim=1, keepdim=True) for d in (near, far))
    if only_active:
        to_positive, to_negative = to_positive * (excess >= 0), to_negative * (excess >= 0)
    return to_positive - to_negative, -to_positive, to_negative


def _triplet_bug(name: str, kind: str, backward: Callable[..., tuple[Tensor, ...]]) -> Bug:
    samples = ((_x, _draw(4, 3), _draw(4, 3)),)
    reference = partial(F.triplet_margin_loss, reduction="sum")
    return Bug(f"triplet_margin_loss: {name}", kind, function_of(_triplet, backward), reference, samples)


def _exchanged(*args: Tensor) -> tuple[Tensor, ...]:
    anchor, positive, negative = _triplet_gradients(*args)
    return anchor, negative, positive


_triplets = (
    _triplet_bug("positive and negative exchanged", "sign", _exchanged),
    _triplet_bug("beyond the margin, too", "dropped term", partial(_triplet_gradients, only_active=False)),
)

BUGS = (*_margin_ranking, *_hinge_embedding, *_soft_margin, *_multi_margins, *_multilabel_margins, *_triplets)
ORIGINALS = (RANKING, RANKING_AT_0, HINGE, SOFT, MULTI, MULTILABEL)
