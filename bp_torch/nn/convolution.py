"""Modules of convolutions. N, C and O count examples, input channels and output channels; N may be missing."""

from collections.abc import Callable

import torch
from torch import Tensor

from bp_torch import functional

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class Conv1d(torch.nn.Conv1d):
    """Convolution, (N, C, L) to (N, O, L_out)."""

    def forward(self, input: Tensor) -> Tensor:
        return _convolve(functional.conv1d, self, input)


class Conv2d(torch.nn.Conv2d):
    """Convolution, (N, C, H, W) to (N, O, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        return _convolve(functional.conv2d, self, input)


class Conv3d(torch.nn.Conv3d):
    """Convolution, (N, C, D, H, W) to (N, O, D_out, H_out, W_out)."""

    def forward(self, input: Tensor) -> Tensor:
        return _convolve(functional.conv3d, self, input)


class ConvTranspose1d(torch.nn.ConvTranspose1d):
    """Transposed convolution, (N, C, L) to (N, O, L_out)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _convolve_transposed(functional.conv_transpose1d, self, input, output_size)


class ConvTranspose2d(torch.nn.ConvTranspose2d):
    """Transposed convolution, (N, C, H, W) to (N, O, H_out, W_out)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _convolve_transposed(functional.conv_transpose2d, self, input, output_size)


class ConvTranspose3d(torch.nn.ConvTranspose3d):
    """Transposed convolution, (N, C, D, H, W) to (N, O, D_out, H_out, W_out)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _convolve_transposed(functional.conv_transpose3d, self, input, output_size)


def _convolve(function: Callable[..., Tensor], module: torch.nn.modules.conv._ConvNd, input: Tensor) -> Tensor:
    """Pad the input if the module does not pad by zeros, and convolve."""
    padding: str | tuple[int, ...] | int = module.padding
    if module.padding_mode != "zeros":
        input = functional.pad(input, module._reversed_padding_repeated_twice, mode=module.padding_mode)
        padding = 0
    return function(input, module.weight, module.bias, module.stride, padding, module.dilation, module.groups)


def _convolve_transposed(
    function: Callable[..., Tensor],
    module: torch.nn.modules.conv._ConvTransposeNd,
    input: Tensor,
    output_size: list[int] | None,
) -> Tensor:
    """Choose the output padding for the size, if one is given, as torch's module does."""
    stride, padding, kernel, dilation = map(list, (module.stride, module.padding, module.kernel_size, module.dilation))
    chosen = module._output_padding(input, output_size, stride, padding, kernel, len(kernel), dilation)  # type: ignore[arg-type]
    return function(input, module.weight, module.bias, stride, padding, chosen, module.groups, dilation)
