"""The cost of choosing one class out of C where the target is a distribution: cross-entropy of probabilities."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.softmax import log_probabilities


class SoftCrossEntropy(Function):
    """lᵢ = −Σ_c tᵢ_c log pᵢ_c, with p = softmax(x) and t a distribution over the classes; 0 log 0 counts as 0.

    ∂(log p_c)/∂x_d = [c = d] − p_d, so ∂l/∂x_d = −t_d + p_d Σ_c t_c:

        ∂C/∂xᵢ = gᵢ (pᵢ Σ_c tᵢ_c − tᵢ)     gᵢ (p − t) where t sums to 1
        ∂C/∂tᵢ = −gᵢ log pᵢ

    With p = (1/4, 3/4) and t = (1/2, 1/2) the gradient is p − t = (−1/4, 1/4):

    >>> from bp_torch.functional import cross_entropy
    >>> x = torch.tensor([[1.0, 3.0]]).log().requires_grad_()
    >>> torch.autograd.grad(cross_entropy(x, torch.tensor([[0.5, 0.5]])), x)
    (tensor([[-0.2500,  0.2500]]),)
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor) -> Tensor:
        return -torch.where(target == 0, 0, target * log_probabilities(input, 1)).sum(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        save(ctx, *inputs)

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
        by_input = (torch.exp(log_p) * target.sum(1, keepdim=True) - target) * input_tangent
        by_target = torch.where(target_tangent == 0, 0, -log_p * target_tangent)  # 0 log 0 = 0 here too
        return (by_input + by_target).sum(1)


def smoothed_cross_entropy(label_smoothing: float, rows: Tensor, classes: Tensor, weight: Tensor | None) -> Tensor:
    """The losses where 1 − ε of each target is its class and ε is spread over all C; class weights multiply both."""
    even = label_smoothing / rows.shape[1]
    target = torch.full(rows.shape, even, dtype=rows.dtype, device=rows.device)
    target = target.scatter(1, classes.unsqueeze(1), 1 - label_smoothing + even)
    return SoftCrossEntropy.call(rows, target if weight is None else target * weight)
