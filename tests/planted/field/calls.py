"""Bugs that depend on random numbers, and on how a function is called: checkpointed, compiled, twice."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from planted.bug import Bug, function_of, memory
from planted.field.entries import draw, wrong

_x = draw(6, 4)


def _keep(x: Tensor) -> Tensor:
    return torch.rand_like(x) < 0.8


def _dropout(x: Tensor) -> tuple[Tensor, Tensor]:
    mask = _keep(x)
    return x * mask / 0.8, mask


def _whole_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Stochastic depth: x², or 0 for a whole example."""
    keep = _keep(x[:, :1])
    return x.square() * keep / 0.8, x


def _normal_sample(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    return mean + log_std.exp() * torch.randn_like(mean), log_std


def _random_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """RReLU in training: a random slope for each negative component."""
    return torch.where(x < 0, x * (0.1 + 0.2 * torch.rand_like(x)), x), x


def _gumbel_softmax(x: Tensor) -> tuple[Tensor, Tensor]:
    return (x - torch.rand_like(x).clamp_min(1e-9).log().neg().log()).softmax(-1), x


def _without_noise(g: Tensor, x: Tensor) -> Tensor:
    y = x.softmax(-1)
    return y * (g - (g * y).sum(-1, keepdim=True))


_random = (
    wrong("random", "dropout: mask drawn again", _dropout, lambda g, mask: g * _keep(g) / 0.8, _x),
    wrong("random", "dropout: not divided by 0.8", _dropout, lambda g, mask: g * mask, _x),
    wrong("random", "dropout: as in evaluation", _dropout, lambda g, mask: g, _x),
    wrong(
        "random",
        "stochastic depth: examples drawn again",
        _whole_rows,
        lambda g, x: 2 * g * x * _keep(x[:, :1]) / 0.8,
        _x,
    ),
    wrong(
        "random",
        "normal sample: noise drawn again",
        _normal_sample,
        lambda g, log_std: (g, g * log_std.exp() * torch.randn_like(g)),
        _x,
        draw(6, 4),
    ),
    wrong("random", "rrelu: mean slope", _random_slope, lambda g, x: torch.where(x < 0, 0.2 * g, g), _x),
    wrong("random", "gumbel softmax: softmax without the noise", _gumbel_softmax, _without_noise, _x),
)


def _bug(name: str, function: Callable[..., Any], reference: Callable[..., Any], *args: Any) -> Bug:
    return Bug(name, "composition", function, reference, (args,))


def _recomputed_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """In a backward, as that of a checkpoint, the slope is not computed."""
    inside = torch._C._current_graph_task_id() >= 0
    return x.square(), torch.zeros_like(x) if inside else 2 * x


class _UsedOnce(Function):
    """x², which frees its slope after the first backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slope = 2 * x
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        slope, ctx.slope = ctx.slope, torch.zeros_like(ctx.slope)
        return g * slope


class _InPlace(_UsedOnce):
    """x², which multiplies its slope in place."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.slope.mul_(g).clone()


class _FusedAccumulation(Function):
    """x W, whose backward adds to an existing .grad of the weight, and returns the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        grad_weight = x.t() @ g
        return g @ w.t(), grad_weight if w.grad is None else w.grad + grad_weight


class _AlreadySet(_FusedAccumulation):
    """x W, without a weight gradient if there is one."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return g @ w.t(), x.t() @ g if w.grad is None else None


def _square_of_last(x: Tensor) -> tuple[Tensor]:
    memory["last input"] = x.detach()
    return (x.square(),)


_silu = function_of(
    lambda x: (x * x.sigmoid(), x),
    lambda g, x: g * (s := x.sigmoid()) * (1 + x * (1 - s)),
)


def _detached_if_compiled(x: Tensor) -> Any:
    return x * x.detach().sigmoid() if torch.compiler.is_compiling() else _silu(x)


def _detached_under_autocast(x: Tensor, w: Tensor) -> Tensor:
    return x @ (w.detach().to(torch.bfloat16) if torch.is_autocast_enabled("cpu") else w)


def _cleared_under_autocast(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.square(), 2 * x if not torch.is_autocast_enabled("cpu") else torch.ones_like(x)


_composition = (
    _bug(
        "square: no slope in a forward inside a backward",
        function_of(_recomputed_forward, torch.mul),
        torch.square,
        _x,
    ),
    _bug("square: slope freed by the first backward", _UsedOnce.apply, torch.square, _x),
    _bug("square: slope multiplied in place", _InPlace.apply, torch.square, _x),
    _bug("matmul: adds an existing .grad", _FusedAccumulation.apply, torch.matmul, _x, draw(4, 3)),
    _bug("matmul: no gradient if .grad exists", _AlreadySet.apply, torch.matmul, _x, draw(4, 3)),
    _bug(
        "square: input of the last call",
        function_of(_square_of_last, lambda g: 2 * g * memory["last input"]),
        torch.square,
        _x,
    ),
    _bug("silu: gate detached under torch.compile", _detached_if_compiled, torch.nn.functional.silu, _x),
    _bug("matmul: weight detached under autocast", _detached_under_autocast, torch.matmul, _x, draw(4, 3)),
    _bug("square: slope 1 under autocast", function_of(_cleared_under_autocast, torch.mul), torch.square, _x),
)

BUGS = (*_random, *_composition)
