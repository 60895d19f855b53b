"""Base class of batch, layer, group and instance normalization, one equation for values that share a mean and variance.

g = ∂C/∂y is the upstream gradient. Half precision is computed in float32, and each gradient is rounded once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from bp_torch.functional.elementwise import shape_and_dtype
from bp_torch.functional.function import Function, may_work_in_place, save, transform_active
from bp_torch.functional.precision import at_least_float32


class Layout(NamedTuple):
    """Which values share a mean and a variance.

    Attributes:
        shape: the shape in which the input is viewed.
        axes: the axes of the mean and the variance.
        broadcast: the axes along which γ and β are broadcast.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    broadcast: tuple[int, ...]

    def view(self, tensor: Tensor) -> Tensor:
        """View an input or a gradient; half precision in float32."""
        return _reshaped(at_least_float32(tensor), self.shape)

    def view_affine(self, parameter: Tensor) -> Tensor:
        """View γ or β, so that it broadcasts to `shape`; half precision in float32."""
        return at_least_float32(parameter).reshape(self.without(self.broadcast))

    def without(self, axes: tuple[int, ...]) -> list[int]:
        """The shape, with length 1 along `axes`."""
        return [1 if axis in axes else n for axis, n in enumerate(self.shape)]


class Normalize(Function):
    """y = γ x̂ + β with x̂ = (x − μ) / σ, where μ = mean(x) and σ² = mean((x − μ)²) + ε.

    The means are over the n values that are normalised together. γ and β are broadcast to x.

    With δ = ∂C/∂x̂ = γ g: xᵢ changes every x̂ⱼ = (xⱼ − μ) / σ that it is normalised with, in three ways.

        directly      ∂x̂ᵢ/∂xᵢ = 1/σ                                              δᵢ / σ
        through μ     ∂μ/∂xᵢ = 1/n,   ∂x̂ⱼ/∂μ = −1/σ     Σⱼ δⱼ · −1/σ · 1/n    = −mean(δ) / σ
        through σ     ∂σ/∂xᵢ = x̂ᵢ/n,  ∂x̂ⱼ/∂σ = −x̂ⱼ/σ    Σⱼ δⱼ · −x̂ⱼ/σ · x̂ᵢ/n = −x̂ᵢ mean(δ x̂) / σ

    ∂σ/∂xᵢ follows from n (σ² − ε) = Σⱼ (xⱼ − μ)²: 2nσ ∂σ/∂xᵢ = 2 (xᵢ − μ) − 2 Σⱼ (xⱼ − μ) ∂μ/∂xᵢ, and the last sum is
    0, because deviations from the mean cancel. The three terms add up to

        ∂C/∂x = (δ − mean(δ) − x̂ mean(δ x̂)) / σ
        ∂C/∂γ = Σ g x̂
        ∂C/∂β = Σ g

    The sums are over the axes along which γ and β are broadcast. The Jacobian of x̂ is symmetric, so `jvp` has the same
    three terms. Where all x are equal, x̂ = 0 and σ = √ε. x and γ are saved; a backward that may work in place has a
    faster form of the equation, `_in_few_passes`.

    For x = (−1, 1, −1, 1) and ε = 0, x̂ = x. For g = (4, 0, 0, 0), mean(g) = 1 and mean(g x̂) = −1, so the gradient is
    g − 1 + x̂:

    >>> from bp_torch.functional import layer_norm
    >>> x = torch.tensor([-1.0, 1.0, -1.0, 1.0], requires_grad=True)
    >>> torch.autograd.grad(layer_norm(x, (4,), eps=0.0), x, torch.tensor([4.0, 0.0, 0.0, 0.0]))
    (tensor([ 2.,  0., -2.,  0.]),)

    A subclass states `layout(shape, *constants)` and `forward(input, weight, bias, *constants, eps, statistics)`, which
    adds μ and 1/σ to the list `statistics`, if there is one: see `new_statistics`.
    """

    layout: ClassVar[Callable[..., Layout]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `setup_context` from the layout."""
        if "layout" in vars(cls):
            cls.setup_context = staticmethod(_setup_context(cls.layout))  # type: ignore[method-assign]
        super().__init_subclass__(**options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, *statistics = ctx.saved_tensors
        layout, g, x = ctx.layout, ctx.layout.view(grad_output), ctx.layout.view(input)
        if g.numel() and may_work_in_place(grad_output):
            return as_inputs(_in_few_passes(g, x, weight, statistics, ctx), ctx)
        mean, inverse = moments(x, layout.axes, ctx.eps)
        x_hat = (x - mean) * inverse
        grad_input = through_statistics(times(g, weight, layout), x_hat, inverse, layout.axes)
        return as_inputs((grad_input, summed(g * x_hat, layout.broadcast), summed(g, layout.broadcast)), ctx)

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, weight_tangent: Any, bias_tangent: Any, *_: None) -> Tensor:
        layout, (input, weight, *_) = ctx.layout, ctx.saved_tensors
        mean, inverse = moments(layout.view(input), layout.axes, ctx.eps)
        x_hat = (layout.view(input) - mean) * inverse
        tangent = through_statistics(layout.view(input_tangent), x_hat, inverse, layout.axes)
        return output_tangent(tangent, x_hat, weight, weight_tangent, bias_tangent, ctx)


def moments(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """μ and 1/σ. The deviations from the mean are squared: mean(x²) − μ² would cancel where μ is large.

    Their own mean, which is 0 but for rounding errors, is added to the mean: x − μ cancels as well.
    """
    mean = x.mean(axes, keepdim=True)
    mean = mean + (x - mean).mean(axes, keepdim=True)
    return mean, torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + eps)


def through_statistics(delta: Tensor, x_hat: Tensor, inverse: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The three terms of ∂C/∂x for δ = ∂C/∂x̂: direct, through μ, through σ."""
    return (delta - delta.mean(axes, keepdim=True) - x_hat * (delta * x_hat).mean(axes, keepdim=True)) * inverse


def _in_few_passes(
    g: Tensor, x: Tensor, weight: Tensor | None, statistics: Sequence[Tensor], ctx: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """∂C/∂x, ∂C/∂γ and ∂C/∂β in fewer passes over memory, for a backward that may work in place."""
    layout, axes = ctx.layout, ctx.layout.axes
    one_each = layout.without(axes)
    mean, inverse = (_reshaped(each, one_each) for each in statistics or moments(x, axes, ctx.eps))
    gamma = inverse.new_ones(()) if weight is None else layout.view_affine(weight)
    factor = inverse / -math.prod(layout.shape[axis] for axis in axes)  # −1 / (n σ)
    positions = [axis for axis in axes if axis in layout.broadcast]
    if positions:
        return _sums_first(g, x - mean, gamma, inverse, factor, positions, layout)
    return _over_features(g, x, gamma, mean, inverse, factor, layout)


def _sums_first(
    g: Tensor,
    deviation: Tensor,
    gamma: Tensor,
    inverse: Tensor,
    factor: Tensor,
    positions: list[int],
    layout: Layout,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch, group and instance normalization: γ and 1/σ are constant along the positions, and multiply the sums.

    ∂C/∂x = γ g / σ + slope (x − μ) + offset: the two other terms of `Normalize`.
    """
    sums = (g * deviation).sum(positions, keepdim=True).mul_(inverse), g.sum(positions, keepdim=True)
    grad_weight, grad_bias = (_summed_further(each, layout.broadcast) for each in sums)
    slope, offset = ((each * gamma).sum(layout.axes, keepdim=True).mul_(factor) for each in sums)
    grad_input = deviation.mul_(slope.mul_(inverse)).add_(offset).addcmul_(g, gamma * inverse)
    return grad_input, grad_weight, grad_bias


def _over_features(
    g: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, layout: Layout
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalization: ∂C/∂x = γ g / σ + slope x + offset, with a single temporary of the size of x."""
    products = (x - mean).mul_(g).mul_(inverse)
    grad_weight, grad_bias = summed(products, layout.broadcast), summed(g, layout.broadcast)
    slope = products.mul_(gamma).sum(layout.axes, keepdim=True).mul_(factor).mul_(inverse)
    delta = torch.mul(g, gamma, out=products)
    offset = delta.sum(layout.axes, keepdim=True).mul_(factor).sub_(slope * mean)
    return delta.mul_(inverse).addcmul_(x, slope).add_(offset), grad_weight, grad_bias


def new_statistics(input: Tensor) -> list[Tensor] | None:
    """A list to which the forward adds μ and 1/σ, which its kernel computes anyway, so that the backward need not.

    They are saved intermediates: a backward that is differentiated computes them from x. None if the forward is
    transformed or compiled, and for half precision, in which the kernel may round them.
    """
    wide = input.dtype in (torch.float32, torch.float64)
    return [] if wide and input.numel() and not transform_active() and not torch.compiler.is_compiling() else None


def output_tangent(
    tangent: Tensor, x_hat: Tensor, weight: Tensor | None, weight_tangent: Any, bias_tangent: Any, ctx: Any
) -> Tensor:
    """ẏ = γ dx̂ + γ̇ x̂ + β̇, in the shape and dtype of the output."""
    layout, (shape, dtype) = ctx.layout, ctx.output
    tangent = times(tangent, weight, layout)
    if weight_tangent is not None:
        tangent = tangent + x_hat * layout.view_affine(weight_tangent)
    if bias_tangent is not None:
        tangent = tangent + layout.view_affine(bias_tangent)
    return tangent.reshape(shape).to(dtype)


def times(tensor: Tensor, weight: Tensor | None, layout: Layout) -> Tensor:
    """The product with γ, if there is one."""
    return tensor if weight is None else tensor * layout.view_affine(weight)


def summed(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The sum over `axes`; a copy if there are none."""
    return tensor.sum(axes, keepdim=True) if axes else tensor.clone()


def _summed_further(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The sum over those of `axes` that are not summed yet."""
    left = [axis for axis in axes if tensor.shape[axis] != 1]
    return tensor.sum(left, keepdim=True) if left else tensor


def remember(ctx: Any, layout: Layout, eps: float, inputs: Sequence[Any], output: Tensor, *, constants: int) -> None:
    """Keep layout and ε, shapes and dtypes of the differentiable inputs and the output, and the number of constants."""
    ctx.layout, ctx.eps, ctx.no_gradients = layout, eps, (None,) * constants
    ctx.like, ctx.output = [shape_and_dtype(each) for each in inputs], shape_and_dtype(output)


def as_inputs(gradients: Sequence[Tensor], ctx: Any) -> tuple[Tensor | None, ...]:
    """The gradients in the shapes and dtypes of the inputs, None if not needed, and None for each constant."""
    each = zip(gradients, ctx.like, ctx.needs_input_grad, strict=False)
    return *[_like(d, *like) if needs else None for d, like, needs in each], *ctx.no_gradients


def _setup_context(layout: Callable[..., Layout]) -> Callable[..., None]:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, bias, *constants, eps, statistics = inputs
        remember(ctx, layout(input.shape, *constants), eps, (input, weight, bias), output, constants=len(constants) + 2)
        save(ctx, input, weight, *(statistics or ()))

    return setup_context


def _like(tensor: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    reshaped = _reshaped(tensor, shape)
    return reshaped if tensor.dtype == dtype else reshaped.to(dtype)


def _reshaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor if tensor.shape == shape else tensor.reshape(shape)
