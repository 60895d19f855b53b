"""Entries of attention."""

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(30)


def _inputs(*batch: int, n: int = 3, m: int = 4, d: int = 2, e: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values."""
    return _draw(*batch, n, d), _draw(*batch, m, d), _draw(*batch, m, e)


def _mask(n: int, m: int) -> Tensor:
    """A boolean mask, under which the first query sees no key."""
    mask = torch.arange(n * m).reshape(n, m) % 3 != 1
    mask[0] = False
    return mask


_q, _k, _v = _inputs(2)
_GROUPS = {"enable_gqa": True}

OP_INFOS = (
    op_info(
        "scaled_dot_product_attention",
        "dS = P ∘ (g vᵀ − Σ g y); ∂C/∂q = s dS k, ∂C/∂k = s dSᵀ q, ∂C/∂v = Pᵀ g, ∂C/∂mask = dS",
        (
            Sample(_inputs(2, e=3), axes="heads queries d, heads keys d, heads keys e"),
            Sample(
                (_draw(2, 3, 2), _draw(1, 4, 2), _draw(4, 2), _draw(3, 4)),
                {"scale": -0.4},
                axes="heads n d, 1 m d, m e, n m",
            ),
            Sample((*_inputs(m=5), _mask(3, 5)), axes="n d, m d, m e, n m"),
            Sample(
                (_draw(4, 5, 2), *_inputs(2, m=3)[1:]),
                {"is_causal": True, **_GROUPS},
                axes="2*groups n d, groups m d, groups m e",
            ),
            Sample(_inputs(2), {"dropout_p": 0.4}, axes="heads n d, heads m d, heads m e", seed=3),
        ),
        ErrorInput((_q, [1.0], _v), TypeError, "'key'"),
        ErrorInput((_q, _k, _v, [1.0]), TypeError, "attn_mask"),
        ErrorInput((_q.float(), _k, _v), RuntimeError, "one dtype, but they are torch.float32, torch.float64"),
        ErrorInput((_draw(2), _k, _v), RuntimeError, r"query .*\(2,\)"),
        ErrorInput((_q, _draw(2, 4, 3), _v), RuntimeError, r"key .*\(2, 4, 3\)"),
        ErrorInput((_q, _k, _draw(2, 3, 2)), RuntimeError, r"value .*\(2, 3, 2\)"),
        ErrorInput((_q, _draw(3, 4, 2), _v), RuntimeError, "broadcast"),
        ErrorInput((_q, _k, _v, _draw(3, 3)), RuntimeError, r"attn_mask \(3, 3\) .* scores \(2, 3, 4\)"),
        ErrorInput((_q, _k, _v, _draw(3, 2, 3, 4)), RuntimeError, r"attn_mask \(3, 2, 3, 4\)"),
        ErrorInput((_q, _k, _v, torch.ones(3, 4).long()), RuntimeError, "not torch.int64"),
        ErrorInput((_q, _k, _v, _draw(3, 4)), RuntimeError, "exclude each other", {"is_causal": True}),
        ErrorInput((_q, _k, _v), RuntimeError, "but got 1.5", {"dropout_p": 1.5}),
        ErrorInput((_draw(3, 3, 2), _k, _v), RuntimeError, "2 heads .* 3", _GROUPS),
        ErrorInput((_q.long(), _k.long(), _v.long()), RuntimeError, "int64"),
        ErrorInput((_q.cfloat(), _k.cfloat(), _v.cfloat()), NotImplementedError, "complex64"),
        rejects_lists=True,
    ),
)
