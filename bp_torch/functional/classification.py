"""Costs of choosing one class out of C: the negative log-likelihood and cross-entropy.

Inside, examples are rows, (M, C): any further dimensions of the input, (N, C, d₁, …), are folded into M. An example
i has a weight sᵢ, the weight of its class, or 0 where its target is to be ignored. 'mean' divides by Σ sᵢ: by the
number of examples, where there are no class weights and nothing is ignored.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.example_weights import example_weights, reduced, shares
from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import autocast_to_float32, promoted, rounded_once
from bp_torch.functional.soft_targets import SoftCrossEntropy
from bp_torch.functional.softmax import log_probabilities
from bp_torch.functional.validation import require_class_indices, require_floating, require_tensor, resolve_reduction

__all__ = ["cross_entropy", "nll_loss"]


class NLLLoss(Function):
    """lᵢ = −sᵢ xᵢ_t, where t is example i's class and x its log-probabilities.

    ∂C/∂xᵢ_c = −gᵢ sᵢ where c = t, otherwise 0; 'mean' makes gᵢ = g / Σ s.
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
        index, scale, counted = example_weights(target, weight, ignore_index, input)
        losses = -input.gather(1, index).squeeze(1) * scale
        return reduced(torch.where(counted, losses, 0), scale, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int, str], output: Tensor) -> None:
        input, target, weight, ctx.ignore_index, ctx.reduction = inputs
        save(ctx, input, target, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        input, target, weight = ctx.saved_tensors
        index, scale, _counted = example_weights(target, weight, ctx.ignore_index, input)
        wishes = -shares(grad_output, scale, ctx.reduction)  # (M, 1)
        return torch.zeros_like(input).scatter(1, index, wishes), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        input, target, weight = ctx.saved_tensors
        index, scale, _counted = example_weights(target, weight, ctx.ignore_index, input)
        return reduced(-tangent.gather(1, index).squeeze(1) * scale, scale, ctx.reduction)


class CrossEntropy(Function):
    """lᵢ = −sᵢ log pᵢ_t, with p = softmax(x) and t example i's class.

    ∂C/∂xᵢ = gᵢ sᵢ (pᵢ − onehot(t)). For the mean over N examples that is the well-known (softmax − target) / N.

    The probabilities are computed again in `backward`: kept, they would break the second derivative.
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
        index, scale, counted = example_weights(target, weight, ignore_index, input)
        losses = -log_probabilities(input, 1).gather(1, index).squeeze(1) * scale
        return reduced(torch.where(counted, losses, 0), scale, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int, str], output: Tensor) -> None:
        input, target, weight, ctx.ignore_index, ctx.reduction = inputs
        save(ctx, input, target, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        input, target, weight = ctx.saved_tensors
        index, scale, _counted = example_weights(target, weight, ctx.ignore_index, input)
        slope = _softmax_minus_onehot(input, index)
        return shares(grad_output, scale, ctx.reduction) * slope, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        input, target, weight = ctx.saved_tensors
        index, scale, _counted = example_weights(target, weight, ctx.ignore_index, input)
        slope = _softmax_minus_onehot(input, index)
        return reduced((slope * tangent).sum(1) * scale, scale, ctx.reduction)


def _softmax_minus_onehot(input: Tensor, index: Tensor) -> Tensor:
    """e^(log p), and for the right class e^(log p) − 1 by expm1: near p = 1 the difference would be half noise."""
    log_p = log_probabilities(input, 1)
    return torch.exp(log_p).scatter(1, index, torch.expm1(log_p.gather(1, index)))


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the right class; see `NLLLoss` for the equations.

    Args:
        input: log-probabilities, (N, C), (C,) or (N, C, d₁, …).
        target: class indices, int64 or uint8, (N,), () or (N, d₁, …).
        weight: a factor for each class, (C,).
        size_average: deprecated, as in torch.
        ignore_index: a target that counts nothing.
        reduce: deprecated, as in torch.
        reduction: 'none', 'sum', or 'mean', divided by the sum of the examples' weights.

    Returns:
        A scalar, or each loss in target's shape for 'none' (float32 under autocast).

    Raises:
        TypeError, NotImplementedError: if an argument is not a Tensor, or `input` not floating point.
        ValueError, RuntimeError: if shapes, dtypes or `reduction` do not fit.
        IndexError: if a target is no class (seen on a CPU; on CUDA the kernel stops).

    Source:
        torch.nn.functional.nll_loss.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating("nll_loss", input=input)
    input, weight = _autocast("nll_loss", input, weight)
    _require_indices_fitting("nll_loss", input, target, weight)
    return _of_indices(NLLLoss, input, target, weight, ignore_index, reduction)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax(input) against a class or a distribution; see `CrossEntropy`, `SoftCrossEntropy`.

    Args:
        input: logits, (N, C), (C,) or (N, C, d₁, …).
        target: class indices, int64 or uint8, (N,), () or (N, d₁, …); or probabilities in input's shape.
        weight: a factor for each class, (C,).
        size_average: deprecated, as in torch.
        ignore_index: a class index that counts nothing.
        reduce: deprecated, as in torch.
        reduction: 'none', 'sum', or 'mean': divided by the sum of the examples' weights for class indices, by the
            number of examples for probabilities.
        label_smoothing: how much of the target is spread evenly over all classes, in [0, 1].

    Returns:
        A scalar, or each loss for 'none' (float32 under autocast).

    Raises:
        TypeError, NotImplementedError: if an argument is not a Tensor, or `input` not floating point.
        ValueError, RuntimeError: if shapes, dtypes, `reduction` or `label_smoothing` do not fit.
        IndexError: if a target is no class (seen on a CPU; on CUDA the kernel stops).

    Source:
        torch.nn.functional.cross_entropy.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating("cross_entropy", input=input)
    require_tensor("cross_entropy", target=target)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"cross_entropy(): label_smoothing must be between 0.0 and 1.0, got {label_smoothing}")
    input, weight = _autocast("cross_entropy", input, weight)
    if input.shape == target.shape:
        return _of_probabilities(input, target, weight, ignore_index, reduction, label_smoothing)
    _require_indices_fitting("cross_entropy", input, target, weight)
    if label_smoothing:
        return _of_smoothed_indices(input, target, weight, ignore_index, reduction, label_smoothing)
    return _of_indices(CrossEntropy, input, target, weight, ignore_index, reduction)


def _autocast(name: str, input: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if weight is None:
        return autocast_to_float32(input)[0], None
    require_tensor(name, weight=weight)
    return autocast_to_float32(input)[0], autocast_to_float32(weight)[0]


def _as_rows(input: Tensor) -> Tensor:
    """(N, C, d₁, …) or (C,) as rows (M, C)."""
    if input.dim() == 2:
        return input
    return input.unsqueeze(0) if input.dim() == 1 else input.movedim(1, -1).flatten(0, -2)


def _of_indices(
    function: type[Function], input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    rows, classes = _as_rows(input), target.reshape(-1).long()
    require_class_indices(classes, rows.shape[1], ignore_index)
    rows, weight = _with_some_class(rows, weight)
    losses = rounded_once(function.call, rows, classes, weight, ignore_index, reduction)
    return losses.reshape(target.shape) if reduction == "none" else losses


def _with_some_class(rows: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Where there are no classes at all, and so every target is ignored, one that nobody chooses: to gather from."""
    if rows.shape[1]:
        return rows, weight
    return torch.nn.functional.pad(rows, (0, 1)), weight if weight is None else weight.new_zeros(1)


def _of_smoothed_indices(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    """Of the target, 1 − ε stays with its class and ε is spread over all C; class weights multiply both."""
    rows, classes = _as_rows(input), target.reshape(-1).long()
    require_class_indices(classes, rows.shape[1], ignore_index)
    rows, weight = _with_some_class(rows, weight)
    index, scale, counted = example_weights(classes, weight, ignore_index, rows)
    even = torch.ones_like(rows) if weight is None else weight.expand_as(rows)
    spread = label_smoothing / rows.shape[1] * even * counted.unsqueeze(1)
    wanted = spread.scatter_add(1, index, (1 - label_smoothing) * scale.unsqueeze(1))
    losses = rounded_once(SoftCrossEntropy.call, rows, wanted, scale, reduction)
    return losses.reshape(target.shape) if reduction == "none" else losses


def _of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    if not target.is_floating_point():
        raise RuntimeError(
            f"cross_entropy(): target with class probabilities must be floating point, not {target.dtype}"
        )
    if ignore_index >= 0:
        raise RuntimeError("cross_entropy(): ignore_index is not supported for a target of probabilities")
    _require_weight_fitting("cross_entropy", weight, _as_rows(input))
    rows, wanted = promoted(_as_rows(input), *autocast_to_float32(_as_rows(target)))
    if label_smoothing:
        wanted = wanted * (1 - label_smoothing) + label_smoothing / max(rows.shape[1], 1)
    wanted, each = wanted if weight is None else wanted * weight, rows.new_ones(rows.shape[0])
    losses = rounded_once(SoftCrossEntropy.call, rows, wanted, each, reduction)
    return (
        losses.reshape(input.shape[:1] + input.shape[2:] if input.dim() > 1 else ()) if reduction == "none" else losses
    )


def _require_indices_fitting(name: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    require_tensor(name, target=target)
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"{name}(): target must be of class indices, int64 or uint8, not {target.dtype}")
    if input.dim() == 0:
        raise RuntimeError(f"{name}(): input must be (C,), (N, C) or (N, C, ...), not a scalar")
    if input.dim() > 1 and target.shape[:1] != input.shape[:1]:
        raise ValueError(
            f"{name}(): Expected input batch_size ({input.shape[0]}) to match target batch_size {tuple(target.shape)}"
        )
    if target.shape != input.shape[:1] * (input.dim() > 1) + input.shape[2:]:
        raise RuntimeError(f"{name}(): size mismatch: input {tuple(input.shape)}, target {tuple(target.shape)}")
    _require_weight_fitting(name, weight, input.movedim(1, -1) if input.dim() > 1 else input)
    if weight is not None and weight.dtype != input.dtype:
        raise RuntimeError(f"{name}(): weight is {weight.dtype} but input is {input.dtype}; give both the same dtype")
    if weight is not None and weight.requires_grad and torch.is_grad_enabled():
        raise RuntimeError(f"{name}(): not differentiable with respect to 'weight'; it must not require a gradient")


def _require_weight_fitting(name: str, weight: Tensor | None, rows: Tensor) -> None:
    if weight is not None and weight.shape != rows.shape[-1:]:
        raise RuntimeError(
            f"{name}(): weight {tuple(weight.shape)} must hold one factor for each of {rows.shape[-1]} classes"
        )
