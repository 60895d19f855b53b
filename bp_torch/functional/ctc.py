"""Connectionist temporal classification: the loss of a sequence of labels without their positions in time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.functional.arithmetic import div
from bp_torch.functional.function import Function, save, transform_active
from bp_torch.functional.losses import apply_reduction
from bp_torch.functional.precision import cpu_autocast_to_float32
from bp_torch.functional.shape import squeeze, unsqueeze
from bp_torch.functional.validation import require_floating, require_tensor, resolve_reduction

__all__ = ["ctc_loss"]

LOG_ZERO = -1e30
"""The logarithm of 0. It is finite: −∞ − (−∞) in a second derivative would be NaN."""


class CTCLoss(Function):
    """l = −log p with p = Σ_π Π_t e^(x_t(π_t)) over all alignments π that spell the target.

    An alignment gives each of T frames a class. It spells the target if merging repeated classes, then removing blanks,
    leaves the target's labels l₁ … l_L. So it is a path through the states

        start, blank, l₁, blank, l₂, …, l_L, blank

    A frame stays in its state, or advances by one, or by two unless this skips the blank of two equal labels. The path
    ends in one of the last two states. Let α_t(s) be the sum over all beginnings of t frames that end in state s, and
    β_t(s) over all ways to continue from there. With r → s for an allowed step and x_t(s) for the class of s,

        α_t(s) = e^(x_t(s)) Σ_{r → s} α_{t−1}(r)            α₀ = [s is the start]
        β_t(s) = Σ_{s → r} e^(x_{t+1}(r)) β_{t+1}(r)        β_T = [s is one of the last two]

    At time t each path is in one state, so p = Σ_s α_t(s) β_t(s) for every t. The terms of a class c contain e^(x_t(c))
    once as a factor, so ∂p/∂x_t(c) is their sum, and ∂l/∂x_t(c) = −γ_t(c) with

        γ_t(c) = 1/p Σ_s α_t(s) β_t(s)     over the states of class c: the probability of c at t, given the target

    x holds log-probabilities: it changes only with Σ_c e^(x_c) = 1. Along such changes e^x has no component, so it may
    be added. As torch does, and Graves et al. in equation 16 for the logits,

        ∂C/∂x_t(c) = g (e^(x_t(c)) − γ_t(c))

    which sums to 0 over the classes, so that the backward of log_softmax does not change it. It is 0 at frames beyond
    the length of the input. If no alignment is possible, l is ∞ and the gradient NaN, or both are 0.

    α is computed before the call, and again by the backward when that is differentiated. Everything is in logarithms.

    Two frames with p = 1/2 for the blank and for the label a spell "a" as aa, a–, –a: p = 3/4. a is the class of each
    frame in two of the three, so the gradient for a is 1/2 − 2/3:

    >>> x = torch.full((2, 2), 0.5).log().requires_grad_()
    >>> torch.autograd.grad(ctc_loss(x, torch.tensor([1]), (2,), (1,), reduction="sum"), x)
    (tensor([[ 0.1667, -0.1667],
            [ 0.1667, -0.1667]]),)
    """

    @staticmethod
    def forward(
        log_probs: Tensor,
        alpha: Tensor,
        classes: Tensor,
        skips: Tensor,
        ends: Tensor,
        lengths: Tensor,
        zero_infinity: bool,
    ) -> Tensor:
        loss = -CTCLoss.log_likelihood(alpha, ends, lengths)
        return loss.masked_fill(loss > -LOG_ZERO / 2, 0 if zero_infinity else torch.inf)

    @staticmethod
    def log_likelihood(alpha: Tensor, ends: Tensor, lengths: Tensor) -> Tensor:
        """The log-likelihood of each sequence, (N,): the sum over its last states at its last frame."""
        index = lengths.reshape(1, -1, 1).expand(1, *alpha.shape[1:])
        return (alpha.gather(0, index).squeeze(0) + ends).logsumexp(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.zero_infinity = inputs
        save(ctx, *tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return grad_output.unsqueeze(1) * CTCLoss.derivative(ctx), *[None] * 6

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return (CTCLoss.derivative(ctx) * tangent).sum((0, 2))

    @staticmethod
    def derivative(ctx: Any) -> Tensor:
        """∂l/∂x, (T, N, C)."""
        log_probs, alpha, classes, skips, ends, lengths = ctx.saved_tensors
        if torch.is_grad_enabled():
            alpha = forward_variables(log_probs, classes, skips)
        beta = backward_variables(log_probs, classes, skips, ends, lengths)
        log_p = CTCLoss.log_likelihood(alpha, ends, lengths)
        impossible = log_p < LOG_ZERO / 2
        gamma = torch.exp(alpha + beta - log_p.masked_fill(impossible, 0).unsqueeze(1))[1:, :, 1:]  # without the start
        index = classes.expand(gamma.shape)
        slope = torch.exp(log_probs) - torch.zeros_like(log_probs).scatter_add(2, index, gamma)
        slope = slope.masked_fill(impossible.unsqueeze(1), 0 if ctx.zero_infinity else torch.nan)
        frames = torch.arange(len(log_probs), device=lengths.device).unsqueeze(1)
        return torch.where((frames < lengths).unsqueeze(2), slope, 0)


def forward_variables(log_probs: Tensor, classes: Tensor, skips: Tensor) -> Tensor:
    """The logarithms of α at the times 0 … T for all states, (T + 1, N, S)."""
    alpha = F.pad(torch.zeros_like(skips[:, :1]), (0, skips.shape[1] - 1), value=LOG_ZERO)
    table = [alpha]
    for emission in emissions(log_probs, classes):
        padded = F.pad(alpha, (2, 0), value=LOG_ZERO)
        alpha = torch.logaddexp(torch.logaddexp(alpha, padded[:, 1:-1]), padded[:, :-2] + skips) + emission
        table.append(alpha)
    return torch.stack(table)


def backward_variables(log_probs: Tensor, classes: Tensor, skips: Tensor, ends: Tensor, lengths: Tensor) -> Tensor:
    """The logarithms of β at the times 0 … T for all states, (T + 1, N, S); of 0 beyond the length of a sequence."""
    times = torch.arange(len(log_probs) + 1, device=lengths.device).unsqueeze(1)
    *is_final, last = (times == lengths).unsqueeze(2).unbind()
    leaps = F.pad(skips, (0, 2), value=LOG_ZERO)[:, 2:]  # whether a step of two may leave a state
    beta = torch.where(last, ends, LOG_ZERO)
    table = [beta]
    for final, emission in zip(reversed(is_final), reversed(emissions(log_probs, classes)), strict=True):
        after = beta + emission
        padded = F.pad(after, (0, 2), value=LOG_ZERO)
        beta = torch.logaddexp(torch.logaddexp(after, padded[:, 1:-1]), padded[:, 2:] + leaps)
        beta = torch.where(final, ends, beta)
        table.append(beta)
    return torch.stack(table[::-1])


def emissions(log_probs: Tensor, classes: Tensor) -> Sequence[Tensor]:
    """x_t of the class of each state, (N, S) for each frame; no frame is in the start."""
    table = log_probs.gather(2, classes.expand(len(log_probs), -1, -1))
    return F.pad(table, (1, 0), value=LOG_ZERO).clamp_min(LOG_ZERO).unbind()


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Negative log-likelihood of label sequences, summed over their alignments. See `CTCLoss`; Graves et al. (2006).

    The mean divides each loss by the length of its target, at least 1, then averages. `zero_infinity` replaces the
    infinite loss of an impossible alignment, and its gradient, by 0.

    Args:
        log_probs: (T, N, C) or (T, C), logarithms of the classes' probabilities, float32 or float64.
        targets: class indices, (N, S) padded or (sum of the lengths,) concatenated.
        input_lengths: (N,), the number of frames of each sequence.
        target_lengths: (N,), the number of labels of each sequence.
        blank: the class of the blank.
        reduction: 'none', 'sum' or 'mean'.
        zero_infinity: see above.

    TypeError, NotImplementedError or RuntimeError if an argument has the wrong type, dtype or shape, or if a length or
    `blank` is out of range.
    """
    reduction = resolve_reduction(reduction)
    require_floating("ctc_loss", log_probs=log_probs)
    require_tensor("ctc_loss", targets=targets)
    log_probs, batched = cpu_autocast_to_float32(log_probs), log_probs.dim() == 3
    if log_probs.dtype not in (torch.float32, torch.float64):
        raise NotImplementedError(f"ctc_loss(): log_probs must be float32 or float64, not {log_probs.dtype}")
    log_probs = log_probs if batched else unsqueeze(log_probs, 1)
    frames, labels = (
        _as_lengths(name, lengths, log_probs)
        for name, lengths in {"input_lengths": input_lengths, "target_lengths": target_lengths}.items()
    )
    _require_shapes(log_probs, targets, frames, labels, blank)
    classes, skips, ends = states(targets.to(log_probs.device, torch.int64), labels, blank, log_probs.dtype)
    alpha = forward_variables(log_probs.detach(), classes, skips)
    losses = CTCLoss.call(log_probs, alpha, classes, skips, ends, frames, zero_infinity)
    if reduction == "mean":
        losses = div(losses, labels.clamp_min(1))
    return apply_reduction(losses if batched else squeeze(losses, 0), reduction)


