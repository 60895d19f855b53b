"""Bugs of connectionist temporal classification."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue import CATALOGUE
from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.ctc import LOG_ZERO, CTCLoss, backward_variables, forward_variables, states
from bp_torch.functional.function import Function
from bp_torch.sample import Sample
from planted.bug import Bug, Original

_draw = RandomTensors(47)
_TARGETS = torch.tensor([[1, 1], [3, 2], [2, 0]])
_FRAMES, _LABELS = torch.tensor([5, 3, 4]), torch.tensor([2, 2, 1])
_LOG_PROBS = Sample((_draw(5, 3, 4),), axes="_ _ _", constraint=partial(torch.log_softmax, dim=-1))


@dataclass(frozen=True)
class _OfLogProbs(Original):
    """A Function that takes α and the states too, which are made from the log-probabilities."""

    def _as_called(self, function: type[Function]) -> Callable[..., Tensor]:
        def call(log_probs: Tensor) -> Tensor:
            classes, skips, ends = states(_TARGETS, _LABELS, 0, log_probs.dtype)
            alpha = forward_variables(log_probs.detach(), classes, skips)
            return function.call(log_probs, alpha, classes, skips, ends, _FRAMES, False)

        return call


CTC = _OfLogProbs(
    "ctc_loss",
    CTCLoss,
    lambda x: CATALOGUE["ctc_loss"].reference(x, _TARGETS, _FRAMES, _LABELS, reduction="none"),
    (_LOG_PROBS,),
)


def _by_class(x: Tensor, classes: Tensor, log_gamma: Tensor) -> Tensor:
    """γ of the classes: the sum over the states of each."""
    gamma = torch.exp(log_gamma)[1:, :, 1:]
    return torch.zeros_like(x).scatter_add(2, classes.expand(gamma.shape), gamma)


def _planted(
    name: str,
    kind: str,
    *,
    beta: Callable[..., Tensor] = backward_variables,
    gamma: Callable[..., Tensor] = _by_class,
    recomputed: bool = True,
) -> Bug:
    """A bug in β, in the sum over the states of a class, or in the recomputation of α."""

    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, classes, skips, ends, lengths = ctx.saved_tensors
        alpha = forward_variables(x, classes, skips) if recomputed else alpha
        log_p = CTCLoss.log_likelihood(alpha, ends, lengths).unsqueeze(1)
        slope = torch.exp(x) - gamma(x, classes, alpha + beta(x, classes, skips, ends, lengths) - log_p)
        within = torch.arange(len(x)).unsqueeze(1) < lengths
        return g.unsqueeze(1) * torch.where(within.unsqueeze(2), slope, 0), *[None] * 6

    return CTC.methods(name, kind, backward=backward)


def _overwritten(x: Tensor, classes: Tensor, log_gamma: Tensor) -> Tensor:
    gamma = torch.exp(log_gamma)[1:, :, 1:]
    return torch.zeros_like(x).scatter(2, classes.expand(gamma.shape), gamma)


def _emission_twice(x: Tensor, classes: Tensor, log_gamma: Tensor) -> Tensor:
    emission = F.pad(x.gather(2, classes.expand(len(x), -1, -1)), (1, 0, 0, 0, 1, 0))
    return _by_class(x, classes, log_gamma + emission)


def _only_last_blank(x: Tensor, classes: Tensor, skips: Tensor, ends: Tensor, lengths: Tensor) -> Tensor:
    last_label = torch.arange(ends.shape[1]) == 2 * _LABELS.unsqueeze(1)
    return backward_variables(x, classes, skips, ends.masked_fill(last_label, LOG_ZERO), lengths)


def _every_skip(x: Tensor, classes: Tensor, skips: Tensor, ends: Tensor, lengths: Tensor) -> Tensor:
    labels = torch.arange(skips.shape[1]) % 2 == 0  # equal ones, too
    return backward_variables(x, classes, skips.masked_fill(labels, 0), ends, lengths)


BUGS = (
    _planted("states of one class overwritten, not added", "position", gamma=_overwritten),
    _planted("emission in α and in β", "wrong formula", gamma=_emission_twice),
    _planted("no path ends in the last label", "dropped term", beta=_only_last_blank),
    _planted("blank between equal labels skipped", "wrong formula", beta=_every_skip),
    _planted("α saved by forward", "second derivative", recomputed=False),
    CTC.upstream("divided by the length of the target", lambda g: g / _LABELS, "reduction"),
)
ORIGINALS = (CTC,)
