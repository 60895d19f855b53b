"""Reductions and cumulative sums: logsumexp, norm, variance and standard deviation, product.

`dim` names the reduced axes: one, several, or all with None. g = ∂C/∂y is the upstream gradient, and each function is a
`Reduction`: its class states ∂y/∂x.

The functions have the signatures of torch's. TypeError if `input` is not a Tensor, NotImplementedError if it is
complex, IndexError if an axis does not exist, RuntimeError for integers where torch has no value for them.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.norms import norm_slope
from bp_torch.functional.precision import at_least_float32, autocast_to_float32, cuda_autocast_to_float32
from bp_torch.functional.reductions import Axes, Reduction
from bp_torch.functional.shape import LinearMap, flatten, to
from bp_torch.functional.validation import require_real

__all__ = ["cumsum", "logsumexp", "norm", "prod", "std", "var"]


class LogSumExp(Reduction):
    """y = ln Σⱼ e^(xⱼ). ∂y/∂xᵢ = e^(xᵢ) / Σⱼ e^(xⱼ): the softmax of x.

    It is computed from e^(xᵢ − y), which does not overflow, and divided by their sum: 1, but for the rounding of y.

    For e^x = (1, 3), the softmax is (1/4, 3/4):

    >>> x = torch.tensor([1.0, 3.0]).log().requires_grad_()
    >>> torch.autograd.grad(logsumexp(x, 0), x, torch.tensor(4.0))
    (tensor([1., 3.]),)
    """

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool) -> Tensor:
        return torch.logsumexp(input, dim, keepdim)

    @staticmethod
    def derivative(input: Tensor, output: Tensor, axes: tuple[int, ...]) -> Tensor:
        exponentials = torch.exp(input - output)
        return exponentials / exponentials.sum(axes, keepdim=True)


class Norm(Reduction):
    """y = (Σᵢ |xᵢ|ᵖ)^(1/p).

    From yᵖ = Σᵢ |xᵢ|ᵖ follows p y^(p−1) ∂y/∂xᵢ = p |xᵢ|^(p−1) sign(xᵢ):

        ∂y/∂xᵢ = sign(xᵢ) (|xᵢ| / y)^(p−1)

    For p = 2 it is x / y. It is 0 where y = 0, and for p < 1 where xᵢ = 0. For p = ±∞, y is the largest or smallest
    |x|, and ∂y/∂xᵢ is sign(xᵢ) / k at each of the k values of this size, otherwise 0. For p = 0, y is the number of
    values that are not 0, and ∂y/∂x = 0.

    >>> x = torch.tensor([3.0, -4.0], requires_grad=True)
    >>> torch.autograd.grad(norm(x), x, torch.tensor(5.0))
    (tensor([ 3., -4.]),)
    """

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool, p: float, dtype: torch.dtype | None) -> Tensor:
        return torch.linalg.vector_norm(input, p, dim, keepdim, dtype=dtype)

    @staticmethod
    def derivative(input: Tensor, output: Tensor, axes: tuple[int, ...], p: float, dtype: Any) -> Tensor:
        return norm_slope(input, output, p, axes).masked_fill(output == 0, 0)


class Var(Reduction):
    """y = 1/(n − c) Σᵢ (xᵢ − μ)² with μ = mean x over the n values along the reduced axes, and the correction c.

    xᵢ enters its own square, and all squares through μ, which adds Σⱼ 2 (xⱼ − μ) · −1/n = 0:

        ∂y/∂xᵢ = 2 (xᵢ − μ) / (n − c)

    For n ≤ c the divisor is 0.

    For x = (1, 5), μ = 3; with c = 1 the divisor is 1:

    >>> x = torch.tensor([1.0, 5.0], requires_grad=True)
    >>> torch.autograd.grad(var(x), x)
    (tensor([-4.,  4.]),)
    """

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool, correction: float) -> Tensor:
        return torch.var(input, dim, correction=correction, keepdim=keepdim)

    @staticmethod
    def derivative(input: Tensor, output: Tensor, axes: tuple[int, ...], correction: float) -> Tensor:
        centred = input - input.mean(axes, keepdim=True)
        n = math.prod([input.shape[axis] for axis in axes])
        return 2 * centred / max(n - correction, 0)


class Std(Reduction):
    """y = √v, the root of the variance `Var`. ∂y/∂xᵢ = ∂v/∂xᵢ / 2y; where y = 0 it is 0.

    For x = (1, 5), v = 8 and ∂v/∂x = (−4, 4):

    >>> x = torch.tensor([1.0, 5.0], requires_grad=True)
    >>> torch.autograd.grad(std(x), x)
    (tensor([-0.7071,  0.7071]),)
    """

    @staticmethod
    def forward(input: Tensor, dim: Any, keepdim: bool, correction: float) -> Tensor:
        return torch.std(input, dim, correction=correction, keepdim=keepdim)

    @staticmethod
    def derivative(input: Tensor, output: Tensor, axes: tuple[int, ...], correction: float) -> Tensor:
        slope = Var.derivative(input, output, axes, correction)
        return (slope / (2 * output)).masked_fill(output == 0, 0)


class Prod(Reduction):
    """y = Πᵢ xᵢ. ∂y/∂xᵢ = Πⱼ xⱼ over all j ≠ i: the product of the values before xᵢ times that of those after it.

    y / xᵢ would be 0/0 at a zero. With one zero among x, only this one has a gradient; with two, none has.

    >>> x = torch.tensor([2.0, 0.0, 5.0], requires_grad=True)
    >>> prod(x).backward()
    >>> x.grad
    tensor([ 0., 10.,  0.])
    """

    @staticmethod
    def forward(input: Tensor, dim: int, keepdim: bool) -> Tensor:
        return torch.prod(input, dim, keepdim)

    @staticmethod
    def derivative(input: Tensor, output: Tensor, axes: tuple[int, ...]) -> Tensor:
        if not axes or input.shape[axes[0]] < 2:
            return torch.ones_like(input)
        x = input.movedim(axes[0], -1)
        return (_of_those_before(x) * _of_those_before(x.flip(-1)).flip(-1)).movedim(-1, axes[0])


def _of_those_before(x: Tensor) -> Tensor:
    """Πⱼ xⱼ over all j < i along the last axis; 1 for the first i."""
    return torch.nn.functional.pad(x, (1, -1), value=1.0).cumprod(-1)


class Cumsum(LinearMap):
    """yᵢ = Σⱼ xⱼ over all j ≤ i. xᵢ enters the sums from yᵢ on: ∂C/∂xᵢ = Σⱼ gⱼ over all j ≥ i.

    >>> x = torch.zeros(3, requires_grad=True)
    >>> cumsum(x, 0).backward(torch.tensor([1.0, 10.0, 100.0]))
    >>> x.grad
    tensor([111., 110., 100.])
    """

    @staticmethod
    def forward(input: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
        return torch.cumsum(input, dim, dtype=dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        dim, grad_input = ctx.constants[0], at_least_float32(grad_output)
        if ctx.shape:  # vmap cannot flip a scalar
            grad_input = grad_input.flip(dim).cumsum(dim).flip(dim)
        return grad_input.to(ctx.dtype), None, None


def logsumexp(input: Tensor, dim: Axes, keepdim: bool = False) -> Tensor:
    """The logarithm of the sum of exponentials over the axes `dim`, without overflow. See `LogSumExp`.

    −∞ if there are no values; under autocast on CUDA in float32.
    """
    return LogSumExp.call(cuda_autocast_to_float32(require_real("logsumexp", input)), dim, keepdim)


def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: Axes = None,
    keepdim: bool = False,
    out: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The p-norm over the axes `dim`, computed in `dtype` if given. See `Norm`.

    "fro" and None mean p = 2; NotImplementedError for "nuc". Under autocast on CUDA in float32. With `out` the result
    is written into it, without a gradient: RuntimeError if `input` requires one.
    """
    require_real("norm", input)
    if p == "nuc":
        raise NotImplementedError("norm(): the nuclear norm p='nuc' is not supported")
    if out is not None or (isinstance(p, str) and p != "fro"):
        return torch.norm(input, p, dim, keepdim, out, dtype)
    return Norm.call(cuda_autocast_to_float32(input), dim, keepdim, 2.0 if p in ("fro", None) else p, dtype)


