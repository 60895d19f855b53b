"""Scaled dot-product attention, in two forms of one equation.

    S = s q kᵀ + mask       the scores of n queries and m keys, (…, n, m)
    P = softmax(S)          of each row: the weights that a query gives to the keys
    y = P v                 the weighted averages of the values

Shapes: q (…, n, d), k (…, m, d), v (…, m, e), y (…, n, e); the leading axes are broadcast. g = ∂C/∂y is the upstream
gradient.

`Attention` keeps P: n · m numbers. `BlockwiseAttention` never has more than a block of it, and computes it again in
the backward; it keeps one number for each query. `scaled_dot_product_attention` chooses by the number of scores.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.dropout import dropout
from bp_torch.functional.function import Function, may_work_in_place, save, transform_active
from bp_torch.functional.precision import autocast_to_half, in_float32
from bp_torch.functional.score_blocks import (
    BLOCK,
    blocks_of_scores,
    causal_mask,
    mask_of_block,
    merge,
    merge_mask,
    part_of_mask,
    unmerge,
)
from bp_torch.functional.shape import LinearMap, as_new, sum_to_shape, to, unsqueeze
from bp_torch.functional.validation import require_floating, require_tensor

__all__ = ["scaled_dot_product_attention"]


class Attention(Function):
    """y = (P ∘ F) v with P = softmax(s q kᵀ + mask), where F holds dropout's factors: 0 or 1/(1 − p), or 1 without it.

    ∘ is the elementwise product. With i for queries, j for keys and a for features, the three steps are

        Sᵢⱼ = s Σₐ qᵢₐ kⱼₐ + maskᵢⱼ
        Pᵢⱼ = e^Sᵢⱼ / Σₗ e^Sᵢₗ
        yᵢₐ = Σⱼ Pᵢⱼ Fᵢⱼ vⱼₐ

    Backwards through them, with dP = ∂C/∂P and dS = ∂C/∂S:

        ∂C/∂v = (P ∘ F)ᵀ g       dP = F ∘ (g vᵀ)                                a matrix product, as in `Matmul`
        dS = P ∘ (dP − D)        Dᵢ = Σⱼ Pᵢⱼ dPᵢⱼ                               of each row, as in `Softmax`
        ∂C/∂q = s dS k           ∂C/∂k = s dSᵀ q           ∂C/∂mask = dS

    D needs no sum over the keys. Exchange the two sums of D, and the inner one is y:

        Dᵢ = Σⱼ Pᵢⱼ Fᵢⱼ Σₐ gᵢₐ vⱼₐ = Σₐ gᵢₐ Σⱼ Pᵢⱼ Fᵢⱼ vⱼₐ = Σₐ gᵢₐ yᵢₐ          D = the row sums of g ∘ y

    With dropout too: F is in dP and in y. Each gradient is summed over the axes along which its Tensor was broadcast:
    that of a mask over the heads that share it.

    A masked score is −∞, so its P and dS are 0. A query without any key has y = 0, as in torch, and no gradient.

    P and F are computed before the call. F is a constant, so the backward cannot draw another. P is one to a backward
    that is not differentiated itself; otherwise it is computed again from q and k, and so is P in `jvp`:

        Ṡ = s (q̇ kᵀ + q k̇ᵀ) + mask˙
        Ṗ = P ∘ (Ṡ − row sums of P ∘ Ṡ)
        ẏ = (Ṗ ∘ F) v + (P ∘ F) v̇

    For scores (log 3, 0), P = (3/4, 1/4), and y = 3/4 · 4 = 3. For g = 1, dP = (4, 0), D = g y = 3, and
    dS = (3/4 · 1, 1/4 · −3):

    >>> q, k = torch.tensor([[1.0]]), torch.tensor([[3.0], [1.0]]).log().requires_grad_()
    >>> v = torch.tensor([[4.0], [0.0]], requires_grad=True)
    >>> y = scaled_dot_product_attention(q, k, v, scale=1.0)
    >>> y.backward(torch.ones(1, 1))
    >>> k.grad.tolist(), v.grad.tolist()
    ([[0.75], [-0.75]], [[0.75], [0.25]])

    Source: Bahdanau, Cho, Bengio (2015); Vaswani et al., Attention Is All You Need (2017).
    """

    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
        causal: bool,
        factors: Tensor | None,
        weights: Tensor,
    ) -> Tensor:
        return _times(weights, factors) @ value  # (…, n, m) (…, m, e) -> (…, n, e)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        query, key, value, mask, ctx.scale, ctx.causal, *constants = inputs
        save(ctx, query, key, value, mask, *constants, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, factors, weights, output = ctx.saved_tensors
        if not may_work_in_place(grad_output):
            weights = softmax_of_scores(query, key, mask, ctx.scale, ctx.causal)
        needs_query, needs_key, needs_value, needs_mask, *constants = ctx.needs_input_grad
        average = (grad_output * output).sum(-1, keepdim=True)  # D, (…, n, 1)
        grad_scores = weights * (_times(grad_output @ value.mT, factors) - average)  # dS, (…, n, m)
        grad_query = sum_to_shape(grad_scores @ key * ctx.scale, query.shape) if needs_query else None
        grad_key = sum_to_shape(grad_scores.mT @ query * ctx.scale, key.shape) if needs_key else None
        grad_value = sum_to_shape(_times(weights, factors).mT @ grad_output, value.shape) if needs_value else None
        grad_mask = sum_to_shape(grad_scores, mask.shape) if needs_mask else None
        return grad_query, grad_key, grad_value, grad_mask, *[None for _ in constants]

    @staticmethod
    def jvp(ctx: Any, q: Tensor, k: Tensor, v: Tensor, m: Tensor | None, *_: None) -> Tensor:
        query, key, value, mask, factors, *_saved = ctx.saved_tensors
        weights = softmax_of_scores(query, key, mask, ctx.scale, ctx.causal)
        scores = ctx.scale * (q @ key.mT + query @ k.mT)
        if m is not None:
            scores = scores + m
        products = weights * scores
        tangent = products - weights * products.sum(-1, keepdim=True)
        return _times(tangent, factors) @ value + _times(weights, factors) @ v


def softmax_of_scores(query: Tensor, key: Tensor, mask: Tensor | None, scale: float, causal: bool) -> Tensor:
    """P, (…, n, m); a row without any key is 0."""
    if causal:
        mask = causal_mask(query, slice(0, query.shape[-2]), slice(0, key.shape[-2]))
    scores = _scores(query * scale, key, mask)
    if mask is None or causal:
        return torch.softmax(scores, -1)
    without_keys = (scores == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(without_keys, 0), -1).masked_fill(without_keys, 0)


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, unit: float = 1.0) -> Tensor:
    """S = q kᵀ + unit · mask; −∞ where a boolean mask is False."""
    scores = query @ key.mT
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return torch.add(scores, mask, alpha=unit)


def _times(weights: Tensor, factors: Tensor | None) -> Tensor:
    """P ∘ F."""
    return weights if factors is None else weights * factors


class BlockwiseAttention(Attention):
    """`Attention` without dropout, a block of queries and keys at a time: memory grows with n + m, not with n · m.

    The softmax of a row is computed while its keys come in blocks. m is the maximum of the scores so far, l the sum of
    e^(Sⱼ − m), and y the sum of e^(Sⱼ − m) vⱼ. If the maximum grows to m′, earlier terms are multiplied by e^(m − m′):

        m′ = max(m, max Sⱼ)                  over the keys j of the next block
        l ← e^(m − m′) l + Σⱼ e^(Sⱼ − m′)
        y ← e^(m − m′) y + Σⱼ e^(Sⱼ − m′) vⱼ

    After the last block the output is y / l, and λ = m + log l is the logarithm of Σⱼ e^Sⱼ. The two are computed before
    the call. The backward gets a block of P from λ by a single exponential, Pᵢⱼ = e^(Sᵢⱼ − λᵢ), and adds to the
    gradients the block's terms of the sums in `Attention`:

        dSᵢⱼ = Pᵢⱼ (gᵢ · vⱼ − Dᵢ)            Dᵢ = gᵢ · yᵢ
        ∂C/∂vⱼ ← ∂C/∂vⱼ + Σᵢ Pᵢⱼ gᵢ
        ∂C/∂qᵢ ← ∂C/∂qᵢ + s Σⱼ dSᵢⱼ kⱼ
        ∂C/∂kⱼ ← ∂C/∂kⱼ + s Σᵢ dSᵢⱼ qᵢ

    D needs y, not P: with the row sums of P ∘ dP, a row would need all its blocks before the first dS. Under a causal
    mask, blocks whose keys all come after their queries are skipped. The exponentials are powers of 2, which take a
    third of the time of those of e: scores and λ are in units of log 2.

    A backward that is differentiated itself uses the equations of `Attention`, and n · m numbers, as does `jvp`.

    Source: Milakov, Gimelshein, Online normalizer calculation for softmax (2018); Rabe, Staats, Self-attention does not
    need O(n²) memory (2021); Dao, Fu, Ermon, Rudra, Ré, FlashAttention (2022).
    """

    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
        causal: bool,
        output: Tensor,
        log_sums: Tensor,
    ) -> Tensor:
        return as_new(output)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        query, key, value, mask, ctx.scale, ctx.causal, _, log_sums = inputs
        save(ctx, query, key, value, mask, None, log_sums, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if may_work_in_place(grad_output):
            return _gradients_by_blocks(ctx, grad_output)
        return Attention.backward(ctx, grad_output)


def attend_by_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """The output y, (…, n, e), and λ, (N, n, 1), where N is the product of the leading axes."""
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    q, k, v = (merge(x, batch) for x in (query, key, value))
    mask = None if mask is None else merge_mask(mask, batch)
    output, log_sums = q.new_empty(*q.shape[:-1], v.shape[-1]), q.new_empty(*q.shape[:-1], 1)
    for heads, queries, blocks in blocks_of_scores(q, k, causal):
        scaled = q[heads, queries] * (scale * _LOG2_E)
        maximum, total, sums = q.new_tensor(-torch.inf), q.new_zeros(()), q.new_zeros(())  # m, l, y
        for keys in blocks:
            scores = _scores(scaled, k[heads, keys], mask_of_block(mask, causal, q, heads, queries, keys), _LOG2_E)
            larger = torch.maximum(maximum, scores.amax(-1, keepdim=True))
            finite = larger.masked_fill(larger == -torch.inf, 0)  # if all keys so far are masked
            exponentials, factor = scores.sub_(finite).exp2_(), torch.exp2(maximum - finite)
            total = total * factor + exponentials.sum(-1, keepdim=True)
            sums = sums * factor + exponentials @ v[heads, keys]
            maximum = larger
        total = total.masked_fill(total == 0, 1)  # all keys are masked
        output[heads, queries] = sums / total
        log_sums[heads, queries] = finite + torch.log2(total)
    return output.reshape(*batch, *output.shape[1:]), log_sums


def _gradients_by_blocks(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """The sums of `BlockwiseAttention`'s backward, added in place."""
    query, key, value, mask, _, log_sums, output = ctx.saved_tensors
    batch, scale, causal = grad_output.shape[:-2], ctx.scale, ctx.causal
    q, k, v, y, g = (merge(x, batch) for x in (query, key, value, output, grad_output))
    merged_mask = None if mask is None else merge_mask(mask, batch)
    each = zip((q, k, v, merged_mask), ctx.needs_input_grad, strict=False)
    sums = grad_q, grad_k, grad_v, grad_mask = [torch.zeros_like(x) if needs else None for x, needs in each]
    for heads, queries, blocks in blocks_of_scores(q, k, causal):
        q_i, g_i = q[heads, queries], g[heads, queries]
        average = (g_i * y[heads, queries]).sum(-1, keepdim=True)  # D
        for keys in blocks:
            k_j, v_j = k[heads, keys], v[heads, keys]
            mask_ij = mask_of_block(merged_mask, causal, q, heads, queries, keys)
            scores = _scores(q_i * (scale * _LOG2_E), k_j, mask_ij, _LOG2_E)
            weights = scores.sub_(log_sums[heads, queries]).exp2_()  # P
            grad_scores = (g_i @ v_j.mT).sub_(average).mul_(weights)  # dS
            if grad_q is not None:
                grad_q[heads, queries].baddbmm_(grad_scores, k_j, alpha=scale)
            if grad_k is not None:
                grad_k[heads, keys].baddbmm_(grad_scores.mT, q_i, alpha=scale)
            if grad_v is not None:
                grad_v[heads, keys].baddbmm_(weights.mT, g_i)
            if grad_mask is not None:
                part = part_of_mask(grad_mask, heads, queries, keys)
                part.add_(sum_to_shape(grad_scores, part.shape))
    inputs = zip(sums, (query, key, value, mask), strict=True)
    return *(None if grad is None else unmerge(grad, batch, x.shape) for grad, x in inputs), *[None] * 4


