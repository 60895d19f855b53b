"""A linear layer followed by the cross-entropy, without the logits in memory.

A language model with M tokens and V classes has M · V logits, often more numbers than all its activations. Here they
are computed for a few rows at a time, in the forward and again in the backward.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.classification import ReduceLosses, cross_entropy
from bp_torch.functional.function import Function, save
from bp_torch.functional.linear import linear
from bp_torch.functional.precision import at_least_float32, autocast_to_float32, autocast_to_half
from bp_torch.functional.shape import reshape, squeeze, to, unsqueeze
from bp_torch.functional.validation import (
    require_class_target,
    require_floating,
    require_indices_in_range,
    require_tensor,
    resolve_reduction,
)

__all__ = ["linear_cross_entropy"]

MAX_LOGITS = 2**23
"""The most logits that are computed at a time."""


class LinearCrossEntropy(Function):
    """lᵢ = −Σ_c τᵢ_c log softmax(zᵢ)_c with the logits zᵢ = W xᵢ + b, for each row xᵢ of x.

    Shapes: x (M, in), W (V, in), b (V,), target t (M,), class weights w (V,), losses l (M,).

    τ is the target: w_t for the class t, and with label smoothing ε

        τᵢ_c = (1 − ε) w_c [c = tᵢ] + ε w_c / V

    By `SoftCrossEntropy`, ∂l/∂z_c = p_c Σ_d τ_d − τ_c with p = softmax(z). The gradient of the logits is `Linear`'s δ:

        δᵢ = gᵢ (pᵢ Σ_d τᵢ_d − τᵢ)     without w and ε, for the mean over N rows: (softmax − onehot) / N
        ∂C/∂x = δ W,  ∂C/∂W = δᵀ x,  ∂C/∂b = Σᵢ δᵢ

    The rows are independent: each of the first is computed from its own row of δ, and the other two are sums over rows.
    So the forward computes the logits for some rows, keeps their losses, and drops the logits; the backward computes
    them again. No (M, V) Tensor exists, at the price of one more product z = W x. If the gradients are differentiated
    in turn, autograd keeps the logits. In half precision, products are rounded to it, all else is float32.

    For z = (log 1, log 3), p = (1/4, 3/4); with t = 0, δ = (−3/4, 3/4) and ∂C/∂W = δᵀ x:

    >>> x, w = torch.tensor([[2.0]]), (torch.tensor([[1.0], [3.0]]).log() / 2).requires_grad_()
    >>> torch.autograd.grad(linear_cross_entropy(x, w, torch.tensor([0])), w)
    (tensor([[-1.5000],
            [ 1.5000]]),)
    """

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        class_weight: Tensor | None,
        label_smoothing: float,
        rows: int,
    ) -> Tensor:
        losses = partial(F.cross_entropy, weight=class_weight, reduction="none", label_smoothing=label_smoothing)
        blocks = zip(torch.split(input, rows), torch.split(target, rows), strict=True)
        return torch.cat([losses(_logits(x, weight, bias), t) for x, t in blocks])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.label_smoothing, ctx.rows = inputs
        save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        tensors = input, weight, bias, *_ = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        grad_input: list[Tensor] = []
        grad_weight = grad_bias = None
        for x, delta in LinearCrossEntropy.deltas(ctx, grad_output, *tensors):
            grad_bias = _plus(grad_bias, delta.sum(0)) if needs_bias else None
            delta = delta.to(input.dtype)
            grad_weight = _plus(grad_weight, at_least_float32(delta.t() @ x)) if needs_weight else None
            if needs_input:
                grad_input.append(delta @ weight)
        return (
            torch.cat(grad_input) if needs_input else None,
            grad_weight.to(weight.dtype) if grad_weight is not None else None,
            grad_bias.to(bias.dtype) if grad_bias is not None else None,
            *[None] * 4,
        )

    @staticmethod
    def deltas(
        ctx: Any,
        grad_output: Tensor,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        class_weight: Tensor | None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Some rows of x with their δ, (rows, V), for all rows in turn."""
        blocks = (torch.split(tensor, ctx.rows) for tensor in (input, target, grad_output))
        for x, t, g in zip(*blocks, strict=True):
            p = torch.softmax(_logits(x, weight, bias), 1)
            w = p.new_ones(p.shape[1]) if class_weight is None else class_weight
            hit, spread = g * (1 - ctx.label_smoothing) * w[t], g * (ctx.label_smoothing / len(w))  # (rows,)
            smoothing = spread.unsqueeze(1) * (p * w.sum() - w) if ctx.label_smoothing else 0
            yield x, hit.unsqueeze(1) * _minus_onehot(p, t.unsqueeze(1)) + smoothing

    @staticmethod
    def jvp(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, *_: None) -> Tensor:
        tensors = input, weight, *_ = ctx.saved_tensors
        ones = torch.ones_like(input[:, 0], dtype=at_least_float32(input).dtype)
        blocks = zip(LinearCrossEntropy.deltas(ctx, ones, *tensors), torch.split(x, ctx.rows), strict=True)
        tangents = []
        for (rows, slope), tangent in blocks:
            logits_tangent = _logits(tangent, weight, b) + at_least_float32(rows @ w.t())
            tangents.append((slope * logits_tangent).sum(1))
        return torch.cat(tangents)


