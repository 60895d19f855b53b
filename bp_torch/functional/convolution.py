"""Convolution and transposed convolution in one, two or three spatial dimensions.

The gradient of a convolution is a convolution. Each of the two Functions computes the other's ∂C/∂x, and both compute
∂C/∂W by `kernel_gradient`.

g = ∂C/∂y is the upstream gradient. N, C and O count examples, input channels and output channels; * stands for the
spatial axes. The stride s, the padding p and the dilation d are one number for all spatial axes, or one for each.

The functions have the signatures and errors of torch.nn.functional; NotImplementedError for complex numbers. Input,
weight and bias have one dtype; under autocast they are converted to its dtype. An input without a batch axis, (C, *),
gives an output without one.

Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.padding import pad
from bp_torch.functional.precision import autocast_to_half
from bp_torch.functional.shape import Reshape, as_new, unsqueeze
from bp_torch.functional.validation import require_real
from bp_torch.functional.windows import Sizes, Windows, by_group, first_pixels, multiply_windows

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: torch.conv_transpose1d,
    2: torch.conv_transpose2d,
    3: torch.conv_transpose3d,
}


class Convolution(Function):
    """y = x ⋆ W + b: each output pixel is the product of the kernel with a window of the input.

    In one dimension, for one input and one output channel, and padding 0:

        yᵢ = Σₖ wₖ x[s i + d k] + b

    Shapes: x (N, C, *), W (O, C/groups, *kernel), b (O,), y (N, O, *out). Each axis has out = ⌊(in + 2p − d (k − 1) −
    1) / s⌋ + 1 windows. All input channels of a group are summed.

    wₖ meets x[s i + d k] in each window i, and xⱼ is part of each window with s i + d k = j. By the chain rule

        ∂C/∂xⱼ = Σᵢ gᵢ wₖ, over all i and k with s i + d k = j    transposed convolution of g with W
        ∂C/∂wₖ = Σᵢ gᵢ x[s i + d k]                               correlation of x with g, summed over the examples
        ∂C/∂b  = Σᵢ gᵢ                                            sum over examples and pixels

    Overlapping windows share pixels, whose gradients add up. Pixels right of the last window have the gradient 0: the
    transposed convolution gets them back by its output padding, (in + 2p − d (k − 1) − 1) mod s.

    For x = (1, 2, 3), w = (10, 20) and g = (1, 1), ∂C/∂x = (10, 20 + 10, 20) and ∂C/∂w = (1 + 2, 2 + 3):

    >>> x, w = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[10.0, 20.0]]])
    >>> y = conv1d(x.requires_grad_(), w.requires_grad_())
    >>> y.tolist(), [d.tolist() for d in torch.autograd.grad(y.sum(), (x, w))]
    ([[[50.0, 80.0]]], [[[[10.0, 30.0, 20.0]]], [[[3.0, 5.0]]]])
    """

    @staticmethod
    def forward(
        input: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
    ) -> Tensor:
        return _CONVOLUTIONS[weight.dim() - 2](input, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, _, *ctx.constants = inputs
        *sizes, ctx.groups = ctx.constants
        ctx.windows = Windows.of(weight, *sizes)
        save(ctx, input, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        grad_input = grad_weight = None
        if needs_input:
            _, stride, padding, dilation = ctx.windows
            constants = stride, padding, ctx.windows.remainder(input), ctx.groups, dilation
            grad_input = _input_gradient(ConvTranspose, grad_output, weight, constants, input)
        if needs_weight:
            grad_weight = kernel_gradient(input, grad_output, weight.shape, ctx.windows, ctx.groups)
        grad_bias = _sum_over_pixels(grad_output, weight.shape[0]) if needs_bias else None  # (O,)
        return grad_input, grad_weight, grad_bias, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, *_: None) -> Tensor:
        input, weight = ctx.saved_tensors
        forward, constants = Convolution.forward, ctx.constants
        return forward(x, weight, None, *constants) + forward(input, w, b, *constants)


class ConvTranspose(Function):
    """The transpose of a convolution's matrix: each input pixel adds the kernel, times its value, to a window of y.

    In one dimension, for one input and one output channel, and padding 0:

        yⱼ = Σᵢ xᵢ wₖ + b, over all i and k with s i + d k = j

    Shapes: x (N, C, *), W (C, O/groups, *kernel), b (O,), y (N, O, *out). Each axis has out = (in − 1) s − 2p +
    d (k − 1) + output_padding + 1.

    xᵢ meets each wₖ of its window, and wₖ each xᵢ, always in y[s i + d k]:

        ∂C/∂xᵢ = Σₖ g[s i + d k] wₖ      convolution of g with W
        ∂C/∂wₖ = Σᵢ xᵢ g[s i + d k]      correlation of g with x: the roles of x and g are exchanged
        ∂C/∂b  = Σⱼ gⱼ

    For x = (1, 2), w = (10, 20) and g = (1, 2, 3), ∂C/∂x = (10 + 40, 20 + 60) and ∂C/∂w = (1 + 2 · 2, 2 + 2 · 3):

    >>> x, w = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[10.0, 20.0]]])
    >>> y = conv_transpose1d(x.requires_grad_(), w.requires_grad_())
    >>> y.tolist(), [d.tolist() for d in torch.autograd.grad(y, (x, w), torch.tensor([[[1.0, 2.0, 3.0]]]))]
    ([[[10.0, 40.0, 40.0]]], [[[[50.0, 80.0]]], [[[5.0, 8.0]]]])
    """

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sizes,
        padding: Sizes,
        output_padding: Sizes,
        groups: int,
        dilation: Sizes,
    ) -> Tensor:
        function = _TRANSPOSED[weight.dim() - 2]
        return function(input, weight, bias, stride, padding, output_padding, groups, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, _, *ctx.constants = inputs
        stride, padding, _, ctx.groups, dilation = ctx.constants
        ctx.windows = Windows.of(weight, stride, padding, dilation)
        save(ctx, input, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        grad_input = grad_weight = None
        if needs_input:
            constants = *ctx.windows[1:], ctx.groups
            grad_input = _input_gradient(Convolution, grad_output, weight, constants, input)
        if needs_weight:
            grad_weight = kernel_gradient(grad_output, input, weight.shape, ctx.windows, ctx.groups)
        grad_bias = _sum_over_pixels(grad_output, grad_output.shape[1]) if needs_bias else None  # (O,)
        return grad_input, grad_weight, grad_bias, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, *_: None) -> Tensor:
        input, weight = ctx.saved_tensors
        forward, constants = ConvTranspose.forward, ctx.constants
        return forward(x, weight, None, *constants) + forward(input, w, b, *constants)


def _input_gradient(
    function: type[Function], grad_output: Tensor, weight: Tensor, constants: tuple[Any, ...], input: Tensor
) -> Tensor:
    """∂C/∂x by the other Function."""
    if (zeros := _empty_sum(input.shape, grad_output, input)) is not None:
        return zeros
    # an output padding of s or more adds windows, which no pixel of x belongs to
    return first_pixels(_apply(function, grad_output, weight, None, *constants), input.shape[2:])


def _apply(function: type[Function], *inputs: Any) -> Tensor:
    """Call a Function; where the backward is differentiated, by its own hand-written backward."""
    differentiated = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return function.call(*inputs) if differentiated else function.forward(*inputs)


def _empty_sum(shape: torch.Size, *tensors: Tensor) -> Tensor | None:
    """Zeros, as a sum over nothing, if a Tensor is empty; torch's convolutions do not take every empty Tensor."""
    return next((tensor.sum().expand(shape) for tensor in tensors if not tensor.numel()), None)


