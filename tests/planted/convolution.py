"""Bugs of convolution and transposed convolution.

The correct gradients of (x, W, b) are the transposed convolution of g with W, the correlation of x with g, and the sum
of g over examples and pixels.
"""

from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.convolution import Convolution, ConvTranspose, kernel_gradient
from bp_torch.functional.windows import Windows
from bp_torch.sample import Sample
from planted.alterations import first_row_negated, last_doubled, rounded_to, row_major
from planted.bug import Bug, Original

_draw = RandomTensors(18)


def _sample(input: tuple[int, ...], weight: tuple[int, ...], outputs: int, axes: str) -> Sample:
    return Sample((_draw(*input), _draw(*weight), _draw(outputs)), axes=axes)


_PLAIN = _sample((3, 2, 5, 4), (3, 2, 3, 2), 3, "batch in height width, out in 3 2, out")
_SQUARE = _sample((2, 3, 4, 4), (3, 3, 2, 2), 3, "batch 3 4 4, 3 3 2 2, 3")
_STRIDED = _sample((2, 2, 6, 5), (3, 2, 3, 3), 3, "batch in height width, out in 3 3, out")
_GROUPED = _sample((2, 4, 4, 4), (4, 2, 3, 3), 4, "batch 2*in height width, 2*out in 3 3, 2*out")
_DILATED = _sample((2, 2, 6, 5), (2, 2, 2, 2), 2, "batch in height width, out in 2 2, out")
_POINTWISE = _sample((2, 3, 5, 5), (2, 3, 1, 1), 2, "batch in height width, out in 1 1, out")
_TRANSPOSED = _sample((2, 2, 3, 3), (2, 3, 3, 3), 3, "batch in height width, in out 3 3, out")


def _original(name: str, sample: Sample, *constants: Any) -> Original:
    """`constants`: stride, padding, dilation, groups."""
    return Original(name, Convolution, lambda x, w, b: F.conv2d(x, w, b, *constants), (sample,), constants)


CONV = _original("conv2d", _PLAIN, 1, 1, 1, 1)
SQUARE = _original("conv2d, square", _SQUARE, 1, 0, 1, 1)
STRIDED = _original("conv2d, strided", _STRIDED, (2, 3), 1, 1, 1)
GROUPED = _original("conv2d, groups", _GROUPED, 1, 1, 1, 2)
DILATED = _original("conv2d, dilated", _DILATED, 1, 1, 2, 1)
POINTWISE = _original("conv2d, 1 × 1", _POINTWISE, 2, 0, 1, 1)
TRANSPOSED = Original(
    "conv_transpose2d",
    ConvTranspose,
    partial(F.conv_transpose2d, stride=2, padding=1, output_padding=1),
    (_TRANSPOSED,),
    (2, 1, 1, 1, 1),
)


def _bug(original: Original, name: str, kind: str, **equations: Callable[..., Tensor]) -> Bug:
    """The correct backward, but for the gradients with an equation: (g, x, w) -> the gradient of `input`, and so on."""
    correct = original.function.backward

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        names = "input", "weight", "bias"
        gradients = zip_longest(correct(ctx, grad_output), names)
        wrong = {name: equation(grad_output, *ctx.saved_tensors) for name, equation in equations.items()}
        return tuple(None if d is None else wrong.get(name, d) for d, name in gradients)

    return original.methods(name, kind, backward=backward)


def _flipped(kernel: Tensor) -> Tensor:
    return kernel.flip(2, 3)


def _mirrored(kernel: Tensor) -> Tensor:
    """Height and width exchanged, of a square kernel."""
    return kernel.mT


def _of_input(g: Tensor, w: Tensor, x: Tensor, stride: Any = 1, padding: int = 1, **options: Any) -> Tensor:
    """∂C/∂x of a convolution, cut or filled with zeros to the shape of x."""
    d = F.conv_transpose2d(g, w, None, stride, padding, **options)
    return F.pad(d, (0, x.shape[3] - d.shape[3], 0, x.shape[2] - d.shape[2]))


def _of_weight(g: Tensor, x: Tensor, w: Tensor, *sizes: Any, groups: int = 1) -> Tensor:
    """∂C/∂W of a convolution with this stride, padding and dilation."""
    return kernel_gradient(x, g, w.shape, Windows.of(w, *sizes), groups)


