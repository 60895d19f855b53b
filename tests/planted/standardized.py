"""The equation of normalization, with parts to be replaced by wrong ones.

With the mean over the values that are normalised together, δ = γ g and r = 1/σ, the correct gradients are
∂C/∂x = (δ − mean(δ) − x̂ mean(δ x̂)) r, ∂C/∂γ = Σ g x̂ and ∂C/∂β = Σ g.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.standardize import Layout, summed

EPS = 1e-3

Mean = Callable[[Tensor], Tensor]
Terms = Callable[[Tensor, Tensor, Tensor, Mean], Tensor]
Standardized = Callable[[Tensor, Mean], tuple[Tensor, Tensor]]


def correct_terms(delta: Tensor, x_hat: Tensor, r: Tensor, mean: Mean) -> Tensor:
    return (delta - mean(delta) - x_hat * mean(delta * x_hat)) * r


def correctly(x: Tensor, mean: Mean) -> tuple[Tensor, Tensor]:
    r = torch.rsqrt(mean((x - mean(x)) ** 2) + EPS)
    return (x - mean(x)) * r, r


def equation_of(
    layout_of: Callable[..., Layout],
    terms: Terms = correct_terms,
    standardized: Standardized = correctly,
    axes: tuple[int, ...] | None = None,
) -> Callable[..., tuple[Tensor, ...]]:
    """The equation with other terms, or another way to compute x̂ and r, or means over other axes."""

    def equation(g: Tensor, x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, ...]:
        layout = layout_of(x.shape)
        g = layout.view(g)
        mean = partial(torch.mean, dim=axes or layout.axes, keepdim=True)
        x_hat, r = standardized(layout.view(x), mean)
        grad_input = terms(g * layout.view_affine(weight), x_hat, r, mean).expand(layout.shape).reshape(x.shape)
        sums = (summed(each, layout.broadcast).reshape(weight.shape) for each in (g * x_hat, g))
        return grad_input, *sums

    return equation


def by_inverse(inverse: Callable[[Tensor], Tensor]) -> Standardized:
    """1/σ as another function of the variance."""

    def standardized(x: Tensor, mean: Mean) -> tuple[Tensor, Tensor]:
        r = inverse(mean((x - mean(x)) ** 2))
        return (x - mean(x)) * r, r

    return standardized


def unbiased(x: Tensor, mean: Mean) -> tuple[Tensor, Tensor]:
    n = x.numel() / mean(x).numel()
    return by_inverse(lambda variance: torch.rsqrt(variance * n / (n - 1) + EPS))(x, mean)


def from_squares(x: Tensor, mean: Mean) -> tuple[Tensor, Tensor]:
    r = torch.rsqrt(mean(x * x) - mean(x) ** 2 + EPS)  # cancels if the mean is large
    return (x - mean(x)) * r, r


def detached_x_hat(x: Tensor, mean: Mean) -> tuple[Tensor, Tensor]:
    x_hat, r = correctly(x, mean)
    return x_hat.detach(), r


def detached_mean(x: Tensor, mean: Mean) -> tuple[Tensor, Tensor]:
    return correctly(x, lambda values: mean(values).detach() if values is x else mean(values))


def detached_sigma(x: Tensor, mean: Mean) -> tuple[Tensor, Tensor]:
    r = correctly(x, mean)[1].detach()
    return (x - mean(x)) * r, r
