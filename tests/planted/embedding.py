"""Bugs of embeddings. The correct gradient of row v of the table is Σ gₙ over the positions n that select v."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.embedding import Embedding
from bp_torch.functional.embedding_bag import EmbeddingBag, EmbeddingBagMax
from bp_torch.sample import Sample
from planted.alterations import rounded_to
from planted.bug import Bug, Original

_draw = RandomTensors(40)
_INDEX, _FLAT, _OFFSETS = (
    torch.tensor([[1, 0, 1], [3, 1, 4]]),
    torch.tensor([1, 0, 1, 3, 1, 4]),
    torch.tensor([0, 2, 2]),
)
_TABLE = (Sample((_INDEX, _draw(5, 3)), axes="batch length, 5 features"),)


def _first_two(inputs: tuple[Any, ...], output: Tensor) -> tuple[Tensor, Tensor]:
    return inputs[0], inputs[1]


def _sum(g: Tensor, index: Tensor, w: Tensor) -> Tensor:
    """The correct gradient without options."""
    return torch.zeros_like(w).index_add(0, index.reshape(-1), g.reshape(-1, w.shape[1]))


def _copies(index: Tensor, w: Tensor) -> Tensor:
    """How often each row is selected; 1 for those that are not."""
    return index.reshape(-1).bincount(minlength=len(w)).clamp_min(1).unsqueeze(1)


def _overwritten(g: Tensor, index: Tensor, w: Tensor) -> tuple[None, Tensor]:
    return None, torch.zeros_like(w).index_put((index.reshape(-1),), g.reshape(-1, w.shape[1]))


def _without_row(row: int, g: Tensor, index: Tensor, w: Tensor) -> tuple[None, Tensor]:
    return None, _sum(g, index, w).index_fill(0, torch.tensor([row]), 0)


EMBEDDING = Original("embedding", Embedding, lambda index, w: F.embedding(index, w), _TABLE, (None, False))
PADDED = Original("embedding with padding", Embedding, partial(F.embedding, padding_idx=1), _TABLE, (1, False))
BY_FREQUENCY = Original(
    "embedding by frequency", Embedding, partial(F.embedding, scale_grad_by_freq=True), _TABLE, (None, True)
)
_embedding = partial(EMBEDDING.backward, saved=_first_two)

_rows = (
    _embedding("copies overwritten, not added", "reduction", _overwritten),
    _embedding("copies averaged", "reduction", lambda g, i, w: (None, _sum(g, i, w) / _copies(i, w))),
    _embedding("row 0 taken for padding", "dropped term", partial(_without_row, 0)),
    _embedding("indices transposed", "transposed", lambda g, i, w: (None, _sum(g, i.t(), w))),
    _embedding("float32 sum", "precision", lambda g, i, w: (None, _sum(rounded_to(g, torch.float32), i, w))),
    EMBEDDING.methods("tangent of the first index", "forward mode", jvp=lambda ctx, _, t, *__: _jvp_of_first(ctx, t)),
    PADDED.backward("another row taken for the padding", "position", partial(_without_row, 3), saved=_first_two),
    BY_FREQUENCY.backward(
        "multiplied by the frequency",
        "wrong formula",
        lambda g, i, w: (None, _sum(g, i, w) * _copies(i, w)),
        saved=_first_two,
    ),
)


def _jvp_of_first(ctx: Any, tangent: Tensor) -> Tensor:
    (index,) = ctx.saved_tensors
    return tangent[index[:1]].expand(*index.shape, -1)


WEIGHTED = Original(
    "embedding_bag with weights",
    EmbeddingBag,
    lambda i, w, s, o: F.embedding_bag(i, w, o, mode="sum", per_sample_weights=s),
    (Sample((_FLAT, _draw(5, 3), _draw(6), _OFFSETS), axes="_, 5 features, _, _"),),
    ("sum", False, False, None),
)
MEAN = Original(
    "embedding_bag, mean with padding",
    EmbeddingBag,
    lambda i, w, s, o: F.embedding_bag(i, w, o, padding_idx=0),
    (Sample((_FLAT, _draw(5, 3), None, _OFFSETS), axes="_, 5 features, , _"),),
    ("mean", False, False, 0),
)


def _bags(offsets: Tensor, count: int) -> Tensor:
    """The bag of each position."""
    return torch.searchsorted(offsets, torch.arange(count), right=True) - 1


def _weighted(name: str, kind: str, equation: Callable[..., tuple[Tensor, Tensor]]) -> Bug:
    """A bug of `WEIGHTED`: (g, W[i], s), a row for each position -> what is added to W[i], and the gradient of s."""

    def backward(g: Tensor, i: Tensor, w: Tensor, s: Tensor, o: Tensor) -> tuple[None, Tensor, Tensor]:
        rows, grad_factors = equation(g[_bags(o, len(i))], w[i], s.unsqueeze(1))
        return None, _sum(rows, i, w), grad_factors.reshape(len(i))

    return WEIGHTED.backward(name, kind, backward)


def _sizes(i: Tensor, bag: Tensor, padding: int = 0) -> Tensor:
    return torch.zeros(3, dtype=torch.int64).index_add(0, bag, (i != padding).long())


def _in_mean(
    name: str, kind: str, sizes: Callable[..., Tensor] = _sizes, bags: Callable[..., Tensor] = _bags, padding: int = 0
) -> Bug:
    """A bug of `MEAN`: other sizes (i, bag), other bags (offsets, n), or another row for the padding."""

    def backward(g: Tensor, i: Tensor, w: Tensor, o: Tensor) -> tuple[None, Tensor]:
        correct, bag = _bags(o, len(i)), bags(o, len(i))
        each = (g / sizes(i, correct).clamp_min(1).unsqueeze(1))[bag]
        return _without_row(padding, each, i, w)

    return MEAN.backward(name, kind, backward, saved=lambda inputs, _: (inputs[0], inputs[1], inputs[3]))


def _without_empty_bags(offsets: Tensor, count: int) -> Tensor:
    return torch.unique(_bags(offsets, count), return_inverse=True)[1]


_bagged = (
    WEIGHTED.result("weights' gradient missing", "dropped term", per_sample_weights=torch.zeros_like),
    _weighted("weights' gradient without the row", "dropped term", lambda g, w, s: (g * s, g.sum(1))),
    _weighted("weights' gradient scaled by the weights", "wrong formula", lambda g, w, s: (g * s, (g * w * s).sum(1))),
    _weighted("weights left out of the table's gradient", "dropped term", lambda g, w, s: (g, (g * w).sum(1))),
    _in_mean("padding counted by the divisor", "reduction", lambda i, bag: _sizes(i, bag, -1)),
    _in_mean("not divided", "reduction", lambda i, bag: torch.ones(3)),
    _in_mean("padding gets a gradient", "dropped term", padding=2),
    _in_mean("offsets off by one", "position", bags=lambda o, n: torch.searchsorted(o, torch.arange(n)).clamp_max(2)),
    _in_mean("empty bag skipped", "position", bags=_without_empty_bags),
    _in_mean("last bag left to the one before", "position", bags=lambda o, n: _bags(o, n).clamp_max(1)),
)


def _largest(w: Tensor, rows: Tensor, empty: Tensor) -> Tensor:
    return torch.where(empty, 0, w.gather(0, rows))


_ROWS, _EMPTY = torch.tensor([[1, 3, 1], [0, 0, 0], [3, 3, 4]]), torch.tensor([[False], [True], [False]])
MAX = Original(
    "embedding_bag, max", EmbeddingBagMax, _largest, (Sample((_draw(5, 3), _ROWS, _EMPTY), axes="5 _, _ _, _ _"),)
)


def _in_max(name: str, kind: str, rows: Callable[[Tensor], Tensor], empty: Callable[[Tensor], Tensor]) -> Bug:
    """A bug of `MAX`: other rows, or other bags that are empty."""

    def backward(g: Tensor, w: Tensor, r: Tensor, e: Tensor) -> Tensor:
        return torch.zeros_like(w).scatter_add(0, rows(r), torch.where(empty(e), 0, g))

    return MAX.backward(name, kind, backward, saved=lambda inputs, _: inputs)


_maxima = (
    _in_max("rows of another bag", "position", lambda r: r.roll(1, 0), lambda e: e),
    _in_max("one row for all features", "position", lambda r: r[:, :1].expand_as(r), lambda e: e),
    _in_max("empty bag's gradient in row 0", "dropped term", lambda r: r, torch.zeros_like),
    MAX.backward(
        "bags with one row overwrite each other",
        "reduction",
        lambda g, w, r, e: torch.zeros_like(w).scatter(0, r, torch.where(e, 0, g)),
        saved=lambda inputs, _: inputs,
    ),
)

BUGS = (*_rows, *_bagged, *_maxima)
ORIGINALS = (EMBEDDING, WEIGHTED, MEAN, MAX)
"""Without padding and scaling by frequency: there the gradient is not the derivative, by design."""