_LOG2_E = math.log2(math.e)


class RepeatHeads(LinearMap):
    """Each head of x, on the third axis from the end, G times in a row: G heads of queries share a head of keys.

    ∂C/∂x = g, summed over the G copies of each head.

    >>> x = torch.zeros(1, 1, 1, requires_grad=True)
    >>> RepeatHeads.call(x, 2).backward(torch.tensor([[[3.0]], [[4.0]]]))
    >>> x.grad.item()
    7.0

    Source: Ainslie et al., GQA: Training Generalized Multi-Query Transformer Models (2023).
    """

    @staticmethod
    def forward(input: Tensor, copies: int) -> Tensor:
        return input.repeat_interleave(copies, -3)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output.unflatten(-3, (ctx.shape[-3], ctx.constants[0])).sum(-3), None


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Averages of the values, weighted by the softmax of the scores of queries and keys. See `Attention`.

    Up to `BLOCK` scores, and with dropout, under torch.func and torch.compile, this is `Attention`: P fits in a cache,
    or is needed in full. Above it is `BlockwiseAttention`, which is faster there and takes less memory.

    Args:
        query: (…, n, d).
        key: (…, m, d). The leading axes of query, key and value are broadcast.
        value: (…, m, e).
        attn_mask: broadcasts to (…, n, m). Boolean: True where a query may see a key. Floating point: added to the
            scores, in the dtype of `query` or in float32.
        dropout_p: the probability to drop a weight, whether in training or not. With the same seed the weights are
            those that torch drops on a CPU.
        is_causal: query i sees the keys j ≤ i only, for n ≠ m too; excludes `attn_mask`.
        scale: s, by default 1/√d.
        enable_gqa: whether key and value may have fewer heads, on the third axis from the end: a divisor of those of
            `query`. See `RepeatHeads`.

    Returns:
        (…, n, e). 0 for a query that sees no key.

    Raises:
        TypeError: if an argument is not a Tensor.
        RuntimeError: if shapes or dtypes do not match; as NotImplementedError if they are not floating point.
    """
    require_floating("scaled_dot_product_attention", query=query, key=key, value=value)
    query, key, value, attn_mask = autocast_to_half(query, key, value, attn_mask)
    if enable_gqa:
        key, value = (_repeat_heads(x, query) for x in (key, value))
    _require_matching(query, key, value, attn_mask, dropout_p, is_causal)
    if attn_mask is not None:
        attn_mask = _as_matrix(attn_mask, query.dtype)
    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    return in_float32(_attend, query, key, value, attn_mask, scale, dropout_p, is_causal)


def _repeat_heads(tensor: Tensor, query: Tensor) -> Tensor:
    heads, wanted = tensor.shape[-3], query.shape[-3]
    if not heads or wanted % heads:
        raise RuntimeError(
            f"scaled_dot_product_attention(): {heads} heads of key or value do not divide {wanted} of query"
        )
    return tensor if heads == wanted else RepeatHeads.call(tensor, wanted // heads)


def _as_matrix(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask with two axes or more; one that is added to the scores has their dtype."""
    for _ in range(2 - mask.dim()):
        mask = unsqueeze(mask, 0)
    return mask if mask.dtype == torch.bool else to(mask, torch.promote_types(dtype, torch.float32))