def _as_lengths(name: str, lengths: Tensor | Sequence[int], log_probs: Tensor) -> Tensor:
    """One length for each sequence, (N,)."""
    if not isinstance(lengths, Tensor | list | tuple):
        raise TypeError(f"ctc_loss(): {name} must be a Tensor or a tuple of integers, not {type(lengths).__name__}")
    lengths = torch.as_tensor(lengths, device=log_probs.device)
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise RuntimeError(f"ctc_loss(): {name} must be integers, not {lengths.dtype}")
    return lengths.reshape(-1).long()


def states(targets: Tensor, lengths: Tensor, blank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The classes of the states, the start left out, (N, S − 1), and which states a skip and a path may end in, (N, S).

    The last two are logarithms: 0 or `LOG_ZERO`.
    """
    longest = int(lengths.max()) if targets.dim() == 1 else targets.shape[1]
    position = torch.arange(longest, device=targets.device)
    if targets.dim() == 1:
        first = lengths.cumsum(0) - lengths
        targets = targets[(first.unsqueeze(1) + position).clamp_max(len(targets) - 1)]  # (N, longest)
    labels = torch.where(position < lengths.unsqueeze(1), targets, blank)
    classes = F.pad(torch.stack((torch.full_like(labels, blank), labels), 2).flatten(1), (0, 1), value=blank)
    with_start = F.pad(classes, (1, 0), value=-1)
    skippable = F.pad(with_start[:, 2:] != with_start[:, :-2], (2, 0))
    index = torch.arange(with_start.shape[1], device=targets.device)
    final = index // 2 == lengths.unsqueeze(1)  # 2 L and 2 L + 1
    zeros = torch.zeros(with_start.shape, dtype=dtype, device=targets.device)
    return classes, zeros.masked_fill(~skippable, LOG_ZERO), zeros.masked_fill(~final, LOG_ZERO)


def _require_shapes(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> None:
    """Raise RuntimeError, as torch does, unless shapes and lengths match."""
    if log_probs.dim() != 3 or log_probs.numel() == 0:
        raise RuntimeError(f"ctc_loss(): log_probs {tuple(log_probs.shape)} must be (T, N, C) or (T, C) and not empty")
    frames, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"ctc_loss(): blank must be a class in [0, {classes}), got {blank}")
    if not len(input_lengths) == len(target_lengths) == batch:
        raise RuntimeError(
            f"ctc_loss(): input_lengths ({len(input_lengths)}) and target_lengths ({len(target_lengths)}) must hold a "
            f"length for each of {batch} sequences"
        )
    if targets.dim() not in (1, 2) or (targets.dim() == 2 and len(targets) != batch):
        raise RuntimeError(f"ctc_loss(): targets {tuple(targets.shape)} must be ({batch}, S) or concatenated")
    if torch.compiler.is_compiling() or transform_active():
        return  # which cannot read the lengths
    inputs, labels = input_lengths.tolist(), target_lengths.tolist()
    if not 0 <= min(inputs) <= max(inputs) <= frames:
        raise RuntimeError(f"ctc_loss(): input_lengths must be in [0, {frames}], got {inputs}")
    if min(labels) < 0 or (max(labels) > targets.shape[1] if targets.dim() == 2 else sum(labels) != len(targets)):
        raise RuntimeError(f"ctc_loss(): target_lengths {labels} do not match targets {tuple(targets.shape)}")