def _of_shifted_weight(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """Two zeros above and left of x and none below and right, instead of one on each side."""
    return _of_weight(g, F.pad(x, (2, 0, 2, 0)), w, 1, 0, 1)


def _of_unpadded_weight(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """∂C/∂W of the transposed convolution as if its padding were 0."""
    return _of_weight(x, F.pad(g, (0, 2, 0, 2)), w, 2, 0, 1)


def _overwritten(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """∂C/∂x for stride 1 and padding 0, where each window overwrites what earlier ones gave a pixel."""
    d = torch.zeros_like(x)
    for i in range(g.shape[2]):
        for j in range(g.shape[3]):
            d[:, :, i : i + w.shape[2], j : j + w.shape[3]] = torch.einsum("no,ockl->nckl", g[:, :, i, j], w)
    return d


def _interleaved(d: Tensor) -> Tensor:
    """The channels of two groups taken alternately."""
    return torch.cat([d[:, ::2], d[:, 1::2]], 1)


def _groups_exchanged(d: Tensor) -> Tensor:
    return d.roll(d.shape[1] // 2, 1)


def _first_examples(g: Tensor, x: Tensor, w: Tensor, count: int) -> Tensor:
    return _of_weight(g[:count], x[:count], w, 1, 1, 1)


_kernels = (
    _bug(CONV, "kernel flipped for x", "transposed", input=lambda g, x, w: _of_input(g, _flipped(w), x)),
    CONV.result("kernel's gradient flipped", "transposed", weight=_flipped),
    SQUARE.result("height and width of the kernel's gradient exchanged", "transposed", weight=_mirrored),
    SQUARE.result("channels of the kernel's gradient exchanged", "transposed", weight=lambda d: d.transpose(0, 1)),
    _bug(
        SQUARE,
        "kernel's channels not exchanged for x",
        "transposed",
        input=lambda g, x, w: _of_input(g, w.transpose(0, 1), x, padding=0),
    ),
    _bug(CONV, "∂C/∂W by padding (2, 0) for (1, 1)", "position", weight=lambda g, x, w: _of_shifted_weight(g, x, w)),
    CONV.result("last column of the kernel's gradient 0", "position", weight=lambda d: F.pad(d[..., :-1], (0, 1))),
    CONV.result("corner of the kernel's gradient doubled", "position", weight=last_doubled),
    CONV.result("gradient of the border pixels dropped", "position", input=lambda d: F.pad(d[..., 1:], (1, 0))),
    CONV.result("first example negated", "sign", input=first_row_negated),
)

_windows = (
    _bug(SQUARE, "overlapping windows overwritten", "dropped term", input=_overwritten),
    _bug(
        STRIDED,
        "pixels right of the last window lost",
        "position",
        input=lambda g, x, w: _of_input(g, w, x, (2, 3)),
    ),
    STRIDED.result("one row too high", "position", input=lambda d: d.roll(1, 2)),
    _bug(DILATED, "dilation ignored for x", "wrong formula", input=lambda g, x, w: _of_input(g, w, x, dilation=1)),
    _bug(
        DILATED,
        "dilation ignored for W",
        "wrong formula",
        weight=lambda g, x, w: _of_weight(g, x, w, 1, 1, 1),
    ),
    _bug(
        POINTWISE,
        "stride of a 1 × 1 kernel ignored for W",
        "wrong formula",
        weight=lambda g, x, w: _of_weight(g, x, w, 1, 0, 1),
    ),
    GROUPED.result("groups exchanged for x", "position", input=_groups_exchanged),
    GROUPED.result("channels of the groups interleaved for x", "position", input=_interleaved),
    _bug(
        GROUPED,
        "groups exchanged for W",
        "position",
        weight=lambda g, x, w: _of_weight(g, _groups_exchanged(x), w, 1, 1, 1, groups=2),
    ),
)

_sums = (
    _bug(
        CONV,
        "kernel's gradient of the first example only",
        "reduction",
        weight=lambda g, x, w: _first_examples(g, x, w, 1),
    ),
    CONV.result("kernel's gradient averaged over the examples", "reduction", weight=lambda d: d / 3),
    _bug(CONV, "kernel's gradient of 32 examples only", "sizes", weight=lambda g, x, w: _first_examples(g, x, w, 32)),
    _bug(
        CONV,
        "kernel's gradient not summed over space",
        "reduction",
        weight=lambda g, x, w: torch.einsum("no,nckl->ockl", g[:, :, 0, 0], x[:, :, : w.shape[2], : w.shape[3]]),
    ),
    _bug(CONV, "bias gradient averaged over space", "reduction", bias=lambda g, x, w: g.mean((2, 3)).sum(0)),
    _bug(CONV, "bias gradient of one pixel", "reduction", bias=lambda g, x, w: g[:, :, 0, 0].sum(0)),
    _bug(
        CONV,
        "kernel's gradient in float32",
        "precision",
        weight=lambda g, x, w: _of_weight(rounded_to(g, torch.float32), x, w, 1, 1, 1),
    ),
    _bug(CONV, "ignores the strides of x", "layout", weight=lambda g, x, w: _of_weight(g, row_major(x), w, 1, 1, 1)),
    _bug(
        CONV,
        "kernel detached",
        "second derivative",
        input=lambda g, x, w: _of_input(g, w.detach(), x),
    ),
    CONV.methods(
        "kernel's tangent dropped",
        "forward mode",
        jvp=lambda ctx, x, w, b, *_: Convolution.forward(x, ctx.saved_tensors[1], b, 1, 1, 1, 1),
    ),
)

_transposed = (
    _bug(TRANSPOSED, "kernel flipped for x", "transposed", input=lambda g, x, w: F.conv2d(g, _flipped(w), None, 2, 1)),
    _bug(
        TRANSPOSED,
        "output padding cut off on the left",
        "position",
        input=lambda g, x, w: F.conv2d(F.pad(g[:, :, 1:, 1:], (0, 1, 0, 1)), w, None, 2, 1),
    ),
    TRANSPOSED.result("kernel's gradient flipped", "transposed", weight=_flipped),
    _bug(
        TRANSPOSED,
        "padding ignored for W",
        "position",
        weight=_of_unpadded_weight,
    ),
    _bug(
        TRANSPOSED,
        "bias gradient without the output padding",
        "position",
        bias=lambda g, x, w: g[..., :-1].sum((0, 2, 3)),
    ),
)

BUGS = (*_kernels, *_windows, *_sums, *_transposed)
ORIGINALS = (CONV, SQUARE, STRIDED, GROUPED, DILATED, POINTWISE, TRANSPOSED)