def _require_matching(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, causal: bool
) -> None:
    """Raise, naming the arguments, unless they fit together."""
    name, three = "scaled_dot_product_attention()", (query, key, value)
    if not query.dtype == key.dtype == value.dtype:
        dtypes = ", ".join(str(x.dtype) for x in three)
        raise RuntimeError(f"{name}: query, key and value must have one dtype, but they are {dtypes}")
    if min(x.dim() for x in three) < 2 or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        shapes = ", ".join(str(tuple(x.shape)) for x in three)
        raise RuntimeError(f"{name}: expected query (…, n, d), key (…, m, d) and value (…, m, e), but got {shapes}")
    if not 0 <= dropout_p <= 1:
        raise RuntimeError(f"{name}: dropout_p must be a probability between 0 and 1, but got {dropout_p}")
    if mask is not None:
        _require_mask(name, mask, _shape_of_scores(query, key), query.dtype, causal)


def _require_mask(name: str, mask: Tensor, shape: torch.Size, dtype: torch.dtype, causal: bool) -> None:
    """Raise unless the mask's dtype is one that torch takes, and its shape broadcasts to that of the scores."""
    require_tensor("scaled_dot_product_attention", attn_mask=mask)
    if causal:
        raise RuntimeError(f"{name}: attn_mask and is_causal=True exclude each other")
    if mask.dtype not in (torch.bool, torch.float32, dtype):
        raise RuntimeError(f"{name}: attn_mask must be boolean, float32 or {dtype} as query is, not {mask.dtype}")
    lengths = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.dim() > len(shape) or any(n not in (1, length) for n, length in lengths):
        raise RuntimeError(f"{name}: attn_mask {tuple(mask.shape)} does not broadcast to the scores {tuple(shape)}")


def _shape_of_scores(query: Tensor, key: Tensor) -> torch.Size:
    return torch.Size((*torch.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2]))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    dropout_p: float,
    causal: bool,
) -> Tensor:
    """Compute the constants of one of the two forms, and call it."""
    q, k, v, m = (x if x is None else x.detach() for x in (query, key, value, mask))
    transformed = transform_active() or torch.compiler.is_compiling()
    if not dropout_p and not transformed and _shape_of_scores(q, k).numel() > BLOCK:
        return BlockwiseAttention.call(
            query, key, value, mask, scale, causal, *attend_by_blocks(q, k, v, m, scale, causal)
        )
    weights = softmax_of_scores(q, k, m, scale, causal)
    factors = dropout(torch.ones_like(weights), dropout_p) if dropout_p else None
    return Attention.call(query, key, value, mask, scale, causal, factors, weights)
