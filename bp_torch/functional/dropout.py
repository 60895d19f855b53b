"""Dropout: random factors of 0 and 1/(1 − p), for elements or for whole channels.

The factors are drawn before the `Function` is called, and passed to it as a constant: a backward that drew them would
drop others. With the same seed they are those that torch draws on a CPU, also under `vmap`, where its `randomness`
says whether examples have the same. g = ∂C/∂y is the upstream gradient.

The functions have the signatures of torch.nn.functional. Without `training`, with p = 0 or without elements they return
`input` itself; with `inplace` they write the result into `input`. TypeError if `input` is not a Tensor, ValueError if p
is not in [0, 1], RuntimeError or NotImplementedError if the dtype or the number of dimensions is not supported.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save, transform_active
from bp_torch.functional.rectifiers import SELU_ALPHA, SELU_SCALE
from bp_torch.functional.validation import require_real, warn

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]


class Dropout(Function):
    """y = m x + b with constant factors m and, for alpha dropout, constant b, both broadcast to x.

    Dropout has m = 0 with probability p and 1/(1 − p) otherwise, so that the mean of y is x. Alpha dropout replaces x
    by −αλ, at which SELU saturates, then scales by a and shifts to mean 0 and variance 1: m is 0 or a.

    ∂C/∂x = g m

    For p = 1/2, m is 0 or 2:

    >>> x, factors = torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([2.0, 0.0])
    >>> y = Dropout.call(x, factors, None)
    >>> y.tolist(), torch.autograd.grad(y, x, torch.tensor([5.0, 6.0]))
    ([6.0, 0.0], (tensor([10.,  0.]),))
    """

    @staticmethod
    def forward(input: Tensor, factors: Tensor, shift: Tensor | None) -> Tensor:
        return input * factors if shift is None else input * factors + shift

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        save(ctx, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (factors,) = ctx.saved_tensors
        return grad_output * factors, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return Dropout.backward(ctx, tangent)[0]


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Replace each element by 0 with probability p, and divide the others by 1 − p.

    See `Dropout`; Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014).
    """
    return _dropout("dropout", input, p, training, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of an input (N, C, L) or (C, L). See `Dropout`; Tompson et al. (2015).

    RuntimeError for another number of dimensions.
    """
    require_real("dropout1d", input)
    if input.dim() not in (2, 3):
        raise RuntimeError(f"dropout1d(): expected (N, C, L) or (C, L), but input is {tuple(input.shape)}")
    return _dropout("dropout1d", input, p, training, inplace, input.dim() - 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of an input (N, C, H, W). See `Dropout`; Tompson et al. (2015).

    As in torch, other inputs of two or more dimensions are taken for (N, C, ...), with a warning.
    """
    require_real("dropout2d", input)
    if input.dim() != 4:
        warn(
            f"dropout2d(): expected (N, C, H, W), but input is {tuple(input.shape)}; it is taken for (N, C, ...)",
            stacklevel=2,
        )
    return _dropout("dropout2d", input, p, training, inplace, 2)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop whole channels of an input (N, C, D, H, W) or (C, D, H, W). See `Dropout`; Tompson et al. (2015).

    As in torch, other inputs are taken for (C, ...), with a warning.
    """
    require_real("dropout3d", input)
    if input.dim() not in (4, 5):
        warn(
            f"dropout3d(): expected 4 or 5 dimensions, but input is {tuple(input.shape)}; it is taken for (C, ...)",
            stacklevel=2,
        )
    return _dropout("dropout3d", input, p, training, inplace, 2 if input.dim() == 5 else 1)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout for SELU: it keeps mean 0 and variance 1. See `Dropout`; Klambauer et al. (2017).

    y = a x + a αλ p, where x is −αλ with probability p, and a = 1 / √((1 + (αλ)² p) (1 − p)).
    """
    return _dropout("alpha_dropout", input, p, training, inplace, alpha=True)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels of an input (N, C, ...)."""
    return _dropout("feature_alpha_dropout", input, p, training, inplace, 2, alpha=True)


def _dropout(
    name: str, input: Tensor, p: float, training: bool, inplace: bool, axes: int | None = None, alpha: bool = False
) -> Tensor:
    """Dropout with one factor for each element, or for each index of the first `axes` dimensions."""
    require_real(name, input)
    if not 0 <= p <= 1:
        raise ValueError(f"{name}(): p must be a probability between 0 and 1, but got {p}")
    if p == 0 or not training or not input.numel():
        return input
    if p == 1:
        factors, shift = input.new_zeros(()), None
    elif axes is not None and input.dim() < axes:
        raise RuntimeError(f"{name}(): expected at least {axes} dimensions, but input is {tuple(input.shape)}")
    else:
        kept = _kept(input, 1 - p, axes)
        factors, shift = _alpha_factors(kept, p) if alpha else (kept.div_(1 - p), None)
    output = Dropout.call(input, factors, shift)
    return input.copy_(output) if inplace else output


def _kept(input: Tensor, probability: float, axes: int | None) -> Tensor:
    """1 with the given probability, otherwise 0, in the order in which torch draws.

    For elements this is the order of the input's memory; for channels, and in transforms, it is row-major.
    """
    if axes is None and (torch.compiler.is_compiling() or not transform_active()):
        return torch.empty_like(input).bernoulli_(probability)
    shape = input.shape if axes is None else [*input.shape[:axes], *[1] * (input.dim() - axes)]
    return torch.bernoulli(torch.empty(shape, dtype=input.dtype, device=input.device), probability)


def _alpha_factors(kept: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """Factor and shift of alpha dropout."""
    low = SELU_ALPHA * SELU_SCALE
    a = 1 / math.sqrt((low * low * p + 1) * (1 - p))
    return kept * a, (kept - 1).mul_(low * a).add_(low * a * p)
