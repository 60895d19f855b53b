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
from bp_torch.functional.precision import autocast_to_half, in_float32, without_autocast
from bp_torch.functional.scores import (
    ScoreBlocks,
    as_matrix,
    exceed_block,
    part_of_mask,
    repeat_heads,
    require_matching,
    softmax_of_scores,
)
from bp_torch.functional.shape import as_new, sum_to_shape
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

    Each gradient is summed over the axes along which its Tensor was broadcast: that of a mask over the heads that share
    it. D has a second form. Exchange its two sums, and the inner one is y:

        Dᵢ = Σⱼ Pᵢⱼ Fᵢⱼ Σₐ gᵢₐ vⱼₐ = Σₐ gᵢₐ Σⱼ Pᵢⱼ Fᵢⱼ vⱼₐ = Σₐ gᵢₐ yᵢₐ          the row sums of g ∘ y

    `BlockwiseAttention` needs it. Here the first form is used, which keeps more digits: if one key has all the weight,
    its dP − D is exactly 0.

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
    >>> k.grad.t(), v.grad.t()
    (tensor([[ 0.7500, -0.7500]]), tensor([[0.7500, 0.2500]]))

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
        save(ctx, query, key, value, mask, *constants)

    @staticmethod
    @without_autocast
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, factors, weights, *_ = ctx.saved_tensors
        needs_query, needs_key, needs_value, needs_mask, *constants = ctx.needs_input_grad
        in_place = may_work_in_place(grad_output)
        if not in_place:
            weights = softmax_of_scores(query, key, mask, ctx.scale, ctx.causal)
        grad_weights = _times(grad_output @ value.mT, factors)  # dP, (…, n, m)
        average = (weights * grad_weights).sum(-1, keepdim=True)  # D, (…, n, 1)
        grad_scores = grad_weights.sub_(average).mul_(weights) if in_place else weights * (grad_weights - average)
        grad_query = sum_to_shape(grad_scores @ key * ctx.scale, query.shape) if needs_query else None
        grad_key = sum_to_shape(grad_scores.mT @ query * ctx.scale, key.shape) if needs_key else None
        grad_value = sum_to_shape(_times(weights, factors).mT @ grad_output, value.shape) if needs_value else None
        grad_mask = sum_to_shape(grad_scores, mask.shape) if needs_mask else None
        return grad_query, grad_key, grad_value, grad_mask, *[None for _ in constants]

    @staticmethod
    @without_autocast
    def jvp(ctx: Any, q: Tensor, k: Tensor, v: Tensor, m: Tensor | None, *_: None) -> Tensor:
        query, key, value, mask, factors, *_saved = ctx.saved_tensors
        weights = softmax_of_scores(query, key, mask, ctx.scale, ctx.causal)
        scores = ctx.scale * (q @ key.mT + query @ k.mT)
        if m is not None:
            scores = scores + m
        products = weights * scores
        tangent = products - weights * products.sum(-1, keepdim=True)
        return _times(tangent, factors) @ value + _times(weights, factors) @ v


def _times(weights: Tensor, factors: Tensor | None) -> Tensor:
    """P ∘ F."""
    return weights if factors is None else weights * factors


class BlockwiseAttention(Function):
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

    D is the row sum of g ∘ y: that of P ∘ dP would take all blocks of a row before its first dS. Under a causal mask,
    blocks whose keys all come after their queries are skipped. The exponentials are powers of 2, which take a third of
    the time of those of e: scores and λ are in units of log 2.

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
    @without_autocast
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if may_work_in_place(grad_output):
            return _gradients_by_blocks(ctx, grad_output)
        return Attention.backward(ctx, grad_output)

    jvp = staticmethod(Attention.jvp)


def attend_by_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """The output y, (…, n, e), and λ, (N, n, 1), where the leading axes are merged to N."""
    blocks = ScoreBlocks(query, key, value, mask, scale, causal)
    output = query.new_empty(*blocks.query.shape[:-1], value.shape[-1])
    log_sums = query.new_empty(*output.shape[:-1], 1)
    for heads, queries, blocks_of_keys in blocks:
        maximum, total, sums = query.new_tensor(-torch.inf), query.new_zeros(()), query.new_zeros(())  # m, l, y
        for keys in blocks_of_keys:
            scores = blocks.scores(heads, queries, keys)
            larger = torch.maximum(maximum, scores.amax(-1, keepdim=True))  # m′
            finite = larger.masked_fill(larger == -torch.inf, 0)  # if all keys so far are masked
            exponentials, factor = scores.sub_(finite).exp2_(), torch.exp2(maximum - finite)
            total = total * factor + exponentials.sum(-1, keepdim=True)
            sums = sums * factor + exponentials @ blocks.value[heads, keys]
            maximum = larger
        total = total.masked_fill(total == 0, 1)  # all keys are masked
        output[heads, queries] = sums / total
        log_sums[heads, queries] = finite + torch.log2(total)
    return blocks.unmerge(output), log_sums


