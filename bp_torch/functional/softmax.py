"""Softmax, softmin and the logarithm of the softmax along one dimension.

`probabilities` and `log_probabilities` are the stable formulas, which `cross_entropy` uses too. g = ∂C/∂y is the
upstream gradient.

The functions have the signatures of torch.nn.functional. They map a Tensor of any shape to one of the same shape;
`dtype` converts the input first, and under autocast on CUDA they compute in float32. TypeError if `input` is not a
Tensor, NotImplementedError if it is not floating point, IndexError if `dim` is out of range.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import cuda_autocast_to_float32, in_float32
from bp_torch.functional.shape import to
from bp_torch.functional.validation import require_floating, require_tensor, warn

__all__ = ["log_softmax", "softmax", "softmin"]


def probabilities(input: Tensor, dim: int) -> Tensor:
    """e^(xᵢ − m) / Σⱼ e^(xⱼ − m): m cancels, and with m = max x no exponential overflows."""
    if input.numel() == 0:
        return input.clone()  # amax does not support an empty dimension
    exponentials = torch.exp(input - input.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim, keepdim=True)


def log_probabilities(input: Tensor, dim: int) -> Tensor:
    """xᵢ − m − log Σⱼ e^(xⱼ − m), where m = max x, so that the largest term of the sum is exactly 1.

    The logarithm is log1p of the other terms' sum. If one class is nearly certain, that sum is tiny, and adding it
    to 1 would round most of its digits away.
    """
    if input.numel() == 0:
        return input.clone()
    index = input.argmax(dim, keepdim=True)
    largest = input.gather(dim, index)
    shifted = input - largest
    others = torch.exp(shifted).scatter(dim, index, largest - largest)  # the term 1 becomes 0, or NaN for x = ±∞
    return shifted - torch.log1p(others.sum(dim, keepdim=True))


class Softmax(Function):
    """yᵢ = e^(xᵢ) / Σⱼ e^(xⱼ) along a dimension.

    By the quotient rule ∂yⱼ/∂xᵢ = yⱼ ([i = j] − yᵢ), so ∂C/∂xᵢ = Σⱼ gⱼ ∂yⱼ/∂xᵢ is

        ∂C/∂xᵢ = yᵢ (gᵢ − Σⱼ gⱼ yⱼ)

    The subtracted sum is the average of g with the weights y. The Jacobian is symmetric, so `jvp` is the same equation
    with the tangent in place of g. Only the output is saved.

    For y = (1/4, 3/4) and g = (4, 0), Σ g y = 1 and the gradient is (1/4 · 3, 3/4 · −1):

    >>> x = torch.tensor([1.0, 3.0]).log().requires_grad_()
    >>> torch.autograd.grad(softmax(x, 0), x, torch.tensor([4.0, 0.0]))
    (tensor([ 0.7500, -0.7500]),)
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
        return Softmax.backward(ctx, tangent)[0]


class Softmin(Softmax):
    """yᵢ = e^(−xᵢ) / Σⱼ e^(−xⱼ) along a dimension: the softmax of −x.

    ∂(−x)/∂x = −1 changes the sign of the gradient of `Softmax`:

        ∂C/∂xᵢ = yᵢ (Σⱼ gⱼ yⱼ − gᵢ)

    For y = (1/4, 3/4) and g = (4, 0), Σ g y = 1 and the gradient is (1/4 · −3, 3/4 · 1):

    >>> x = torch.tensor([3.0, 1.0]).log().requires_grad_()
    >>> torch.autograd.grad(softmin(x, 0), x, torch.tensor([4.0, 0.0]))
    (tensor([-0.7500,  0.7500]),)
    """

    @staticmethod
    def forward(input: Tensor, dim: int) -> Tensor:
        return probabilities(-input, dim)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        average = (grad_output * output).sum(ctx.dim, keepdim=True)
        return output * (average - grad_output), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return Softmin.backward(ctx, tangent)[0]


class LogSoftmax(Softmax):
    """yᵢ = xᵢ − log Σⱼ e^(xⱼ) along a dimension.

    ∂yⱼ/∂xᵢ = [i = j] − e^(xᵢ) / Σₖ e^(xₖ) = [i = j] − e^(yᵢ), so ∂C/∂xᵢ = Σⱼ gⱼ ∂yⱼ/∂xᵢ is

        ∂C/∂xᵢ = gᵢ − e^(yᵢ) Σⱼ gⱼ

    e^y is the softmax. Only the output is saved.

    For e^y = (1/4, 3/4) and g = (4, 0) the gradient is (4 − 1/4 · 4, 0 − 3/4 · 4):

    >>> x = torch.tensor([1.0, 3.0]).log().requires_grad_()
    >>> torch.autograd.grad(log_softmax(x, 0), x, torch.tensor([4.0, 0.0]))
    (tensor([ 3., -3.]),)
    """

    @staticmethod
    def forward(input: Tensor, dim: int) -> Tensor:
        return log_probabilities(input, dim)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        return grad_output - torch.exp(output) * grad_output.sum(ctx.dim, keepdim=True), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (output,) = ctx.saved_tensors
        return tangent - (torch.exp(output) * tangent).sum(ctx.dim, keepdim=True)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
    """Probabilities that sum to 1 along `dim`. See `Softmax`."""
    return _along_dim("softmax", Softmax, input, dim, _stacklevel, dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
    """Probabilities that sum to 1 along `dim`, the largest for the smallest input. See `Softmin`."""
    return _along_dim("softmin", Softmin, input, dim, _stacklevel, dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """The logarithm of the softmax, stable where a probability rounds to 0. See `LogSoftmax`."""
    return _along_dim("log_softmax", LogSoftmax, input, dim, _stacklevel, dtype)


def _along_dim(
    name: str, function: type[Function], input: Tensor, dim: int | None, stacklevel: int, dtype: torch.dtype | None
) -> Tensor:
    require_tensor(name, input=input)
    if dim is None:
        warn(f"{name}(): the implicit choice of dim is deprecated; pass dim=...", stacklevel=stacklevel)
        dim = 0 if input.dim() in (0, 1, 3) else 1
    axes = max(input.dim(), 1)
    if not -axes <= dim < axes:
        raise IndexError(f"{name}(): dim {dim} is out of range; expected one in [{-axes}, {axes - 1}]")
    input = cuda_autocast_to_float32(input) if dtype is None else to(input, dtype)
    require_floating(name, input=input)
    return in_float32(function.call, input, dim)
