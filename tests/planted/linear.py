"""Bugs of linear. The correct gradients of (x, W, b) are (g W, gᵀ x, Σₙ gₙ)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.function import save
from bp_torch.functional.linear import Linear
from planted.alterations import (
    clamped,
    first_row_negated,
    in_fours,
    in_pairs,
    last_doubled,
    one_short,
    ones,
    rounded_to,
    row_major,
    tiled,
    without_large,
)
from planted.bug import Original

_draw = RandomTensors(11)


def _sample(examples: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    return _draw(examples, inputs), _draw(outputs, inputs), _draw(outputs)


LINEAR = Original("linear", Linear, F.linear, (_sample(5, 4, 3), _sample(2, 3, 6)))
_SQUARE = (_sample(5, 4, 4),)
_EVEN = (_sample(4, 3, 5), _sample(2, 4, 3))
_FOURS = (_sample(5, 8, 4), _sample(3, 4, 12))
_WIDE = (_sample(3, 6, 4), _sample(2, 5, 3))

_factors_and_signs = (
    LINEAR.result("weight gradient 1 % too large", "factor", weight=lambda d: 1.01 * d),
    LINEAR.result("weight gradient 0.01 % too large", "factor", weight=lambda d: 1.0001 * d),
    LINEAR.result("bias gradient doubled", "factor", bias=lambda d: 2 * d),
    LINEAR.result("input gradient negated", "sign", input=torch.neg),
    LINEAR.result("first row of the weight gradient negated", "sign", weight=first_row_negated),
)

_places = (
    LINEAR.result("one element of the weight gradient doubled", "position", weight=last_doubled),
    LINEAR.result("last column of the weight gradient 0", "position", weight=one_short),
    LINEAR.result("bias gradient shifted by one", "position", bias=lambda d: d.roll(1)),
    LINEAR.result("input gradient of the last example 0", "position", input=lambda d: F.pad(d[:-1], (0, 0, 0, 1))),
)

_transposed = (
    LINEAR.result("square weight's gradient transposed", "transposed", weight=lambda d: d.t(), samples=_SQUARE),
    LINEAR.result("weight gradient transposed", "transposed", weight=lambda d: d.t()),  # autograd raises
    LINEAR.backward(
        "input gradient by the transposed weight",
        "transposed",
        lambda g, x, w: (g @ w.t(), g.t() @ x, g.sum(0)),
        samples=_SQUARE,
    ),
)

_reductions = (
    LINEAR.backward("bias gradient averaged", "reduction", lambda g, x, w: (g @ w, g.t() @ x, g.mean(0))),
    LINEAR.backward("weight gradient averaged", "reduction", lambda g, x, w: (g @ w, g.t() @ x / len(x), g.sum(0))),
    LINEAR.backward("bias gradient times N", "reduction", lambda g, x, w: (g @ w, g.t() @ x, len(g) * g.sum(0))),
    LINEAR.backward("bias gradient of one example", "reduction", lambda g, x, w: (g @ w, g.t() @ x, g[-1])),
    LINEAR.backward(
        "one bias gradient for all outputs", "reduction", lambda g, x, w: (g @ w, g.t() @ x, g.sum().expand(len(w)))
    ),
    LINEAR.backward(
        "weight gradient from averages",
        "reduction",
        lambda g, x, w: (g @ w, torch.outer(g.sum(0), x.mean(0)), g.sum(0)),
    ),
    LINEAR.backward(
        "last example missing from the weight gradient",
        "dropped term",
        lambda g, x, w: (g @ w, g[:-1].t() @ x[:-1], g.sum(0)),
    ),
)

_upstream = (
    LINEAR.upstream("ignores g", ones),
    LINEAR.upstream("g clamped to [−1, 1]", clamped),
    LINEAR.upstream("large g replaced by 0", without_large),
    LINEAR.backward("weight gradient of |g|", "upstream gradient", lambda g, x, w: (g @ w, g.abs().t() @ x, g.sum(0))),
)


def _transpose_to_fit(d: Tensor, w: Tensor) -> Tensor:
    return d if d.shape == w.shape else d.t()


_sizes = (
    LINEAR.backward(  # for one example, squeeze removes the batch dimension and sum the outputs
        "bias gradient squeezed: wrong for a batch of 1",
        "sizes",
        lambda g, x, w: (g @ w, g.t() @ x, g.squeeze().sum(0).expand(len(w))),
    ),
    LINEAR.backward(
        "weight gradient of the first 32 examples", "sizes", lambda g, x, w: (g @ w, g[:32].t() @ x[:32], g.sum(0))
    ),
    LINEAR.backward(  # for n in range(x.shape[1])
        "weight gradient of the first x.shape[1] examples",
        "sizes",
        lambda g, x, w: (g @ w, g[: x.shape[1]].t() @ x[: x.shape[1]], g.sum(0)),
        samples=_WIDE,
    ),
    LINEAR.backward(
        "weight gradient transposed to fit: wrong if square",
        "sizes",
        lambda g, x, w: (g @ w, _transpose_to_fit(x.t() @ g, w), g.sum(0)),
    ),
    LINEAR.result("input gradient in blocks of four features", "sizes", input=in_fours, samples=_FOURS),
    LINEAR.result("weight gradient by tiles", "sizes", weight=tiled),
    LINEAR.result("input gradient in pairs of examples", "sizes", input=in_pairs, samples=_EVEN),
)

_precision = (
    LINEAR.backward(
        "float32 inside", "precision", lambda g, x, w: (rounded_to(g, torch.float32) @ w, g.t() @ x, g.sum(0))
    ),
    LINEAR.result("weight gradient rounded to bfloat16", "precision", weight=lambda d: rounded_to(d, torch.bfloat16)),
)

_layout = (
    LINEAR.backward(
        "ignores the strides of the weight",
        "layout",
        lambda g, x, w: (g @ row_major(w), g.t() @ x, g.sum(0)),
    ),
    LINEAR.backward("ignores the strides of g", "layout", lambda g, x, w: (g @ w, row_major(g).t() @ x, g.sum(0))),
    LINEAR.backward(  # all rows are equal, but the sum of N rows is not one row
        "bias gradient of an expanded g from one row",
        "layout",
        lambda g, x, w: (g @ w, g.t() @ x, g[0] if g.stride(0) == 0 else g.sum(0)),
    ),
)

_last: dict[str, Tensor] = {}


def _save_weight_in_global(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    save(ctx, *inputs[:2])
    _last["weight"] = inputs[1]


def _save_weight_as_attribute(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    save(ctx, inputs[0])
    ctx.weight = inputs[1]  # autograd does not detect a modification of this


def _use_global_weight(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, _ = ctx.saved_tensors
    return g @ _last["weight"], g.t() @ x, g.sum(0)


def _use_weight_attribute(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (x,) = ctx.saved_tensors
    return g @ ctx.weight, g.t() @ x, g.sum(0)


_stale = (
    LINEAR.methods(
        "weight saved in a global",
        "stale",
        setup_context=_save_weight_in_global,
        backward=_use_global_weight,
    ),
    LINEAR.methods(
        "weight saved as a ctx attribute",
        "stale",
        setup_context=_save_weight_as_attribute,
        backward=_use_weight_attribute,
    ),
)


def _save_weight_twice(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    save(ctx, *inputs[:2])
    ctx.parameter = inputs[1]


def _accumulate_into_grad(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.parameter.is_leaf:
        grad_weight = (g.t() @ ctx.saved_tensors[0]).detach()
        ctx.parameter.grad = grad_weight if ctx.parameter.grad is None else ctx.parameter.grad + grad_weight
    return Linear.backward(ctx, g)


def _sum_into_first_row(g: Tensor) -> Tensor:
    for row in g[1:]:
        g[0] += row
    return g[0].clone()


def _centre_input(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    gradients = Linear.backward(ctx, g)
    input = ctx.saved_tensors[0].data
    input -= input.mean(0)
    return gradients


_side_effects = (
    LINEAR.methods(
        "also adds to weight.grad", "side effect", setup_context=_save_weight_twice, backward=_accumulate_into_grad
    ),
    LINEAR.backward(
        "sums g into its first row", "side effect", lambda g, x, w: (g @ w, g.t() @ x, _sum_into_first_row(g))
    ),
    LINEAR.methods("centres the input in place", "side effect", backward=_centre_input),
)


def _bias_only_with_weight(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    grad_input, grad_weight, _ = Linear.backward(ctx, g)
    return grad_input, grad_weight, g.sum(0) if ctx.needs_input_grad[1] else None


def _input_only_with_weight(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    grad_input, *others = Linear.backward(ctx, g)
    frozen = grad_input is not None and not ctx.needs_input_grad[1]
    return torch.zeros_like(ctx.saved_tensors[0]) if frozen else grad_input, *others


_subsets = (
    LINEAR.methods("no bias gradient if the weight is frozen", "subset", backward=_bias_only_with_weight),
    LINEAR.methods("input gradient 0 if the weight is frozen", "subset", backward=_input_only_with_weight),
)

_second_derivatives = (
    LINEAR.backward("weight detached", "second derivative", lambda g, x, w: (g @ w.detach(), g.t() @ x, g.sum(0))),
    LINEAR.backward(
        "g detached for the weight", "second derivative", lambda g, x, w: (g @ w, g.detach().t() @ x, g.sum(0))
    ),
)


def _tangents(ctx: Any, x_tangent: Tensor, w_tangent: Tensor, b_tangent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, w = ctx.saved_tensors
    return x_tangent @ w.t(), x @ w_tangent.t(), b_tangent


def _ignore_weight_tangent(ctx: Any, *tangents: Tensor) -> Tensor:
    by_input, _, by_bias = _tangents(ctx, *tangents)
    return by_input + by_bias


def _subtract_bias_tangent(ctx: Any, *tangents: Tensor) -> Tensor:
    by_input, by_weight, by_bias = _tangents(ctx, *tangents)
    return by_input + by_weight - by_bias


_forward_mode = (
    LINEAR.methods("weight's tangent ignored", "forward mode", jvp=_ignore_weight_tangent),
    LINEAR.methods("bias's tangent subtracted", "forward mode", jvp=_subtract_bias_tangent),
)


def _vmap_with_first_weight(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
    x, w, b = (t if d is None else t.movedim(d, 0) for t, d in zip(inputs, in_dims, strict=True))
    w, b = (t if d is None else t[0] for t, d in zip((w, b), in_dims[1:], strict=True))
    x = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x
    return Linear.call(x.flatten(0, 1), w, b).reshape(*x.shape[:2], -1), 0


_batched = (LINEAR.methods("vmap rule uses the first weight for all", "batched", vmap=_vmap_with_first_weight),)

BUGS = (
    *_factors_and_signs,
    *_places,
    *_transposed,
    *_reductions,
    *_upstream,
    *_sizes,
    *_precision,
    *_layout,
    *_stale,
    *_side_effects,
    *_subsets,
    *_second_derivatives,
    *_forward_mode,
    *_batched,
)
ORIGINALS = (LINEAR,)
