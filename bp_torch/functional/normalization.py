"""Normalization by a mean and a variance: batch, layer, group and instance normalization.

They are one equation, `Normalize`, and differ in the values that share a mean and a variance. g = ∂C/∂y is the upstream
gradient.

The functions have the signatures and errors of torch.nn.functional. Their values are those of PyTorch's own kernels,
and the output has the shape and dtype of `input`. Weight, bias and running statistics have that dtype too, or float32
if it is half precision. TypeError if `input` is not a Tensor, NotImplementedError if it is not floating point.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.shape import as_new
from bp_torch.functional.standardize import (
    Layout,
    Normalize,
    as_inputs,
    new_statistics,
    output_tangent,
    remember,
    summed,
    times,
)
from bp_torch.functional.validation import require_real

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]


def _by_channel(shape: Sequence[int], *_: Any) -> Layout:
    """Each channel, over all examples and positions. PyTorch also takes a single axis of length 0."""
    axes = (0, *range(2, len(shape)))
    return Layout(tuple(shape), axes, axes if len(shape) > 1 else ())


class BatchNorm(Normalize):
    """`Normalize` for each channel, over all examples and positions.

    The kernel also updates the running statistics in place. With the momentum m and n values per channel,

        running mean ← (1 − m) running mean + m μ
        running variance ← (1 − m) running variance + m Σ (x − μ)² / (n − 1)
    """

    layout = _by_channel

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        statistics: list[Tensor] | None,
    ) -> Tensor:
        cudnn = torch.backends.cudnn.enabled
        output, mean, inverse, *_ = torch._batch_norm_impl_index(
            input, weight, bias, running_mean, running_var, True, momentum, eps, cudnn
        )
        if statistics is not None:
            statistics.extend((mean, inverse))
        return output


class InstanceNorm(Normalize):
    """`Normalize` for each channel of each example, over its positions.

    The kernel also updates the running statistics, as for `BatchNorm`, averaged over the examples. It does not return
    μ and σ, so `statistics` stays empty.
    """

    @staticmethod
    def layout(shape: Sequence[int], *_: Any) -> Layout:
        positions = tuple(range(2, len(shape)))
        return Layout(tuple(shape), positions, (0, *positions))

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        statistics: list[Tensor] | None,
    ) -> Tensor:
        cudnn = torch.backends.cudnn.enabled
        output = torch.instance_norm(input, weight, bias, running_mean, running_var, True, momentum, eps, cudnn)
        return as_new(output)


class GroupNorm(Normalize):
    """`Normalize` for each group of successive channels of each example, over its channels and positions."""

    @staticmethod
    def layout(shape: Sequence[int], groups: int) -> Layout:
        n, channels, *positions = shape
        axes = tuple(range(2, len(shape) + 1))
        return Layout((n, groups, channels // groups, *positions), axes, (0, *axes[1:]))

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        num_groups: int,
        eps: float,
        statistics: list[Tensor] | None,
    ) -> Tensor:
        # native_group_norm takes contiguous Tensors, and does not check it
        contiguous = all(each is None or each.is_contiguous() for each in (input, weight, bias))
        if statistics is None or not contiguous:
            return torch.group_norm(input, num_groups, weight, bias, eps, torch.backends.cudnn.enabled)
        n, channels, *positions = input.shape
        output, *found = torch.native_group_norm(
            input, weight, bias, n, channels, math.prod(positions), num_groups, eps
        )
        statistics.extend(found)
        return output


class LayerNorm(Normalize):
    """`Normalize` over the last axes, which have the shape of γ and β."""

    @staticmethod
    def layout(shape: Sequence[int], normalized_shape: Sequence[int]) -> Layout:
        first = len(shape) - len(normalized_shape)
        return Layout(tuple(shape), tuple(range(first, len(shape))), tuple(range(first)))

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        normalized_shape: Sequence[int],
        eps: float,
        statistics: list[Tensor] | None,
    ) -> Tensor:
        output, *found = torch.native_layer_norm(input, normalized_shape, weight, bias, eps)
        if statistics is not None:
            statistics.extend(found)
        return output


class WithRunningStatistics(Function):
    """y = γ (x − μ) / σ + β with constants: μ is the running mean, and σ² the running variance + ε, of each channel.

    Each yᵢ depends on xᵢ alone, so of the three terms of `Normalize` the direct one is left:

        ∂C/∂x = γ g / σ
        ∂C/∂γ = Σ g (x − μ) / σ
        ∂C/∂β = Σ g

    For σ² = 3 + 1, γ = 6 and g = 1, the gradient is 6/2:

    >>> x, mean, variance = torch.zeros(1, 1, requires_grad=True), torch.zeros(1), torch.tensor([3.0])
    >>> torch.autograd.grad(batch_norm(x, mean, variance, torch.tensor([6.0]), eps=1.0), x)
    (tensor([[3.]]),)
    """

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        eps: float,
    ) -> Tensor:
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(input, weight, bias, running_mean, running_var, False, 0.0, eps, cudnn)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, bias, running_mean, running_var, eps = inputs
        remember(ctx, _by_channel(input.shape), eps, (input, weight, bias), output, constants=3)
        save(ctx, input, weight, running_mean, running_var)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        deviation, inverse, weight = _from_constants(ctx)
        layout, g = ctx.layout, ctx.layout.view(grad_output)
        grad_input = g * times(inverse, weight, layout)
        grad_weight = summed(g * deviation, layout.broadcast) * inverse
        return as_inputs((grad_input, grad_weight, summed(g, layout.broadcast)), ctx)

    @staticmethod
    def jvp(ctx: Any, input_tangent: Tensor, weight_tangent: Any, bias_tangent: Any, *_: None) -> Tensor:
        deviation, inverse, weight = _from_constants(ctx)
        tangent = ctx.layout.view(input_tangent) * inverse
        return output_tangent(tangent, deviation * inverse, weight, weight_tangent, bias_tangent, ctx)


def _from_constants(ctx: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """The deviations x − μ, 1/σ, and the weight."""
    input, weight, running_mean, running_var = ctx.saved_tensors
    inverse = torch.rsqrt(ctx.layout.view_affine(running_var) + ctx.eps)
    return ctx.layout.view(input) - ctx.layout.view_affine(running_mean), inverse, weight


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of (N, C, *), by `weight` · x̂ + `bias`, each (C,). See `BatchNorm`; Ioffe, Szegedy (2015).

    In `training`, mean and variance are those of the batch, and the running statistics, if given, are updated in place.
    Otherwise the running statistics are used: see `WithRunningStatistics`.

    ValueError if `eps` is negative, or in training 0, or a channel has a single value there; RuntimeError if there are
    no running statistics to use, or if a shape or dtype does not match.
    """
    shape = require_real("batch_norm", input).shape
    _require_constants("batch_norm", running_mean, running_var)
    if training and shape[0] * math.prod(shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(shape)}")
    if eps < 0 or (training and eps == 0):
        raise ValueError(f"batch_norm(): eps must be {'positive' if training else 'non-negative'}, got {eps}")
    if training:
        return BatchNorm.call(input, weight, bias, running_mean, running_var, momentum, eps, new_statistics(input))
    return WithRunningStatistics.call(input, weight, bias, running_mean, running_var, eps)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise (*, `normalized_shape`), by `weight` · x̂ + `bias`. See `LayerNorm`; Ba, Kiros, Hinton (2016).

    Weight and bias have the shape `normalized_shape`. RuntimeError if shapes or dtypes do not match.
    """
    statistics = new_statistics(require_real("layer_norm", input))
    return LayerNorm.call(input, weight, bias, normalized_shape, eps, statistics)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each of the groups of channels of (N, C, *). See `GroupNorm`; Wu, He (2018).

    Weight and bias are (C,). RuntimeError if C is not a multiple of `num_groups` or a shape or dtype does not match,
    ValueError if a batch of one example has a single value in each group.
    """
    shape = require_real("group_norm", input).shape
    if len(shape) < 2:
        raise RuntimeError(f"group_norm(): input must have at least 2 axes, (N, C, *), got {tuple(shape)}")
    if shape[0] * shape[1] // num_groups * math.prod(shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(shape)}")
    return GroupNorm.call(input, weight, bias, num_groups, eps, new_statistics(input))


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each example of (N, C, *). See `InstanceNorm`; Ulyanov, Vedaldi, Lempitsky (2016).

    Weight and bias are (C,). With `use_input_stats`, the running statistics, if given, are updated in place; otherwise
    they are used: see `WithRunningStatistics`.

    ValueError if a channel has a single value; RuntimeError if there are no running statistics to use, or if a shape or
    dtype does not match.
    """
    shape = require_real("instance_norm", input).shape
    _require_constants("instance_norm", running_mean, running_var)
    if not use_input_stats:
        dtype = input.dtype if weight is None else weight.dtype
        constants = (each if each is None else each.to(dtype) for each in (running_mean, running_var))
        return WithRunningStatistics.call(input, weight, bias, *constants, eps)
    if math.prod(shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {tuple(shape)}")
    return InstanceNorm.call(input, weight, bias, running_mean, running_var, momentum, eps, None)


def _require_constants(name: str, *statistics: Tensor | None) -> None:
    """Raise, as PyTorch does, if a running statistic requires a gradient."""
    for each in statistics:
        if each is not None and each.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(f"{name}(): not differentiable with respect to the running statistics")
