"""Multi-head attention: several attentions side by side, between linear maps.

    q, k, v = x_q W_qᵀ + b_q, x_k W_kᵀ + b_k, x_v W_vᵀ + b_v       each is cut into H heads q₁ … q_H
    yₕ = attention(qₕ, kₕ, vₕ)
    y = [y₁ … y_H] W_oᵀ + b_o

It is composed of functions whose equations make up its backward: `Linear`, `Attention`, and those that move values. A
Tensor that is used several times gets the sum of its gradients: in self-attention, x_q = x_k = x_v gets three terms.

Source: Vaswani et al., Attention Is All You Need (2017).
"""

import math
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.arithmetic import add, mul
from bp_torch.functional.attention import scaled_dot_product_attention
from bp_torch.functional.dropout import dropout
from bp_torch.functional.indexing import cat, chunk
from bp_torch.functional.linear import linear
from bp_torch.functional.padding import pad
from bp_torch.functional.reductions import matmul, mean
from bp_torch.functional.shape import (
    Reshape,
    expand,
    flatten,
    permute,
    reshape,
    squeeze,
    to,
    transpose,
    unflatten,
    unsqueeze,
)
from bp_torch.functional.softmax import softmax

__all__ = ["multi_head_attention_forward"]


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention of `query` (L, N, E) to `key` (S, N, ·) and `value` (S, N, ·), or without N.

    Args:
        query: (L, N, E), or (L, E).
        key: (S, N, E); with separate weights, of any last length.
        value: likewise.
        embed_dim_to_check: E.
        num_heads: H; each head has E/H features.
        in_proj_weight: W_q, W_k and W_v, one above the other, (3E, E).
        in_proj_bias: b_q, b_k and b_v, (3E,).
        bias_k: one more key for all examples, (1, 1, E).
        bias_v: its value, (1, 1, E).
        add_zero_attn: add one more key and value, which are 0.
        dropout_p: probability to drop a weight, in `training`.
        out_proj_weight: W_o.
        out_proj_bias: b_o.
        training: whether to drop.
        key_padding_mask: (N, S). Boolean: True where a key is ignored. Floating point: added to its scores.
        need_weights: return the weights too; they are then computed one by one, without `scaled_dot_product_attention`,
            and those of a query that sees no key are NaN.
        attn_mask: (L, S) or (N·H, L, S). Boolean: True where a query may not see a key. Floating point: added.
        use_separate_proj_weight: use the next three in place of `in_proj_weight`.
        q_proj_weight: W_q.
        k_proj_weight: W_k.
        v_proj_weight: W_v.
        static_k: the keys after their linear map and cut into heads, (N·H, S, E/H), in place of `key`.
        static_v: the values, likewise.
        average_attn_weights: return the mean of the heads' weights.
        is_causal: that `attn_mask` is the causal mask; without `key_padding_mask` and `need_weights` it is not read.
        batch_first: not in torch: Tensors are (N, L, E) and (N, S, E), as for `MultiheadAttention`. The examples stay
            on the first axis all along, as per-example gradients need it.

    Returns:
        The output, (L, N, E); and the weights, (N, L, S) or (N, H, L, S), or None.

    Raises:
        AssertionError, RuntimeError: if shapes do not match, as torch does.
    """
    batched = F._mha_shape_check(query, key, value, key_padding_mask, attn_mask, num_heads)  # type: ignore[attr-defined]
    is_self_attention = query is key and key is value
    if not batched:
        query, key, value = (unsqueeze(x, 0 if batch_first else 1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else unsqueeze(key_padding_mask, 0)
    key_padding_mask = F._canonical_mask(
        key_padding_mask, "key_padding_mask", F._none_or_dtype(attn_mask), "attn_mask", query.dtype
    )
    if is_causal and attn_mask is None:
        raise RuntimeError("multi_head_attention_forward(): is_causal says what attn_mask is, but attn_mask is None")
    is_causal = is_causal and key_padding_mask is None and not need_weights
    attn_mask = None if is_causal else F._canonical_mask(attn_mask, "attn_mask", None, "", query.dtype, False)
    _require_shapes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)

    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    projected = _project(query, key, value, is_self_attention, in_proj_weight, separate, in_proj_bias)
    heads = num_heads, embed_dim_to_check // num_heads
    order = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)
    q, k, v = (permute(unflatten(x, -1, heads), order) for x in projected)  # (N, H, L, E/H)
    if (bias_k is None) != (bias_v is None):
        raise AssertionError("multi_head_attention_forward(): bias_k and bias_v must be given together")
    added = (bias_k is not None) + add_zero_attn  # keys
    attn_mask = None if attn_mask is None else _mask_of_heads(attn_mask, q, k.shape[2], added)
    k, v = _extended(k, static_k, bias_k, add_zero_attn), _extended(v, static_v, bias_v, add_zero_attn)
    if key_padding_mask is not None:
        attn_mask = _with_padding(attn_mask, key_padding_mask, k, added)

    dropout_p = dropout_p if training else 0.0
    if need_weights:
        y, weights = _attend_with_weights(q, k, v, attn_mask, dropout_p)
    else:
        y, weights = scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal), None
    y = permute(y, (0, 2, 1, 3) if batch_first else (2, 0, 1, 3))  # (N, L, H, E/H) or (L, N, H, E/H)
    output = linear(flatten(y, 2), out_proj_weight, out_proj_bias)
    if batch_first:
        output = Reshape.call(output, _sequence_first_in_memory)
    if weights is not None and average_attn_weights:
        weights = mean(weights, 1)
    if batched:
        return output, weights
    return squeeze(output, 0 if batch_first else 1), weights if weights is None else squeeze(weights, 0)


def _require_shapes(query: Tensor, key: Tensor, value: Tensor, size: int, heads: int, separate: bool) -> None:
    """Raise AssertionError, as torch does, unless the sizes of queries, keys and values fit."""
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if query.shape[-1] != size:
        raise AssertionError(f"multi_head_attention_forward(): expected a last axis of {size}, but got {shapes}")
    if size % heads:
        raise AssertionError(f"multi_head_attention_forward(): {heads} heads do not divide embed_dim {size}")
    if key.shape[:2] != value.shape[:2] or (not separate and key.shape != value.shape):
        raise AssertionError(f"multi_head_attention_forward(): key and value do not match: {shapes}")


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    is_self_attention: bool,
    weight: Tensor | None,
    separate: tuple[Tensor | None, ...] | None,
    bias: Tensor | None,
) -> tuple[Tensor, ...]:
    """The linear maps of queries, keys and values; in self-attention a single one."""
    if separate is None and weight is not None and is_self_attention:
        return chunk(linear(query, weight, bias), 3, -1)
    weights: Any = chunk(weight, 3) if separate is None and weight is not None else separate
    if weights is None or None in weights:
        raise AssertionError("multi_head_attention_forward(): in_proj_weight or the separate weights are None")
    biases = (None, None, None) if bias is None else chunk(bias, 3)
    return tuple(linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))


def _mask_of_heads(mask: Tensor, query: Tensor, source: int, added: int) -> Tensor:
    """The mask (L, S) or (N·H, L, S) as (L, S) or (N, H, L, S), and without effect on added keys."""
    n, heads, length, _ = query.shape
    expected = (length, source) if mask.dim() == 2 else (n * heads, length, source)
    if mask.shape != expected:
        raise RuntimeError(
            f"The shape of the {mask.dim()}D attn_mask is {tuple(mask.shape)}, but should be {expected}."
        )
    mask = unflatten(mask, 0, (n, heads)) if mask.dim() == 3 else mask
    return pad(mask, (0, added)) if added else mask


def _with_padding(mask: Tensor | None, padding: Tensor, key: Tensor, added: int) -> Tensor:
    """The mask of heads plus the one of each example's keys, (N, S)."""
    expected = key.shape[0], key.shape[2] - added
    if padding.shape != expected:
        raise AssertionError(
            f"multi_head_attention_forward(): key_padding_mask is {tuple(padding.shape)}, but must be {expected}"
        )
    padding = pad(padding, (0, added)) if added else padding
    padding = unsqueeze(unsqueeze(padding, 1), 1)  # (N, 1, 1, S)
    return padding if mask is None else add(mask, padding)


