"""Classification losses: cross-entropy and the negative log-likelihood.

The Functions take one example per row: an input (N, C, d₁, …) is flattened to (M, C). They return the losses l of the
examples, (M,), and gᵢ = ∂C/∂lᵢ. `ReduceLosses` then handles ignored examples and the reduction: for the mean over
N examples gᵢ = g / N.

The functions have the signatures of torch.nn.functional. `input` is (N, C), (C,) or (N, C, d₁, …), floating point.
`target` holds class indices, int64 or uint8, (N,), () or (N, d₁, …); examples whose target is `ignore_index` do not
count. `weight`, (C,), holds a factor for each class. `reduction` is 'none' (losses in the shape of `target`), 'sum', or
'mean', which divides by the sum of the examples' weights. size_average and reduce are deprecated. Under autocast they
compute in float32.

TypeError if an argument is not a Tensor, NotImplementedError if `input` is not floating point, ValueError or
RuntimeError if shapes, dtypes or options do not match, IndexError if a class index is out of range (on CUDA the kernel
fails instead).
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional import arithmetic
from bp_torch.functional.elementwise import reduce
from bp_torch.functional.function import Function, save
from bp_torch.functional.indexing import cat
from bp_torch.functional.losses import apply_reduction
from bp_torch.functional.precision import autocast_to_float32, in_float32, promote_types
from bp_torch.functional.shape import flatten, movedim, reshape, unsqueeze
from bp_torch.functional.softmax import log_probabilities
from bp_torch.functional.validation import (
    require_class_target,
    require_class_weight,
    require_floating,
    require_indices_in_range,
    require_tensor,
    resolve_reduction,
)

__all__ = ["cross_entropy", "nll_loss"]


class CrossEntropy(Function):
    """lᵢ = −log pᵢ_t, where p = softmax(x) and t is the class of example i.

    log p_t = x_t − log Σⱼ e^(xⱼ), so ∂l/∂x_c = e^(x_c) / Σⱼ e^(xⱼ) − [c = t] = p_c − [c = t]:

        ∂C/∂xᵢ = gᵢ (pᵢ − onehot(tᵢ))     for the mean over N examples and g = 1: (softmax − onehot) / N

    `backward` recomputes p from the saved input: a saved p would be a constant in the second derivative.

    For p = (1/4, 3/4) and t = 0 the gradient is (1/4 − 1, 3/4):

    >>> x = torch.tensor([[1.0, 3.0]]).log().requires_grad_()
    >>> torch.autograd.grad(cross_entropy(x, torch.tensor([0])), x)
    (tensor([[-0.7500,  0.7500]]),)
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor) -> Tensor:
        return -log_probabilities(input, 1).gather(1, target.unsqueeze(1)).squeeze(1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output.unsqueeze(1) * CrossEntropy.derivative(*ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return (CrossEntropy.derivative(*ctx.saved_tensors) * tangent).sum(1)

    @staticmethod
    def derivative(input: Tensor, target: Tensor) -> Tensor:
        """∂l/∂x = p − onehot(t), (M, C). For class t, expm1(log p) keeps the digits that p − 1 loses near p = 1."""
        log_p, index = log_probabilities(input, 1), target.unsqueeze(1)  # (M, C), (M, 1)
        return torch.exp(log_p).scatter(1, index, torch.expm1(log_p.gather(1, index)))


class SoftCrossEntropy(Function):
    """lᵢ = −Σ_c tᵢ_c log pᵢ_c, where p = softmax(x) and t is a distribution over the classes; 0 log 0 = 0.

    ∂(log p_c)/∂x_d = [c = d] − p_d, so ∂l/∂x_d = −t_d + p_d Σ_c t_c:

        ∂C/∂xᵢ = gᵢ (pᵢ Σ_c tᵢ_c − tᵢ)     if tᵢ sums to 1: gᵢ (pᵢ − tᵢ)
        ∂C/∂tᵢ = −gᵢ log pᵢ

    For p = (1/4, 3/4) and t = (1/2, 1/2) the gradient is p − t = (−1/4, 1/4):

    >>> x = torch.tensor([[1.0, 3.0]]).log().requires_grad_()
    >>> torch.autograd.grad(cross_entropy(x, torch.tensor([[0.5, 0.5]])), x)
    (tensor([[-0.2500,  0.2500]]),)
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor) -> Tensor:
        return -torch.where(target == 0, 0, target * log_probabilities(input, 1)).sum(1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None]:
        input, target = ctx.saved_tensors
        log_p, g = log_probabilities(input, 1), grad_output.unsqueeze(1)  # (M, C), (M, 1)
        grad_input = g * (torch.exp(log_p) * target.sum(1, keepdim=True) - target)
        return grad_input, -g * log_p if ctx.needs_input_grad[1] else None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor) -> Tensor:
        input, target = ctx.saved_tensors
        log_p = log_probabilities(input, 1)
        input_term = (torch.exp(log_p) * target.sum(1, keepdim=True) - target) * input_tangent
        target_term = torch.where(target_tangent == 0, 0, -log_p * target_tangent)  # 0 log 0 = 0
        return (input_term + target_term).sum(1)


class NLLLoss(Function):
    """lᵢ = −xᵢ_t, where x holds log-probabilities and t is the class of example i.

    ∂C/∂xᵢ_c = −gᵢ where c = t, otherwise 0

    >>> x = torch.tensor([[-0.3, -1.6]], requires_grad=True)
    >>> torch.autograd.grad(nll_loss(x, torch.tensor([1])), x)
    (tensor([[ 0., -1.]]),)
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor) -> Tensor:
        return -input.gather(1, target.unsqueeze(1)).squeeze(1)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        input, target = ctx.saved_tensors
        return torch.zeros_like(input).scatter(1, target.unsqueeze(1), -grad_output.unsqueeze(1)), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return NLLLoss.forward(tangent, ctx.saved_tensors[1])  # the map is linear


class ReduceLosses(Function):
    """C = Σᵢ lᵢ / total over the examples that are not ignored.

        ∂C/∂lᵢ = g / total, or 0 if i is ignored, even if lᵢ is NaN or infinite

    For the reductions 'sum' and 'none' the division is absent. If all examples are ignored, the mean is 0/0 = NaN and
    all gradients are 0.

    Two of three examples count, so each of them gets g / 2:

    >>> losses = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    >>> mean = ReduceLosses.call(losses, torch.tensor([False, True, False]), torch.tensor(2), "mean")
    >>> mean.item(), torch.autograd.grad(mean, losses)
    (3.5, (tensor([0.5000, 0.0000, 0.5000]),))
    """

    @staticmethod
    def forward(losses: Tensor, ignored: Tensor, total: Tensor, reduction: str) -> Tensor:
        counted = losses.masked_fill(ignored, 0)
        return counted.sum() / total if reduction == "mean" else reduce(counted, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, str], output: Tensor) -> None:
        _losses, ignored, total, ctx.reduction = inputs
        save(ctx, ignored, total)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        ignored, total = ctx.saved_tensors
        grad_losses = grad_output / total if ctx.reduction == "mean" else grad_output
        return torch.where(ignored, 0, grad_losses), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        ignored, total = ctx.saved_tensors
        return ReduceLosses.forward(tangent, ignored, total, ctx.reduction)  # the map is linear


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of the target classes; `input` holds log-probabilities. See `NLLLoss`."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating("nll_loss", input=input)
    return _class_index_loss("nll_loss", NLLLoss, input, target, weight, ignore_index, reduction)


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
    """Cross-entropy of softmax(input) against classes or probabilities. See `CrossEntropy`, `SoftCrossEntropy`.

    A target of the shape of `input` holds probabilities; the mean then divides by the number of examples.
    `label_smoothing`, in [0, 1], is the part of the target that is spread evenly over all classes.
    """
    reduction = resolve_reduction(reduction, size_average, reduce)
    require_floating("cross_entropy", input=input)
    require_tensor("cross_entropy", target=target)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"cross_entropy(): label_smoothing must be between 0.0 and 1.0, got {label_smoothing}")
    options = weight, ignore_index, reduction, label_smoothing
    if input.shape == target.shape:
        return _class_probability_loss(input, target, *options)
    return _class_index_loss("cross_entropy", CrossEntropy, input, target, *options)


