"""Entries of attention."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, Interval, RandomTensors, op_info
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


def _sample(query: Tensor, key: Tensor, value: Tensor, weight: Tensor | None, *others: Any, **options: Any) -> Sample:
    """Two heads of one feature each, with `others` between the weights of the input and those of the output."""
    args = (query, key, value, 2, 2, weight, *others, _draw(2, 2), _draw(2))
    shapes = (" ".join(map(str, x.shape)) if isinstance(x, Tensor) else "" for x in args)
    return Sample(args, options, axes=", ".join(shapes), seed=5 if options.get("need_weights") is False else None)


_q, _k, _v = _inputs(2)
_x, _y = _draw(3, 2, 2), _draw(4, 2, 2)
_PARAMETERS = (2, 2, _draw(6, 2), _draw(6), None, None, False, 0.0, _draw(2, 2), _draw(2))
_GROUPS = {"enable_gqa": True}
_CAUSAL_GROUPS = {**_GROUPS, "is_causal": True, "dropout_p": 0.4}

OP_INFOS = (
    op_info(
        "scaled_dot_product_attention",
        "dS = P ∘ (g vᵀ − Σ g y); ∂C/∂q = s dS k, ∂C/∂k = s dSᵀ q, ∂C/∂v = Pᵀ g, ∂C/∂mask = dS",
        (
            Sample(_inputs(2, e=3), axes="2 n d, 2 m d, 2 m 3"),
            Sample((_draw(2, 3, 2), *_inputs(1)[1:], _draw(3, 4)), {"scale": -0.4}, axes="2 n 2, 1 m 2, 1 m 2, n m"),
            Sample((*_inputs(m=5), _mask(3, 5)), axes="3 2, m 2, m 2, 3 m"),
            Sample(
                (_draw(4, 5, 2), *_inputs(2, m=3)[1:]),
                _CAUSAL_GROUPS,
                axes="2*groups 5 2, groups 3 2, groups 3 2",
                seed=3,
            ),
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
        ErrorInput((_q, _k, _v), TypeError, "scale", {"scale": torch.tensor(0.5, requires_grad=True)}),
        ErrorInput((_q, _k, _v), RuntimeError, "but got 1.5", {"dropout_p": 1.5}),
        ErrorInput((_draw(3, 3, 2), _k, _v), RuntimeError, "2 heads .* 3", _GROUPS),
        ErrorInput((_q.long(), _k.long(), _v.long()), RuntimeError, "int64"),
        ErrorInput(tuple(x.to(torch.complex64) for x in (_q, _k, _v)), NotImplementedError, "complex64"),
        rejects_lists=True,
    ),
    op_info(
        "multi_head_attention_forward",
        "linear, scaled_dot_product_attention of each head, and linear: the gradients of these",
        (
            _sample(_x, _y, _draw(4, 2, 2), _draw(6, 2), _draw(6), None, None, False, 0.0, attn_mask=_draw(4, 3, 4)),
            _sample(
                _x,
                _draw(4, 2, 3),
                _draw(4, 2, 1),
                None,
                _draw(6),
                _draw(1, 1, 2),
                _draw(1, 1, 2),
                True,
                0.4,
                need_weights=False,
                key_padding_mask=torch.tensor([[False, True, False, False], [False, False, True, True]]),
                use_separate_proj_weight=True,
                **{f"{name}_proj_weight": _draw(2, size) for name, size in zip("qkv", (2, 3, 1), strict=True)},
            ),
        ),
        ErrorInput((_x, _y, _y, 3, *_PARAMETERS[1:]), AssertionError, r"axis of 3, but got query \(3, 2, 2\)"),
        ErrorInput((_x, _y, _y, 2, 3, *_PARAMETERS[2:]), AssertionError, "3 heads"),
        ErrorInput((_x, _y, _x, *_PARAMETERS), AssertionError, r"value \(3, 2, 2\)"),
        ErrorInput((_x, _y[0], _y, *_PARAMETERS), AssertionError, "3-D"),
        ErrorInput((_x, _y, _y, *_PARAMETERS[:2], None, *_PARAMETERS[3:]), AssertionError, "in_proj_weight"),
        ErrorInput(
            (_x, _y, _y, *_PARAMETERS[:4], _draw(1, 1, 2), *_PARAMETERS[5:]), AssertionError, "bias_k and bias_v"
        ),
        ErrorInput(
            (_x, _y, _y, *_PARAMETERS), AssertionError, r"\(4, S, 1\).*\(4, 5, 2\)", {"static_k": _draw(4, 5, 2)}
        ),
        ErrorInput((_x, _y, _y, *_PARAMETERS), RuntimeError, r"\(3, 3\).*\(3, 4\)", {"attn_mask": _draw(3, 3)}),
        ErrorInput(
            (_x, _y, _y, *_PARAMETERS), AssertionError, "bool and floating", {"attn_mask": torch.ones(3, 4).long()}
        ),
        ErrorInput(
            (_x, _y, _y, *_PARAMETERS),
            AssertionError,
            r"\(2, 3\), but must be \(2, 4\)",
            {"key_padding_mask": _draw(2, 3)},
        ),
        ErrorInput((_x, _y, _y, *_PARAMETERS), RuntimeError, "attn_mask is None", {"is_causal": True}),
        domain=(Interval(-4, 4),) * 13,  # of products of up to five inputs
    ),
)
