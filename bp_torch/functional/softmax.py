"""Softmax and its logarithm: outputs that compete along one dimension.

`probabilities` and `log_probabilities` are the stable formulas; `cross_entropy` builds on them too.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import cuda_autocast_to_float32, rounded_once
from bp_torch.functional.validation import require_floating, require_tensor, resolve_softmax_dim

__all__ = ["log_softmax", "softmax"]


def probabilities(input: Tensor, dim: int) -> Tensor:
    """e^(xᵢ − m) / Σⱼ e^(xⱼ − m), with m = max x: the same for any m, and for this one no exponential overflows."""
    if input.numel() == 0:
        return input.clone()  # an empty dimension has no maximum
    exponentials = torch.exp(input - input.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim, keepdim=True)


def log_probabilities(input: Tensor, dim: int) -> Tensor:
    """xᵢ − m − log Σⱼ e^(xⱼ − m), with m = max x, so that the largest term of the sum is exactly 1.

    log1p of the *other* terms keeps what 1 + others would round away: near certainty, that is all there is.
    """
    if input.numel() == 0:
        return input.clone()
    place = input.argmax(dim, keepdim=True)
    largest = input.gather(dim, place)
    shifted = input - largest
    others = torch.exp(shifted).scatter(dim, place, largest - largest)  # its 1 becomes 0, or NaN if it is infinite
    return shifted - torch.log1p(others.sum(dim, keepdim=True))


class Softmax(Function):
    """yᵢ = e^(xᵢ) / Σⱼ e^(xⱼ) along a dimension.

    ∂C/∂xᵢ = yᵢ (gᵢ − Σⱼ gⱼ yⱼ): what counts is how far a wish exceeds the average wish.
    """

    @staticmethod
    def forward(input: Tensor, dim: int) -> Tensor:
        return probabilities(input, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.dim = inputs[1]
        save(ctx, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        average = (grad_output * output).sum(ctx.dim, keepdim=True)
        return output * (grad_output - average), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (output,) = ctx.saved_tensors
        average = (tangent * output).sum(ctx.dim, keepdim=True)  # the Jacobian is symmetric
        return output * (tangent - average)


class LogSoftmax(Function):
    """yᵢ = xᵢ − log Σⱼ e^(xⱼ) along a dimension.

    ∂C/∂xᵢ = gᵢ − e^(yᵢ) Σⱼ gⱼ, where e^y is the softmax.
    """

    @staticmethod
    def forward(input: Tensor, dim: int) -> Tensor:
        return log_probabilities(input, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.dim = inputs[1]
        save(ctx, output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        return grad_output - torch.exp(output) * grad_output.sum(ctx.dim, keepdim=True), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (output,) = ctx.saved_tensors
        return tangent - (torch.exp(output) * tangent).sum(ctx.dim, keepdim=True)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
    """Probabilities along a dimension; see `Softmax` for the equations.

    Args:
        input: any shape, floating point (or made so by `dtype`).
        dim: the dimension that sums to 1.
        dtype: convert the input to it first.

    Returns:
        The same shape (float32 under CUDA's autocast).

    Raises:
        TypeError: if `input` is not a Tensor; NotImplementedError if it is not floating point.
        IndexError: if there is no such dimension.

    Source:
        torch.nn.functional.softmax.
    """
    return _along_dim("softmax", Softmax, input, dim, _stacklevel, dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """Logarithms of the softmax, without taking the logarithm of a number near 0; see `LogSoftmax`.

    Args:
        input: any shape, floating point (or made so by `dtype`).
        dim: the dimension whose exponentials sum to 1.
        dtype: convert the input to it first.

    Returns:
        The same shape (float32 under CUDA's autocast).

    Raises:
        TypeError: if `input` is not a Tensor; NotImplementedError if it is not floating point.
        IndexError: if there is no such dimension.

    Source:
        torch.nn.functional.log_softmax.
    """
    return _along_dim("log_softmax", LogSoftmax, input, dim, _stacklevel, dtype)


def _along_dim(
    name: str, function: type[Function], input: Tensor, dim: int | None, stacklevel: int, dtype: torch.dtype | None
) -> Tensor:
    require_tensor(name, input=input)
    dim = resolve_softmax_dim(name, dim, input.dim(), stacklevel)
    input = cuda_autocast_to_float32(input) if dtype is None else input.to(dtype)
    require_floating(name, input=input)
    return rounded_once(function.call, input, dim)
