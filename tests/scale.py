"""A custom Function with a parameter, and without `accumulate`."""

from typing import Any

from torch import Tensor

from bp_torch.functional.function import Function


class Scale(Function):
    """y = x w."""

    @staticmethod
    def forward(input: Tensor, weight: Tensor) -> Tensor:
        return input * weight

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None]:
        input, weight = ctx.saved_tensors
        return grad_output * weight, (grad_output * input).sum(0) if ctx.needs_input_grad[1] else None