def var(
    input: Tensor,
    dim: Axes = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over the axes `dim`; the divisor is n − `correction`, by default n − 1. See `Var`.

    `unbiased` stands for the correction 1 or 0, and may come in place of `dim`.
    """
    return _spread("var", Var, input, dim, unbiased, keepdim, correction)


def std(
    input: Tensor,
    dim: Axes = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The standard deviation over the axes `dim`: the root of `var`. See `Std`."""
    return _spread("std", Std, input, dim, unbiased, keepdim, correction)


def _spread(
    name: str,
    function: type[Reduction],
    input: Tensor,
    dim: Axes,
    unbiased: bool | None,
    keepdim: bool,
    correction: float | None,
) -> Tensor:
    require_real(name, input)
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError(f"{name}(): got both unbiased and correction; they mean the same")
    if unbiased is not None:
        correction = int(unbiased)
    return function.call(input, dim, keepdim, 1 if correction is None else correction)


def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """The product over the axis `dim` or, by default, of all values. See `Prod`.

    `input` is converted to `dtype` first, if given, and to float32 under autocast. Integers have an int64 product.
    """
    require_real("prod", input)
    if dim is None and keepdim:
        raise TypeError("prod(): keepdim needs an axis dim")
    input = autocast_to_float32(input)[0] if dtype is None else to(input, dtype)
    if dim is None:
        input, dim = flatten(input), 0
    return Prod.call(input, dim, keepdim)


def cumsum(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """The sums of the first values along axis `dim`, computed in `dtype` if given. See `Cumsum`.

    Integers have int64 sums. Under autocast on CUDA in float32.
    """
    require_real("cumsum", input)
    return Cumsum.call(cuda_autocast_to_float32(input) if dtype is None else input, dim, dtype)
