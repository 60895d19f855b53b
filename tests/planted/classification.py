"""Bugs of cross_entropy and nll_loss.

The correct gradient of cross_entropy is gᵢ sᵢ (softmax(x) − onehot(t)), with gᵢ = g / Σ s for the mean.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.classification import CrossEntropy, NLLLoss, SoftCrossEntropy
from bp_torch.functional.function import Function, save
from planted.alterations import clamped, ones, ones_if_scalar, rounded_to
from planted.bug import Original

_draw = RandomTensors(15)


def _sample(examples: int, classes: int) -> tuple[Tensor, Tensor]:
    return _draw(examples, classes), _draw.classes(examples, below=classes)


_XT = (_sample(5, 3), _sample(4, 6))
_WEIGHT = _draw(3).exp()
_WITH_WEIGHT = (_sample(5, 3), _sample(4, 3))
_WITH_IGNORED = ((_draw(5, 3), torch.tensor([0, 1, 2, 1, 0])), (_draw(4, 6), torch.tensor([5, 1, 0, 3])))


class CrossEntropyInOnePiece(Function):
    """cross_entropy with class weights, ignored examples and reduction in one Function. Correct."""

    @staticmethod
    def forward(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
        return F.cross_entropy(input, target, weight, ignore_index=ignore_index, reduction=reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int, str], output: Tensor) -> None:
        *tensors, ctx.ignore_index, ctx.reduction = inputs
        save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, t, _ = ctx.saved_tensors
        return _example_grad(ctx, grad_output) * _slope(x, t), None, None, None, None


class NLLLossInOnePiece(CrossEntropyInOnePiece):
    """nll_loss in the same style. Correct."""

    @staticmethod
    def forward(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
        return F.nll_loss(input, target, weight, ignore_index=ignore_index, reduction=reduction)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, t, _ = ctx.saved_tensors
        return _example_grad(ctx, grad_output) * -_onehot(t, x), None, None, None, None


def _example_grad(ctx: Any, g: Tensor) -> Tensor:
    """gᵢ sᵢ, with gᵢ = g / Σ s for the mean, (N, 1)."""
    x, t, w = ctx.saved_tensors
    s = torch.where(t == ctx.ignore_index, 0, torch.ones_like(x[:, 0]) if w is None else w[t])
    return ((g / s.sum() if ctx.reduction == "mean" else g) * s).unsqueeze(1)


CE = Original("cross_entropy", CrossEntropyInOnePiece, F.cross_entropy, _XT, (None, -100, "mean"))
CE_SUM = Original(
    "cross_entropy sum",
    CrossEntropyInOnePiece,
    partial(F.cross_entropy, reduction="sum"),
    _XT,
    (None, -100, "sum"),
)
CE_EACH = Original("cross_entropy none", CrossEntropy, partial(F.cross_entropy, reduction="none"), _XT)
CE_IGNORING = Original(
    "cross_entropy ignore_index",
    CrossEntropyInOnePiece,
    partial(F.cross_entropy, ignore_index=1),
    _WITH_IGNORED,
    (None, 1, "mean"),
)
CE_WEIGHTED = Original(
    "cross_entropy weight",
    CrossEntropyInOnePiece,
    lambda input, target: F.cross_entropy(input, target, _WEIGHT.to(input.dtype)),
    _WITH_WEIGHT,
    (_WEIGHT, -100, "mean"),
)


class SmoothedCrossEntropy(Function):
    """The mean cross-entropy with label smoothing 0.1: onehot becomes 0.9 onehot + 0.1 / C. Correct."""

    @staticmethod
    def forward(input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(input, target, label_smoothing=0.1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        x, t = ctx.saved_tensors
        return grad_output / len(x) * (_p(x) - 0.9 * _onehot(t, x) - 0.1 / x.shape[1]), None


CE_SMOOTHED = Original(
    "cross_entropy label_smoothing", SmoothedCrossEntropy, partial(F.cross_entropy, label_smoothing=0.1), _XT
)
CE_SOFT = Original(
    "cross_entropy probabilities",
    SoftCrossEntropy,
    partial(F.cross_entropy, reduction="none"),
    ((_draw(4, 3), _draw.probabilities(4, 3)), (_draw(2, 5), _draw.probabilities(2, 5))),
)
NLL = Original("nll_loss", NLLLossInOnePiece, F.nll_loss, _XT, (None, -100, "mean"))
NLL_EACH = Original("nll_loss none", NLLLoss, partial(F.nll_loss, reduction="none"), _XT)
NLL_WEIGHTED = Original(
    "nll_loss weight",
    NLLLossInOnePiece,
    lambda input, target: F.nll_loss(input, target, _WEIGHT.to(input.dtype)),
    _WITH_WEIGHT,
    (_WEIGHT, -100, "mean"),
)


def _p(x: Tensor) -> Tensor:
    return torch.softmax(x, 1)


def _onehot(t: Tensor, x: Tensor) -> Tensor:
    return torch.zeros_like(x).scatter(1, t.unsqueeze(1), 1.0)


def _slope(x: Tensor, t: Tensor) -> Tensor:
    return _p(x) - _onehot(t, x)


_cross_entropy = (
    CE.backward("− onehot dropped", "dropped term", lambda g, x, t, w: g / len(x) * _p(x)),
    CE.backward("softmax dropped", "dropped term", lambda g, x, t, w: g / len(x) * -_onehot(t, x)),
    CE.backward("onehot − softmax", "sign", lambda g, x, t, w: g / len(x) * -_slope(x, t)),
    CE.backward(
        "target counted from the last class",
        "wrong formula",
        lambda g, x, t, w: g / len(x) * _slope(x, x.shape[1] - 1 - t),
    ),
    CE.backward("target off by one", "position", lambda g, x, t, w: g / len(x) * _slope(x, (t + 1) % x.shape[1])),
    CE.backward("not divided by N", "reduction", lambda g, x, t, w: g * _slope(x, t)),
    CE.backward("mean over all elements", "reduction", lambda g, x, t, w: g / x.numel() * _slope(x, t)),
    CE.backward("divided by C for N", "reduction", lambda g, x, t, w: g / x.shape[1] * _slope(x, t)),
    CE.backward(
        "class 0 treated as padding", "position", lambda g, x, t, w: g / len(x) * (t > 0).unsqueeze(1) * _slope(x, t)
    ),
    CE.upstream("scalar g replaced by 1", ones_if_scalar),
    CE.upstream("|g| for g", torch.abs),
    CE.upstream("g clamped to [−1, 1]", clamped),
    CE.backward("examples after the 64th get 0", "sizes", lambda g, x, t, w: g / len(x) * _first_64(_slope(x, t))),
    CE.backward(
        "p clamped to at least 0.001", "saturation", lambda g, x, t, w: g / len(x) * _slope_of_clamped(1e-3, x, t)
    ),
    CE.backward(
        "p clamped to at least 10⁻⁷", "saturation", lambda g, x, t, w: g / len(x) * _slope_of_clamped(1e-7, x, t)
    ),
    CE.backward("0 above 99 % probability", "saturation", lambda g, x, t, w: g / len(x) * _slope_below_99(x, t)),
    CE.backward(
        "NaN for a large x: ∞/∞", "overflow", lambda g, x, t, w: g / len(x) * (_overflowing(x) - _onehot(t, x))
    ),
    CE.backward("float16 inside", "precision", lambda g, x, t, w: g / len(x) * _slope(rounded_to(x, torch.float16), t)),
    CE.backward(
        "softmax saved by forward",
        "second derivative",
        lambda g, p, t: g / len(p) * (p - _onehot(t, p)),
        saved=lambda inputs, _: (_p(inputs[0]), inputs[1]),
    ),
    CE.methods(
        "tangent not divided by N",
        "forward mode",
        jvp=lambda ctx, tangent, *_: (_slope(*ctx.saved_tensors[:2]) * tangent).sum(),
    ),
)


def _first_64(d: Tensor) -> Tensor:
    return torch.cat([d[:64], torch.zeros_like(d[64:])])


def _slope_of_clamped(least: float, x: Tensor, t: Tensor) -> Tensor:
    return _p(x).clamp_min(least) - _onehot(t, x)


def _overflowing(x: Tensor) -> Tensor:
    return x.exp() / x.exp().sum(1, keepdim=True)


def _slope_below_99(x: Tensor, t: Tensor) -> Tensor:
    return torch.where(_p(x).gather(1, t.unsqueeze(1)) > 0.99, 0, _slope(x, t))


_reductions = (
    CE_SUM.backward("divided by N", "reduction", lambda g, x, t, w: g / len(x) * _slope(x, t)),
    CE_EACH.backward("divided by N", "reduction", lambda g, x, t: (g / len(x)).unsqueeze(1) * _slope(x, t)),
    CE_EACH.upstream("ignores g", ones),
)


def _example_weight(w: Tensor, t: Tensor) -> Tensor:
    return w[t].unsqueeze(1)  # s, (N, 1)


def _counted(t: Tensor) -> Tensor:
    return (t != 1).unsqueeze(1)  # CE_IGNORING ignores class 1


_weights = (
    CE_WEIGHTED.backward("class weights ignored", "dropped term", lambda g, x, t, w: g / len(x) * _slope(x, t)),
    CE_WEIGHTED.backward(
        "divided by N for Σ s", "reduction", lambda g, x, t, w: g / len(x) * _example_weight(w, t) * _slope(x, t)
    ),
    CE_WEIGHTED.backward(  # multiplies each column by its weight
        "weight of each column for the target's", "wrong formula", lambda g, x, t, w: g / w[t].sum() * w * _slope(x, t)
    ),
    CE_IGNORING.backward(
        "ignore_index ignored", "dropped term", lambda g, x, t, w: g / _counted(t).sum() * _slope(x, t)
    ),
    CE_IGNORING.backward(
        "divided by N, ignored examples included",
        "reduction",
        lambda g, x, t, w: g / len(x) * _counted(t) * _slope(x, t),
    ),
    CE_SMOOTHED.backward("label smoothing ignored", "dropped term", lambda g, x, t: g / len(x) * _slope(x, t)),
    CE_SMOOTHED.backward(
        "0.1 spread over the C − 1 others",
        "wrong formula",
        lambda g, x, t: g / len(x) * (_p(x) - 0.9 * _onehot(t, x) - 0.1 / (x.shape[1] - 1) * (1 - _onehot(t, x))),
    ),
)


def _g_p(g: Tensor, x: Tensor) -> Tensor:
    return g.unsqueeze(1) * _p(x)


def _by_target(g: Tensor, x: Tensor) -> Tensor:
    return -g.unsqueeze(1) * torch.log_softmax(x, 1)


_probabilities = (
    CE_SOFT.backward(  # correct for probabilities that sum to 1
        "Σ t assumed to be 1", "dropped term", lambda g, x, t: (_g_p(g, x) - g.unsqueeze(1) * t, _by_target(g, x))
    ),
    CE_SOFT.backward(
        "largest target treated as the class",
        "wrong formula",
        lambda g, x, t: (g.unsqueeze(1) * _slope(x, t.argmax(1)), _by_target(g, x)),
    ),
    CE_SOFT.result("target's gradient negated", "sign", target=torch.neg),
    CE_SOFT.result("target's gradient 0", "dropped term", target=torch.zeros_like),
)


def _minus_onehot(x: Tensor, t: Tensor) -> Tensor:
    return -_onehot(t, x)


_nll = (
    NLL.result("negated", "sign", input=torch.neg),
    NLL.backward("not divided by N", "reduction", lambda g, x, t, w: g * _minus_onehot(x, t)),
    NLL.backward("−g / N for every class", "dropped term", lambda g, x, t, w: (-g / len(x)).expand_as(x)),
    NLL.backward(
        "softmax backward included", "wrong formula", lambda g, x, t, w: g / len(x) * (x.exp() - _onehot(t, x))
    ),
    NLL.upstream("scalar g replaced by 1", ones_if_scalar),
    NLL_EACH.upstream("|g| for g", torch.abs),
    NLL_EACH.backward(  # (N,) and (N, C) broadcast only if N = C
        "g along the classes", "transposed", lambda g, x, t: g * _minus_onehot(x, t), samples=(_sample(4, 4),)
    ),
    NLL_WEIGHTED.backward("class weights ignored", "dropped term", lambda g, x, t, w: g / len(x) * _minus_onehot(x, t)),
)

BUGS = (*_cross_entropy, *_reductions, *_weights, *_probabilities, *_nll)
ORIGINALS = (
    CE,
    CE_SUM,
    CE_EACH,
    CE_IGNORING,
    CE_WEIGHTED,
    CE_SMOOTHED,
    CE_SOFT,
    NLL,
    NLL_EACH,
    NLL_WEIGHTED,
)
