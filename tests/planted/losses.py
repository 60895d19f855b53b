"""Bugs of regression losses and binary cross-entropy.

The correct gradients of squared_error are ± g · 2 (y − t) / N.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.losses import builtin_squared_error
from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.bce import BCEWithLogits
from bp_torch.functional.losses import L1Loss, MSELoss, SmoothL1Loss, SquaredError
from planted.alterations import (
    clamped,
    normalised,
    ones_if_scalar,
    rounded_to,
    row_major,
)
from planted.bug import Original

_draw = RandomTensors(16)


def _pair(*shape: int) -> tuple[Tensor, Tensor]:
    return _draw(*shape), _draw(*shape)


_PAIRS = (_pair(4, 3), _pair(2, 5))
_FIVES = (_pair(5, 3), _pair(5, 4))
_BINARY = ((_draw(4, 3), _draw(4, 3).sigmoid()), (_draw(5), _draw(5).gt(0).double()))

SQUARED = Original("squared_error", SquaredError, builtin_squared_error, _PAIRS)
MSE = Original("mse_loss", MSELoss, F.mse_loss, _PAIRS, ("mean",))
MSE_SUM = Original("mse_loss sum", MSELoss, partial(F.mse_loss, reduction="sum"), _PAIRS, ("sum",))
MSE_EACH = Original("mse_loss none", MSELoss, partial(F.mse_loss, reduction="none"), _PAIRS, ("none",))
L1 = Original("l1_loss", L1Loss, F.l1_loss, _PAIRS, ("mean",))
SMOOTH_L1 = Original("smooth_l1_loss", SmoothL1Loss, partial(F.smooth_l1_loss, beta=0.5), _PAIRS, ("mean", 0.5))
BCE = Original(
    "bce_with_logits",
    BCEWithLogits,
    lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.full((), 3.0).to(x)),
    _BINARY,
    (torch.full((), 3.0), "mean"),
)


def _and_negated(d: Tensor) -> tuple[Tensor, Tensor]:
    return d, -d


def _without_tiny_errors(g: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return _and_negated(2 * g / len(y) * torch.where((y - t).abs() < 1e-5, 0, y - t))


_squared_error = (
    SQUARED.backward("2 forgotten", "factor", lambda g, y, t: _and_negated(g * (y - t) / len(y))),
    SQUARED.backward("not divided by N", "reduction", lambda g, y, t: _and_negated(2 * g * (y - t))),
    SQUARED.backward("mean over all elements", "reduction", lambda g, y, t: _and_negated(2 * g * (y - t) / y.numel())),
    SQUARED.backward(
        "divided by the outputs, not the examples",
        "reduction",
        lambda g, y, t: _and_negated(2 * g * (y - t) / y.shape[-1]),
    ),
    SQUARED.backward(
        "divided by 5, the batch it was written for",
        "sizes",
        lambda g, y, t: _and_negated(2 * g * (y - t) / 5),
        samples=_FIVES,
    ),
    SQUARED.backward("|y − t| for y − t", "sign", lambda g, y, t: _and_negated(2 * g * (y - t).abs() / len(y))),
    SQUARED.backward("t − y for both", "sign", lambda g, y, t: (-2 * g * (y - t) / len(y),) * 2),
    SQUARED.backward("y dropped from y − t", "dropped term", lambda g, y, t: _and_negated(-2 * g * t / len(y))),
    SQUARED.result("target's gradient not negated", "sign", target=torch.neg),
    SQUARED.backward("gradients exchanged", "sign", lambda g, y, t: _and_negated(2 * g * (t - y) / len(y))),
    SQUARED.result("1 % too small", "factor", input=lambda d: 0.99 * d),
    SQUARED.backward("error below 10⁻⁵ replaced by 0", "saturation", _without_tiny_errors),
    SQUARED.upstream("scalar g replaced by 1", ones_if_scalar),
    SQUARED.upstream("sign of g", torch.sign),
    SQUARED.backward(
        "bfloat16 inside", "precision", lambda g, y, t: _and_negated(2 * g / len(y) * rounded_to(y - t, torch.bfloat16))
    ),
    SQUARED.backward(
        "errors beyond 10 capped", "saturation", lambda g, y, t: _and_negated(2 * g / len(y) * (y - t).clamp(-10, 10))
    ),
    SQUARED.backward(
        "ignores the strides of y",
        "layout",
        lambda g, y, t: _and_negated(2 * g / len(y) * (row_major(y) - t)),
    ),
)


def _zero_for_target(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    grad_input, grad_target = SquaredError.backward(ctx, g)
    if ctx.needs_input_grad[0]:
        return grad_input, torch.zeros_like(grad_input)
    return None, grad_target


def _target_not_negated(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    grad_input, grad_target = SquaredError.backward(ctx, g)
    if ctx.needs_input_grad[0]:
        return grad_input, grad_target
    return None, grad_input  # not negated in this branch


def _input_or_target(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    grad_input, grad_target = SquaredError.backward(ctx, g)
    return (grad_input, None) if ctx.needs_input_grad[0] else (None, grad_target)


_subsets = (
    SQUARED.methods("target's gradient 0 if the input has one", "subset", backward=_zero_for_target),
    SQUARED.methods("if input …, elif target …", "subset", backward=_input_or_target),
    SQUARED.methods("target's gradient not negated if it is the only one", "subset", backward=_target_not_negated),
)

_error: dict[str, Tensor] = {}


def _save_error_in_global(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    SquaredError.setup_context(ctx, inputs, output)
    _error["last"] = inputs[0] - inputs[1]


def _use_global_error(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
    return _and_negated(2 * g * _error["last"] / len(_error["last"]))


def _ignore_target_tangent(ctx: Any, input_tangent: Tensor, _: Tensor) -> Tensor:
    return SquaredError.jvp(ctx, input_tangent, torch.zeros_like(input_tangent))


def _vmap_averaging(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
    y, t = (
        x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
        for x, d in zip(inputs, in_dims, strict=True)
    )
    return SquaredError.call(y, t).expand(info.batch_size), 0


_squared_error_state = (
    SQUARED.methods(
        "error saved in a global", "stale", setup_context=_save_error_in_global, backward=_use_global_error
    ),
    SQUARED.backward(
        "error written into the target",
        "side effect",
        lambda g, y, t: _and_negated(2 * g / len(y) * _written_into(t, y)),
    ),
    SQUARED.upstream("g doubled in place", lambda g: g.mul_(2) / 2, "side effect"),
    SQUARED.backward(
        "error saved by forward",
        "second derivative",
        lambda g, error: _and_negated(2 * g * error / len(error)),
        saved=lambda inputs, _: inputs[0] - inputs[1],
    ),
    SQUARED.backward(
        "target detached", "second derivative", lambda g, y, t: _and_negated(2 * g * (y - t.detach()) / len(y))
    ),
    SQUARED.methods("target's tangent ignored", "forward mode", jvp=_ignore_target_tangent),
    SQUARED.methods("vmap rule averages over the batch", "batched", vmap=_vmap_averaging),
)


def _written_into(t: Tensor, y: Tensor) -> Tensor:
    error = y - t
    t.data.copy_(error.detach())
    return error


_mse = (
    MSE.backward(
        "divided by the examples, not the elements", "reduction", lambda g, x, t: _and_negated(2 * g * (x - t) / len(x))
    ),
    MSE_SUM.upstream("g divided by its norm", normalised),
    MSE_EACH.backward("averaged", "reduction", lambda g, x, t: _and_negated(2 * g * (x - t) / x.numel())),
    MSE_EACH.upstream("g clamped to [−1, 1]", clamped),
)

_l1 = (
    L1.backward("1 where x = t", "kink", lambda g, x, t: _and_negated(g / x.numel() * torch.where(x >= t, 1, -1))),
    L1.backward("x − t for its sign", "wrong formula", lambda g, x, t: _and_negated(g / x.numel() * (x - t))),
    L1.backward(
        "sign by division, with ε = 10⁻⁶",
        "epsilon",
        lambda g, x, t: _and_negated(g / x.numel() * (x - t) / ((x - t).abs() + 1e-6)),
    ),
)


def _piecewise(beta: float, d: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    return torch.where(d.abs() < beta, inside, outside)


def _mean_of(g: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    return _and_negated(g / d.numel() * d)


_smooth_l1 = (
    SMOOTH_L1.backward(
        "d for d / β", "dropped term", lambda g, x, t: _mean_of(g, _piecewise(0.5, x - t, x - t, torch.sign(x - t)))
    ),
    SMOOTH_L1.backward("d / β everywhere", "wrong formula", lambda g, x, t: _mean_of(g, (x - t) / 0.5)),
    SMOOTH_L1.backward("sign of d everywhere", "wrong formula", lambda g, x, t: _mean_of(g, torch.sign(x - t))),
    SMOOTH_L1.backward("1 for β", "wrong formula", lambda g, x, t: _mean_of(g, (x - t).clamp(-1, 1))),
)


def _bce(g: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """With the correct gradient of the target, g (2 log(1 + e⁻ˣ) − x) / n."""
    return g / x.numel() * slope, g / x.numel() * (2 * torch.logaddexp(-x, torch.zeros_like(x)) - x)


def _bce_slope(x: Tensor, t: Tensor) -> Tensor:
    return (1 + 2 * t) * torch.sigmoid(x) - 3 * t


def _slope_by_y(y: Tensor, t: Tensor, epsilon: float = 0) -> Tensor:
    return (1 - t) / (1 - y + epsilon) - 3 * t / (y + epsilon)  # of −3 t log y − (1 − t) log(1 − y)


def _by_chain_rule(x: Tensor, t: Tensor, epsilon: float = 0) -> Tensor:
    y = torch.sigmoid(x)
    return _slope_by_y(y, t, epsilon) * y * (1 - y)


_bce_with_logits = (
    BCE.backward("pos_weight ignored", "dropped term", lambda g, x, t, p: _bce(g, x, torch.sigmoid(x) - t)),
    BCE.backward("t − σ(x)", "sign", lambda g, x, t, p: _bce(g, x, -_bce_slope(x, t))),
    BCE.backward(
        "times σ′, as for a squared error",
        "wrong formula",
        lambda g, x, t, p: _bce(g, x, _bce_slope(x, t) * torch.sigmoid(x) * torch.sigmoid(-x)),
    ),
    BCE.backward("NaN for a large x: 0/0", "overflow", lambda g, x, t, p: _bce(g, x, _by_chain_rule(x, t))),
    BCE.backward(
        "ε = 10⁻³ in the denominators", "epsilon", lambda g, x, t, p: _bce(g, x, _by_chain_rule(x, t, epsilon=1e-3))
    ),
    BCE.backward(
        "ε = 10⁻⁶ in the denominators", "epsilon", lambda g, x, t, p: _bce(g, x, _by_chain_rule(x, t, epsilon=1e-6))
    ),
    BCE.backward(
        "ε = 10⁻¹² in the denominators", "epsilon", lambda g, x, t, p: _bce(g, x, _by_chain_rule(x, t, epsilon=1e-12))
    ),
    BCE.backward("t rounded to 0 or 1", "wrong formula", lambda g, x, t, p: _bce(g, x, _bce_slope(x, (t > 0.5).to(x)))),
    BCE.result("target's gradient 0", "dropped term", target=torch.zeros_like),
)

BUGS = (*_squared_error, *_subsets, *_squared_error_state, *_mse, *_l1, *_smooth_l1, *_bce_with_logits)
ORIGINALS = (SQUARED, MSE, MSE_SUM, MSE_EACH, L1, SMOOTH_L1, BCE)
