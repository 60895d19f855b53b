"""Bugs of the losses of distributions, of binary cross-entropy and of Huber's loss."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue import CATALOGUE
from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.bce import BCE
from bp_torch.functional.likelihood_losses import GaussianNLL, KLDiv, KLDivOfLogTarget, PoissonNLL
from bp_torch.functional.losses import HuberLoss
from bp_torch.sample import Sample
from planted.bug import Original

_draw = RandomTensors(44)


def _positive(x: Tensor) -> Tensor:
    return 0.01 + F.softplus(x)


def _probability(x: Tensor) -> Tensor:
    return 0.05 + 0.9 * torch.sigmoid(x)


_LOGS = ((_draw(4, 3), _draw(4, 3)), (_draw(5), _draw(5)))
_TARGETS = tuple(Sample((x, t.exp()), constraint={"argument 1": _positive}) for x, t in _LOGS)
_RATES = tuple(Sample((x.exp(), 3 * t.exp()), constraint=_positive) for x, t in _LOGS)
_VARIANCES = (Sample((_draw(4, 3), _draw(4, 3), _draw(4, 3).exp()), constraint={"argument 2": _positive}),)
_PROBABILITIES = tuple(Sample(pair, constraint=_probability) for pair in _LOGS)

KL = Original("kl_div", KLDiv, partial(F.kl_div, reduction="sum"), _TARGETS, ("sum",))
KL_MEAN = Original("kl_div mean", KLDiv, lambda x, t: F.kl_div(x, t, reduction="sum") / x.numel(), _TARGETS, ("mean",))
KL_LOG = Original(
    "kl_div of logarithms", KLDivOfLogTarget, partial(F.kl_div, reduction="sum", log_target=True), _LOGS, ("sum",)
)
POISSON = Original("poisson_nll_loss", PoissonNLL, F.poisson_nll_loss, _LOGS, ("mean", True, False, 1e-8))
POISSON_RATE = Original(
    "poisson_nll_loss of rates",
    PoissonNLL,
    partial(F.poisson_nll_loss, log_input=False, full=True, eps=0.01, reduction="sum"),
    _RATES,
    ("sum", False, True, 0.01),
)
GAUSSIAN = Original("gaussian_nll_loss", GaussianNLL, F.gaussian_nll_loss, _VARIANCES, ("mean", False, 1e-6))
BINARY = Original("binary_cross_entropy", BCE, CATALOGUE["binary_cross_entropy"].reference, _PROBABILITIES, ("mean",))
HUBER = Original("huber_loss", HuberLoss, partial(F.huber_loss, delta=0.5), _LOGS, ("mean", 0.5))

_kl = (
    KL.backward("1 dropped for the target", "dropped term", lambda g, x, t: (-g * t, g * (t.log() - x))),
    KL.backward("target a constant", "dropped term", lambda g, x, t: (-g * t, torch.zeros_like(t))),
    KL_MEAN.backward(
        "divided by the batch, as for batchmean",
        "reduction",
        lambda g, x, t: (-g / len(x) * t, g / len(x) * (t.log() + 1 - x)),
    ),
    KL_LOG.backward("t for e^t", "wrong formula", lambda g, x, t: (-g * t, g * t.exp() * (t - x + 1))),
)


def _poisson(g: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """With the correct gradient of the target."""
    return g / x.numel() * slope, -g / x.numel() * x


def _rate(g: Tensor, x: Tensor, t: Tensor, by_target: Tensor) -> tuple[Tensor, Tensor]:
    """With the correct gradient of the rate."""
    return g * (1 - t / (x + 0.01)), g * (by_target - torch.log(x + 0.01))


_poisson_nll = (
    POISSON.backward("gradient of the rate", "wrong formula", lambda g, x, t: _poisson(g, x, 1 - t / (x.exp() + 1e-8))),
    POISSON_RATE.backward("no derivative of Stirling's term", "dropped term", lambda g, x, t: _rate(g, x, t, 0 * t)),
    POISSON_RATE.backward(
        "Stirling's term for t < 1", "wrong formula", lambda g, x, t: _rate(g, x, t, t.log() + 0.5 / t)
    ),
    POISSON_RATE.backward(
        "ε forgotten",
        "epsilon",
        lambda g, x, t: (g * (1 - t / x), _rate(g, x, t, torch.where(t > 1, t.log() + 0.5 / t, 0))[1]),
    ),
)


def _gaussian(g: Tensor, d: Tensor, v: Tensor, by_var: Tensor) -> tuple[Tensor, ...]:
    return g / d.numel() * d / v, -g / d.numel() * d / v, g / d.numel() * by_var


_gaussian_nll = (
    GAUSSIAN.backward(
        "log v's term dropped", "dropped term", lambda g, x, t, v: _gaussian(g, x - t, v, -(((x - t) / v) ** 2) / 2)
    ),
    GAUSSIAN.backward(
        "gradient of σ for that of σ²",
        "wrong formula",
        lambda g, x, t, v: _gaussian(g, x - t, v, 1 / v.sqrt() - (x - t) ** 2 / v / v.sqrt()),
    ),
)


def _binary(g: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    return g / x.numel() * slope, g / x.numel() * torch.log(1 / x - 1)


_binary_cross_entropy = (
    BINARY.backward("gradient of the logit", "wrong formula", lambda g, x, t: _binary(g, x, x - t)),
    BINARY.backward(
        "ε = 10⁻⁴ in the denominator", "epsilon", lambda g, x, t: _binary(g, x, (x - t) / (x * (1 - x) + 1e-4))
    ),
    BINARY.backward("x − 1 for 1 − x", "sign", lambda g, x, t: _binary(g, x, -t / x - (1 - t) / (1 - x))),
)


def _huber(g: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    return g / slope.numel() * slope, -g / slope.numel() * slope


_huber_loss = (
    HUBER.backward(
        "slope 1 for δ", "factor", lambda g, x, t: _huber(g, torch.where((x - t).abs() < 0.5, x - t, (x - t).sign()))
    ),
)

BUGS = (*_kl, *_poisson_nll, *_gaussian_nll, *_binary_cross_entropy, *_huber_loss)
ORIGINALS = (KL, KL_MEAN, KL_LOG, POISSON, POISSON_RATE, GAUSSIAN, BINARY, HUBER)