def _as_rows(input: Tensor) -> Tensor:
    """Flatten (N, C, d₁, …) or (C,) to rows (M, C)."""
    if input.dim() == 2:
        return input
    return unsqueeze(input, 0) if input.dim() == 1 else flatten(movedim(input, 1, -1), 0, -2)


def _class_index_loss(
    name: str,
    function: type[Function],
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Compute the losses for class indices, and reduce them over the examples that are not ignored."""
    input, weight = autocast_to_float32(input, weight)
    require_class_target(name, input, target, weight)
    rows, classes = _as_rows(input), target.reshape(-1).long()
    require_indices_in_range(classes, rows.shape[1], ignore_index)
    if not rows.shape[1]:  # every target is ignored; add a class so that gather works
        rows = cat((rows, rows.new_zeros(len(rows), 1)), 1)
        weight = None if weight is None else weight.new_zeros(1)
    ignored = classes == ignore_index
    classes = classes.masked_fill(ignored, 0)

    def cost(rows: Tensor, weight: Tensor | None) -> Tensor:
        example_weight = ~ignored if weight is None else weight[classes].masked_fill(ignored, 0)
        losses = _example_losses(function, rows, classes, weight, label_smoothing)
        return ReduceLosses.call(losses, ignored, example_weight.sum(), reduction)

    output = in_float32(cost, rows, weight)
    return output if reduction != "none" or output.shape == target.shape else reshape(output, target.shape)


def _example_losses(
    function: type[Function], rows: Tensor, classes: Tensor, weight: Tensor | None, label_smoothing: float
) -> Tensor:
    """The weighted loss of each example. With label smoothing each class weighs its own part of the target."""
    if label_smoothing:
        uniform = label_smoothing / rows.shape[1]
        target = torch.full_like(rows, uniform).scatter(1, classes.unsqueeze(1), 1 - label_smoothing + uniform)
        return SoftCrossEntropy.call(rows, target if weight is None else target * weight)
    losses = function.call(rows, classes)
    return losses if weight is None else arithmetic.mul(losses, weight[classes])


def _class_probability_loss(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    if not target.is_floating_point():
        raise RuntimeError(
            f"cross_entropy(): target with class probabilities must be floating point, not {target.dtype}"
        )
    if ignore_index >= 0:
        raise RuntimeError("cross_entropy(): ignore_index is not supported for a target of probabilities")
    rows, target = promote_types(*autocast_to_float32(_as_rows(input), _as_rows(target)))
    require_class_weight("cross_entropy", weight, rows.shape[1])
    if label_smoothing:
        uniform = label_smoothing / max(rows.shape[1], 1)
        target = arithmetic.add(arithmetic.mul(target, 1 - label_smoothing), uniform)
    if weight is not None:
        target = arithmetic.mul(target, weight)
    output = in_float32(lambda x, t: apply_reduction(SoftCrossEntropy.call(x, t), reduction), rows, target)
    shape = input.shape[:1] * (input.dim() > 1) + input.shape[2:]
    return output if reduction != "none" or output.shape == shape else reshape(output, shape)
