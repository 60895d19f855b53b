"""The cost of choosing one class out of C where the target is a distribution: cross-entropy of probabilities."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.example_weights import divided, reduced
from bp_torch.functional.function import Function, save
from bp_torch.functional.softmax import log_probabilities


class SoftCrossEntropy(Function):
    """lᵢ = −Σ_c tᵢ_c log pᵢ_c, with p = softmax(x) and t what is wanted of each class; 0 log 0 counts as 0.

    ∂C/∂xᵢ = gᵢ (pᵢ Σ_c tᵢ_c − tᵢ), which is gᵢ (p − t) where t sums to 1
    ∂C/∂tᵢ = −gᵢ log pᵢ

    'mean' divides by Σ s and makes gᵢ = g / Σ s; the targets hold whatever else examples and classes weigh.
    """

    @staticmethod
    def forward(input: Tensor, target: Tensor, scale: Tensor, reduction: str) -> Tensor:
        losses = -torch.where(target == 0, 0, target * log_probabilities(input, 1)).sum(1)
        return reduced(losses, scale, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, str], output: Tensor) -> None:
        input, target, scale, ctx.reduction = inputs
        save(ctx, input, target, scale)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        input, target, scale = ctx.saved_tensors
        share = divided(grad_output, scale, ctx.reduction).reshape(-1, 1)  # (M, 1), or (1, 1): alike for all
        log_p = log_probabilities(input, 1)
        grad_input = share * (torch.exp(log_p) * target.sum(1, keepdim=True) - target)
        return grad_input, -share * log_p if ctx.needs_input_grad[1] else None, None, None

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, target_tangent: Tensor, *_: None) -> Tensor:
        input, target, scale = ctx.saved_tensors
        log_p = log_probabilities(input, 1)
        by_input = (torch.exp(log_p) * target.sum(1, keepdim=True) - target) * input_tangent
        by_target = torch.where(target_tangent == 0, 0, -log_p * target_tangent)  # 0 log 0 = 0 here too
        return reduced((by_input + by_target).sum(1), scale, ctx.reduction)
