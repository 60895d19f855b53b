"""Maxima and minima with their indices, sorting, and the k largest values.

The functions of an axis return values and indices. torch finds the indices, which are constant: away from ties, a tiny
change of x does not change them. The values are then gathered, and get their gradients, as in `Gather`. Of equal
values, only the one that torch chose has a gradient.

The functions have the signatures of torch's. TypeError if `input` is not a Tensor, NotImplementedError if it is
complex, IndexError if an axis does not exist.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.gathering import Gather
from bp_torch.functional.reductions import Reduction
from bp_torch.functional.selection import maximum, minimum
from bp_torch.functional.shape import Reshape, as_new
from bp_torch.functional.validation import require_real

__all__ = ["max", "min", "sort", "topk"]


class Extremum(Reduction):
    """y = max x or min x over all values: `function` is torch.max or torch.min.

    ∂C/∂xᵢ = g / k at each of the k values that equal y, otherwise 0. A NaN is the largest and the smallest value.

    >>> x = torch.tensor([1.0, 7.0, 7.0], requires_grad=True)
    >>> max(x).backward(torch.tensor(10.0))
    >>> x.grad
    tensor([0., 5., 5.])
    """

    @staticmethod
    def forward(input: Tensor, dim: None, keepdim: bool, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(input)

    @staticmethod
    def derivative(input: Tensor, output: Tensor, axes: tuple[int, ...], function: Any) -> Tensor:
        chosen = ((input == output) | input.isnan()).to(input.dtype)
        return chosen / chosen.sum()


def max(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """The largest of all values; or values and indices along the axis `dim`; or `maximum` with another Tensor.

    Ties: the gradient is shared without `dim`, and goes to the returned index with it. See `Extremum`, `Gather`.
    """
    return _extremum("max", maximum, input, dim, keepdim, other)


def min(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """The smallest of all values; or values and indices along the axis `dim`; or `minimum` with another Tensor.

    Ties as in `max`.
    """
    return _extremum("min", minimum, input, dim, keepdim, other)


def _extremum(
    name: str,
    of_two: Callable[[Tensor, Tensor], Tensor],
    input: Tensor,
    dim: int | Tensor | None,
    keepdim: bool,
    other: Tensor | None,
) -> Any:
    require_real(name, input)
    function = getattr(torch, name)
    if isinstance(dim, Tensor):
        dim, other = None, dim
    if dim is None and keepdim:
        raise TypeError(f"{name}(): keepdim needs an axis dim")
    if other is not None:
        return of_two(input, other)
    if dim is None:
        return Extremum.call(input, None, False, function)
    _, indices = function(input.detach(), dim, True)
    return _with_values(name, input, dim, indices, keepdim)


def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """Values and indices in ascending or descending order along axis `dim`; `stable` keeps the order of equal values.

    ∂C/∂xⱼ = gᵢ, where yᵢ = xⱼ: each gradient goes back to the place that its value came from.
    """
    _, indices = torch.sort(require_real("sort", input).detach(), dim=dim, descending=descending, stable=stable)
    return _with_values("sort", input, dim, indices)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest or smallest values and their indices along axis `dim`; RuntimeError if there are fewer.

    ∂C/∂xⱼ = gᵢ, where yᵢ = xⱼ, and 0 for values that are not among the k.
    """
    _, indices = torch.topk(require_real("topk", input).detach(), k, dim, largest, sorted)
    return _with_values("topk", input, dim, indices)


def _with_values(name: str, input: Tensor, dim: int, indices: Tensor, keepdim: bool = True) -> Any:
    """The values at the indices, and the indices, as torch returns them."""
    values = Gather.call(input, dim, indices)
    if not keepdim:
        indices = indices.squeeze(dim)
        values = Reshape.call(values, as_new, indices.shape)
    return getattr(torch.return_types, name)((values, indices))