def _logits(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return at_least_float32(F.linear(input, weight, bias))


def _minus_onehot(p: Tensor, index: Tensor) -> Tensor:
    """The difference p − onehot; −Σ p over the other classes keeps the digits that p − 1 loses near p = 1."""
    # in place is faster, but vmap cannot add a batch to a Tensor without one; torch.func enables gradients
    put = torch.Tensor.scatter if torch.is_grad_enabled() else torch.Tensor.scatter_
    others = put(p, 1, index, 0.0)
    return put(others, 1, index, -others.sum(1, keepdim=True))


def _plus(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy` of the logits `linear(input, linear_weight, linear_bias)`. See `LinearCrossEntropy`.

    `input` is (N, in) or (in,), `linear_weight` (C, in), `linear_bias` (C,); for `target`, `weight`, `reduction` and
    `label_smoothing` see `cross_entropy`. `ignore_index` None means -100. Of `options`, a
    torch.nn.LinearCrossEntropyOptions, `batch_chunk_size` is the number of rows at a time; the others choose between
    PyTorch's kernels.

    A weight (C, d₁, …, in) has logits (N, C, d₁, …). For these, and for a target of probabilities, which has the size
    of the logits, the two functions are called one after the other.

    Errors as `cross_entropy`, and RuntimeError if `input` and `linear_weight` do not match.
    """
    reduction = resolve_reduction(reduction)
    require_floating("linear_cross_entropy", input=input, linear_weight=linear_weight)
    require_tensor("linear_cross_entropy", target=target)
    _require_linear(input, linear_weight, linear_bias)
    classes, *positions, features = linear_weight.shape
    logits_shape = (*input.shape[:-1], classes, *positions)
    if target.shape == logits_shape and ignore_index is not None:
        raise RuntimeError("linear_cross_entropy(): ignore_index is not supported for a target of probabilities")
    ignore_index = -100 if ignore_index is None else ignore_index
    if positions or target.shape == logits_shape:
        flat = math.prod((classes, *positions))
        bias = None if linear_bias is None else reshape(linear_bias, (flat,))
        logits = reshape(linear(input, reshape(linear_weight, (flat, features)), bias), logits_shape)
        loss = partial(cross_entropy, reduction=reduction, label_smoothing=label_smoothing)
        return loss(logits, target, weight, ignore_index=ignore_index)
    size = None if options is None else options.batch_chunk_size
    rows = size or max(1, MAX_LOGITS // max(classes, 1))
    tensors = input, linear_weight, linear_bias, target, weight
    return _class_index_loss(*tensors, reduction, ignore_index, label_smoothing, rows)


def _class_index_loss(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    rows: int,
) -> Tensor:
    """The reduced losses, `rows` of them at a time; their dtype is that of the logits, or float32 under autocast."""
    tensors = autocast_to_half(input, linear_weight, linear_bias)
    like, weight = autocast_to_float32(tensors[0].detach().new_empty(()), weight)
    require_class_target("linear_cross_entropy", like.expand(*input.shape[:-1], len(linear_weight)), target, weight)
    classes = target.reshape(-1).long()
    require_indices_in_range(classes, len(linear_weight), ignore_index)
    ignored = classes == ignore_index
    classes = classes.masked_fill(ignored, 0)
    weight = None if weight is None else at_least_float32(weight)
    counted = ~ignored if weight is None else weight[classes].masked_fill(ignored, 0)
    x = tensors[0] if input.dim() == 2 else unsqueeze(tensors[0], 0)
    losses = LinearCrossEntropy.call(x, *tensors[1:], classes, weight, label_smoothing, rows)
    output = to(ReduceLosses.call(losses, ignored, counted.sum(), reduction), like.dtype)
    return output if reduction != "none" or input.dim() == 2 else squeeze(output, 0)


def _require_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise RuntimeError unless input, weight and bias match."""
    fits = input.dim() in (1, 2) and weight.dim() >= 2 and input.shape[-1] == weight.shape[-1]
    if not fits or (weight.dim() > 2 and input.dim() == 1):
        raise RuntimeError(
            f"linear_cross_entropy(): input {tuple(input.shape)} and linear_weight {tuple(weight.shape)} do not match; "
            "expected (N, in) and (C, in) or (C, d1, ..., in)"
        )
    if bias is not None and bias.shape != weight.shape[:-1]:
        shape = tuple(bias.shape)
        raise RuntimeError(f"linear_cross_entropy(): linear_bias {shape} must be {tuple(weight.shape[:-1])}")