def kernel_gradient(input: Tensor, grad: Tensor, shape: torch.Size, windows: Windows, groups: int) -> Tensor:
    """∂C/∂W of a convolution: component (o, c, k) is Σₙᵢ g[n, o, i] x[n, c, s i + d k − p].

    Args:
        input: x, (N, C, *).
        grad: g, (N, O, *out).
        shape: the shape of W, (O, C/groups, *kernel).
        windows: where the windows lie.
        groups: the number of groups of channels.
    """
    if (zeros := _empty_sum(shape, input, grad)) is not None:
        return zeros
    if max(windows.stride) == 1 < max(windows.kernel):
        return _correlate(input, grad, windows, groups)
    return multiply_windows(windows.view(input, grad.shape[2:]), grad, groups).reshape(shape)


def _correlate(input: Tensor, grad: Tensor, windows: Windows, groups: int) -> Tensor:
    """The sum over n and i as a convolution of x with g as its kernel: batch and channels change places.

    The step from k to k + 1 is d pixels, so d is the stride of this convolution. Its dilation would be s: it is quick
    for s = 1.
    """
    swapped = by_group(input, groups).transpose(0, 2)  # (C/groups, groups, N, *)
    swapped = swapped.reshape(len(swapped), -1, *input.shape[2:])  # (C/groups, groups · N, *)
    kernel = grad.transpose(0, 1)  # (O, N, *out)
    constants = windows.dilation, windows.padding, 1, groups
    return first_pixels(_apply(Convolution, swapped, kernel, None, *constants), windows.kernel).transpose(0, 1)