def _gradients_by_blocks(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """The backward of `BlockwiseAttention`: each block adds its terms of the sums, in place."""
    query, key, value, mask, _, log_sums, output = ctx.saved_tensors
    blocks = ScoreBlocks(query, key, value, mask, ctx.scale, ctx.causal)
    g, y = blocks.merge(grad_output), blocks.merge(output)
    merged = zip((blocks.query, blocks.key, blocks.value, blocks.mask), ctx.needs_input_grad, strict=False)
    sums = [None if x is None or not needs else torch.zeros_like(x) for x, needs in merged]
    grad_query, grad_key, grad_value, grad_mask = sums
    for heads, queries, blocks_of_keys in blocks:
        q_i, g_i, log_sum = blocks.query[heads, queries], g[heads, queries], log_sums[heads, queries]
        average = (g_i * y[heads, queries]).sum(-1, keepdim=True)  # D
        for keys in blocks_of_keys:
            k_j, v_j = blocks.key[heads, keys], blocks.value[heads, keys]
            weights = blocks.scores(heads, queries, keys).sub_(log_sum).exp2_()  # P
            grad_scores = (g_i @ v_j.mT).sub_(average).mul_(weights)  # dS
            if grad_query is not None:
                grad_query[heads, queries].baddbmm_(grad_scores, k_j, alpha=ctx.scale)
            if grad_key is not None:
                grad_key[heads, keys].baddbmm_(grad_scores.mT, q_i, alpha=ctx.scale)
            if grad_value is not None:
                grad_value[heads, keys].baddbmm_(weights.mT, g_i)
            if grad_mask is not None:
                part = part_of_mask(grad_mask, heads, queries, keys)
                part.add_(sum_to_shape(grad_scores, part.shape))
            del weights, grad_scores  # before the next block is allocated
    gradients = zip(sums, (query, key, value, mask), strict=True)
    return *(None if d is None else blocks.unmerge(d, x.shape) for d, x in gradients), *[None] * 4


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

    This is `Attention` for up to 2¹⁷ scores, which fit in a processor's cache, and where P is needed in full: with
    dropout, and under torch.func and torch.compile, which differentiate or compile the backward. Otherwise it is
    `BlockwiseAttention`, which is then faster and takes less memory.

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
    if attn_mask is not None:
        require_tensor("scaled_dot_product_attention", attn_mask=attn_mask)
    query, key, value, attn_mask = autocast_to_half(query, key, value, attn_mask)
    if enable_gqa:
        key, value = (repeat_heads(x, query) for x in (key, value))
    require_matching(query, key, value, dropout_p)
    if attn_mask is not None:
        attn_mask = as_matrix(attn_mask, query, key, is_causal)
    if isinstance(scale, Tensor) and scale.requires_grad:
        raise TypeError("scaled_dot_product_attention(): scale must be a number, not a Tensor that requires a gradient")
    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else float(scale)
    return in_float32(_attend, query, key, value, attn_mask, scale, is_causal, dropout_p)


@without_autocast
def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, causal: bool, dropout_p: float
) -> Tensor:
    """Compute the constants of one of the two forms, and call it."""
    inputs = query, key, value, mask, scale, causal
    q, k, v, m = query.detach(), key.detach(), value.detach(), None if mask is None else mask.detach()
    needs_weights = dropout_p or transform_active() or torch.compiler.is_compiling()
    if not needs_weights and exceed_block(q, k):
        return BlockwiseAttention.call(*inputs, *attend_by_blocks(q, k, v, m, scale, causal))
    with torch.no_grad():
        weights = softmax_of_scores(q, k, m, scale, causal)
    factors = dropout(torch.ones_like(weights), dropout_p) if dropout_p else None
    return Attention.call(*inputs, factors, weights)
