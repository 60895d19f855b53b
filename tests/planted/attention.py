"""Bugs of attention. With dP = F ∘ (g vᵀ) and D the row sums of P ∘ dP or of g ∘ y, the correct gradients are

dS = P ∘ (dP − D)        ∂C/∂q = s dS k        ∂C/∂k = s dSᵀ q        ∂C/∂v = (P ∘ F)ᵀ g        ∂C/∂mask = dS
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.attention import Attention, BlockwiseAttention, attend_by_blocks
from bp_torch.functional.function import Function
from bp_torch.functional.precision import in_float32
from bp_torch.functional.scores import RepeatHeads, causal_mask, masked_scores, softmax_of_scores
from bp_torch.sample import Sample
from planted.alterations import rounded_to
from planted.bug import Bug, Original

_draw = RandomTensors(31)
_SCALE, _P = 0.7, 0.4
_sdpa = partial(F.scaled_dot_product_attention, scale=_SCALE)


@dataclass(frozen=True)
class _Attention(Original):
    """An original with the constants of attention, computed for each call."""

    causal: bool = False
    dropped: bool = False
    in_blocks: bool = False

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        def call(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
            inputs = query, key, value, mask, _SCALE, self.causal
            q, k, v, m = (x if x is None else x.detach() for x in inputs[:4])
            if self.in_blocks:
                return function.call(*inputs, *attend_by_blocks(q, k, v, m, _SCALE, self.causal))
            weights = softmax_of_scores(q, k, m, _SCALE, self.causal)
            factors = F.dropout(torch.ones_like(weights), _P) if self.dropped else None
            return function.call(*inputs, factors, weights)

        return partial(in_float32, call)

    def changed(self, name: str, kind: str, *, samples: Any = (), **steps: Callable[[Any], Tensor]) -> Bug:
        """A bug in some steps of the backward, each a function of the results of the earlier steps."""

        def equation(g: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Any, factors: Any, *others: Tensor) -> Any:
            x = SimpleNamespace(g=g, q=q, k=k, v=v, mask=mask, f=factors, others=others, causal=self.causal)
            for step, correct in _STEPS.items():
                setattr(x, step, steps.get(step, correct)(x))
            return x.dq, x.dk, x.dv, x.dmask

        return self.backward(name, kind, equation, samples=samples)


_STEPS: dict[str, Callable[[Any], Any]] = {
    "scores": lambda x: masked_scores(_SCALE * x.q, x.k, causal_mask(x.q, 0, x.k.shape[-2]) if x.causal else x.mask),
    "p": lambda x: softmax_of_scores(x.q, x.k, x.mask, _SCALE, x.causal),
    "dp": lambda x: _times(x.g @ x.v.mT, x.f),
    "average": lambda x: (x.p * x.dp).sum(-1, keepdim=True),
    "ds": lambda x: x.p * (x.dp - x.average),
    "dq": lambda x: _SCALE * x.ds @ x.k,
    "dk": lambda x: _SCALE * x.ds.mT @ x.q,
    "dv": lambda x: _times(x.p, x.f).mT @ x.g,
    "dmask": lambda x: None if x.mask is None or x.mask.dtype == torch.bool else x.ds.sum_to_size(x.mask.shape),
}


def _times(p: Tensor, factors: Tensor | None) -> Tensor:
    return p if factors is None else p * factors


def _inputs(n: int = 3, m: int = 4, e: int = 2) -> tuple[Tensor, ...]:
    """Queries, keys and values of two heads."""
    return _draw(2, n, 2), _draw(2, m, 2), _draw(2, m, e)


_AXES = "heads n d, heads m d, heads m e"
_PLAIN = (Sample(_inputs(e=3), axes=_AXES),)
_SQUARE = (Sample(_inputs(3, 3), axes="2 n 2, 2 n 2, 2 n 2"),)
_BOOLEAN = (
    Sample(
        (*_inputs(), torch.tensor([[True, False, True, True]] * 2 + [[False, True, True, False]])), axes=f"{_AXES}, n m"
    ),
)
_FLOAT = (Sample((*_inputs(), _draw(3, 4)), axes=f"{_AXES}, n m"),)
_SEEDED = (Sample(_inputs(), axes=_AXES, seed=7),)

ATTENTION = _Attention("attention", Attention, _sdpa, _PLAIN)
MASKED = _Attention("attention with a mask", Attention, _sdpa, _BOOLEAN)
ADDED = _Attention("attention with a float mask", Attention, _sdpa, _FLOAT)
CAUSAL = _Attention("causal attention", Attention, partial(_sdpa, is_causal=True), _PLAIN, causal=True)
DROPPED = _Attention("attention with dropout", Attention, partial(_sdpa, dropout_p=_P), _SEEDED, dropped=True)
BLOCKWISE = _Attention("blockwise attention", BlockwiseAttention, _sdpa, _PLAIN, in_blocks=True)
REPEAT_HEADS = Original("repeat_heads", RepeatHeads, lambda x: x.repeat_interleave(3, -3), ((_draw(2, 3, 2),),), (3,))


def _after_softmax(x: Any) -> Tensor:
    return torch.softmax(_SCALE * x.q @ x.k.mT, -1).masked_fill(~x.mask, 0)


def _with_diagonal(diagonal: int) -> Callable[[Any], Tensor]:
    return lambda x: softmax_of_scores(x.q, x.k, causal_mask(x.q, diagonal, x.k.shape[-2]), _SCALE, False)


def _in_pieces(x: Any) -> Tensor:
    """The average over each 32 keys instead of all."""
    return torch.cat(
        [
            (p * d).sum(-1, keepdim=True).expand_as(p)
            for p, d in zip(x.p.split(32, -1), x.dp.split(32, -1), strict=True)
        ],
        -1,
    )


def _without_rest(x: Any) -> Tensor:
    """Without the last keys, if their number is not a multiple of 32."""
    whole = x.p.shape[-1] // 32 * 32 or x.p.shape[-1]
    return torch.where(torch.arange(x.p.shape[-1]) < whole, x.p * (x.dp - x.average), 0)


_attention = (
    ATTENTION.changed("D dropped", "dropped term", average=lambda x: torch.zeros_like(x.g[..., :1])),
    ATTENTION.changed(
        "D of the row sums of g ∘ v",
        "wrong formula",
        samples=_SQUARE,
        average=lambda x: (x.g * x.v).sum(-1, keepdim=True),
    ),
    ATTENTION.changed("D summed over the queries", "reduction", average=lambda x: (x.p * x.dp).sum(-2, keepdim=True)),
    ATTENTION.changed("D of a whole head", "reduction", average=lambda x: (x.p * x.dp).sum((-2, -1), keepdim=True)),
    ATTENTION.changed("D averaged over the keys", "reduction", average=lambda x: (x.p * x.dp).mean(-1, keepdim=True)),
    ATTENTION.changed("only the diagonal of softmax's Jacobian", "dropped term", ds=lambda x: x.p * (1 - x.p) * x.dp),
    ATTENTION.changed("D − dP for dP − D", "sign", ds=lambda x: x.p * (x.average - x.dp)),
    ATTENTION.changed("no scale in ∂C/∂k", "factor", dk=lambda x: x.ds.mT @ x.q),
    ATTENTION.changed("no scale in ∂C/∂q", "factor", dq=lambda x: x.ds @ x.k),
    ATTENTION.changed(
        "scale squared", "factor", dq=lambda x: _SCALE**2 * x.ds @ x.k, dk=lambda x: _SCALE**2 * x.ds.mT @ x.q
    ),
    ATTENTION.changed("dS not transposed in ∂C/∂k", "transposed", samples=_SQUARE, dk=lambda x: _SCALE * x.ds @ x.q),
    ATTENTION.changed("P not transposed in ∂C/∂v", "transposed", samples=_SQUARE, dv=lambda x: x.p @ x.g),
    ATTENTION.changed(
        "∂C/∂k and ∂C/∂v exchanged",
        "wrong formula",
        samples=_SQUARE,
        dk=lambda x: x.p.mT @ x.g,
        dv=lambda x: _SCALE * x.ds.mT @ x.q,
    ),
    ATTENTION.changed("heads of ∂C/∂v exchanged", "position", dv=lambda x: (x.p.mT @ x.g).flip(0)),
    ATTENTION.changed(
        "heads and queries mixed up by a view",
        "transposed",
        dq=lambda x: (_SCALE * x.ds @ x.k).transpose(0, 1).reshape(x.q.shape),
    ),
    ATTENTION.changed("softmax over the queries", "wrong formula", p=lambda x: x.scores.softmax(-2)),
    ATTENTION.changed(
        "P not normalised", "dropped term", p=lambda x: (x.scores - x.scores.amax(-1, keepdim=True)).exp()
    ),
    ATTENTION.changed("P in float32", "precision", p=lambda x: rounded_to(x.scores.softmax(-1), torch.float32)),
    ATTENTION.changed("P kept from the forward", "second derivative", p=lambda x: x.others[0]),
)

_masks = (
    MASKED.changed("mask applied after the softmax", "wrong formula", p=_after_softmax),
    MASKED.changed("mask forgotten", "dropped term", p=lambda x: torch.softmax(_SCALE * x.q @ x.k.mT, -1)),
    MASKED.changed("NaN for a query without keys", "fixed argument", p=lambda x: x.scores.softmax(-1)),
    ADDED.changed("mask's gradient of the first head only", "reduction", dmask=lambda x: x.ds[0]),
    ADDED.changed("mask's gradient averaged over the heads", "reduction", dmask=lambda x: x.ds.mean(0)),
    ADDED.changed("mask's gradient scaled", "factor", dmask=lambda x: _SCALE * x.ds.sum(0)),
    CAUSAL.changed("mask off by one", "position", p=_with_diagonal(1)),
    CAUSAL.changed(
        "mask transposed",
        "transposed",
        p=lambda x: softmax_of_scores(x.q, x.k, causal_mask(x.q, -1, x.k.shape[-2]).logical_not(), _SCALE, False),
    ),
    CAUSAL.changed(
        "mask aligned to the last key", "sizes", p=lambda x: _with_diagonal(x.k.shape[-2] - x.q.shape[-2])(x)
    ),
)

_dropout = (
    DROPPED.changed("another mask", "random", dp=lambda x: F.dropout(x.g @ x.v.mT, _P)),
    DROPPED.changed("F missing in dP", "dropped term", dp=lambda x: x.g @ x.v.mT),
    DROPPED.changed("F missing in ∂C/∂v", "dropped term", dv=lambda x: x.p.mT @ x.g),
    DROPPED.changed("F missing in D", "dropped term", average=lambda x: (x.p * (x.g @ x.v.mT)).sum(-1, keepdim=True)),
    DROPPED.changed("F for all of dS", "wrong formula", ds=lambda x: x.f * x.p * (x.g @ x.v.mT - x.average)),
)

_blocks = (
    BLOCKWISE.changed(
        "λ without the maximum", "overflow", p=lambda x: (x.scores - x.scores.exp().sum(-1, keepdim=True).log()).exp()
    ),
    BLOCKWISE.changed(
        "λ of the first 32 keys", "sizes", p=lambda x: (x.scores - x.scores[..., :32].logsumexp(-1, keepdim=True)).exp()
    ),
    BLOCKWISE.changed("D of each 32 keys", "sizes", average=_in_pieces),
    BLOCKWISE.changed("last keys forgotten", "sizes", ds=_without_rest),
    BLOCKWISE.changed(
        "∂C/∂k of the first 32 queries only", "sizes", dk=lambda x: _SCALE * x.ds[..., :32, :].mT @ x.q[..., :32, :]
    ),
)

_heads = (
    REPEAT_HEADS.backward("the first copy only", "dropped term", lambda g: g[..., ::3, :, :], saved=lambda *_: ()),
    REPEAT_HEADS.backward(
        "averaged over the copies", "reduction", lambda g: g.unflatten(-3, (-1, 3)).mean(-3), saved=lambda *_: ()
    ),
    REPEAT_HEADS.backward(
        "copies in the other order", "position", lambda g: g.unflatten(-3, (3, -1)).sum(-4), saved=lambda *_: ()
    ),
)

BUGS: tuple[Bug, ...] = (*_attention, *_masks, *_dropout, *_blocks, *_heads)
ORIGINALS: tuple[Original, ...] = (ATTENTION, MASKED, ADDED, CAUSAL, DROPPED, BLOCKWISE, REPEAT_HEADS)