def _sum_over_pixels(grad: Tensor, channels: int) -> Tensor:
    """Sum over pixels and examples; zeros if y has no channels, as torch's of an x without channels."""
    sums = grad.sum([*range(2, grad.dim())]).sum(0)  # two sums are quicker than one
    return sums if len(sums) == channels else grad.new_zeros(channels)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve (N, C, L) with (O, C/groups, k). See `conv2d`."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve (N, C, H, W) with (O, C/groups, kH, kW). See `Convolution`; LeCun et al. (1989).

    `padding` is the number of zeros on both sides of each axis, 'valid' for none, or 'same' for an output of the
    input's size: with an odd number of zeros, there is one more on the right. RuntimeError for 'same' with a stride.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve (N, C, D, H, W) with (O, C/groups, kD, kH, kW). See `conv2d`."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transposed convolution of (N, C, L) with (C, O/groups, k). See `conv_transpose2d`."""
    return _call(
        "conv_transpose1d", ConvTranspose, 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transposed convolution of (N, C, H, W) with (C, O/groups, kH, kW). See `ConvTranspose`.

    `padding` pixels are removed on both sides of each axis. `output_padding`, less than the stride or the dilation,
    adds pixels on the right: several input sizes of a convolution give one output size.
    """
    return _call(
        "conv_transpose2d", ConvTranspose, 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transposed convolution of (N, C, D, H, W) with (C, O/groups, kD, kH, kW). See `conv_transpose2d`."""
    return _call(
        "conv_transpose3d", ConvTranspose, 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def _conv(
    name: str,
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """Replace a padding by name, and call `Convolution`."""
    if padding == "valid":
        padding = 0
    elif padding == "same":
        _require_dims(name, axes, input, weight)
        windows = Windows.of(weight, stride, 0, dilation)
        if max(windows.stride) > 1:
            raise RuntimeError(f"{name}(): padding 'same' is not supported with stride {stride}")
        zeros = [d * (k - 1) for k, d in zip(windows.kernel, windows.dilation, strict=True)]
        if any(n % 2 for n in zeros):  # one more on the right
            input = pad(input, [n for zero in reversed(zeros) for n in (0, zero % 2)])
        padding = [n // 2 for n in zeros]
    elif isinstance(padding, str):
        raise RuntimeError(f"{name}(): padding must be a number, 'valid' or 'same', got {padding!r}")
    return _call(name, Convolution, axes, input, weight, bias, stride, padding, dilation, groups)


def _require_dims(name: str, axes: int, input: Tensor, weight: Tensor) -> None:
    require_real(name, input)
    require_real(name, weight, "weight")
    if input.dim() - axes not in (1, 2) or weight.dim() - axes != 2:
        shapes = f"input {tuple(input.shape)} and weight {tuple(weight.shape)}"
        raise RuntimeError(f"{name}(): got {shapes}; expected {axes + 1} or {axes + 2} and {axes + 2} dimensions")


def _call(
    name: str,
    function: type[Function],
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *constants: Any,
) -> Tensor:
    """Check the arguments, add a missing batch axis, apply autocast."""
    _require_dims(name, axes, input, weight)
    if bias is not None:
        require_real(name, bias, "bias")
    input, weight, bias = autocast_to_half(input, weight, bias)
    if input.dim() == axes + 2:
        return function.call(input, weight, bias, *constants)
    output = function.call(unsqueeze(input, 0), weight, bias, *constants)
    return Reshape.call(output, as_new, output.shape[1:])