def _extended(x: Tensor, static: Tensor | None, bias: Tensor | None, add_zero: bool) -> Tensor:
    """Keys or values (N, H, S, E/H), or the static ones in their place, with one more for `bias` and `add_zero`."""
    n, heads, _, size = x.shape
    if static is not None:
        if bias is not None or static.shape[0] != n * heads or static.shape[2] != size:
            raise AssertionError(
                f"multi_head_attention_forward(): expected static keys and values ({n * heads}, S, {size}), without "
                f"bias_k and bias_v, but got {tuple(static.shape)}"
            )
        x = unflatten(static, 0, (n, heads))
    if bias is not None:
        x = cat((x, expand(reshape(bias, (1, heads, 1, size)), n, heads, 1, size)), 2)
    return cat((x, x.new_zeros(n, heads, 1, size)), 2) if add_zero else x


def _attend_with_weights(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float
) -> tuple[Tensor, Tensor | None]:
    """`Attention` in several functions, one of which returns the weights."""
    scores = matmul(mul(q, math.sqrt(1 / q.shape[-1])), transpose(k, -2, -1))
    scores = scores if mask is None else add(scores, to(mask, scores.dtype))
    weights = dropout(softmax(scores, -1), dropout_p)
    return matmul(weights, v), weights


def _sequence_first_in_memory(x: Tensor) -> Tensor:
    """The same Tensor (N, L, E) in the order (L, N, E), as torch returns it: dropout draws numbers in this order."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)
