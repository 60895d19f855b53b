"""Mistakes for any backward: wrong upstream gradients g, and wrong results d."""

import torch
from torch import Tensor
from torch.nn import functional as F


def ones(g: Tensor) -> Tensor:
    """Ignore g, as if the output were the cost."""
    return torch.ones_like(g)


def ones_if_scalar(g: Tensor) -> Tensor:
    """Ignore g of a scalar output, as if it were the cost."""
    return g if g.dim() else torch.ones_like(g)


def ones_if_zero(g: Tensor) -> Tensor:
    """Replace a g of zeros by ones: `grad_output or 1` for Tensors."""
    return torch.where((g == 0).all(), 1, g)


def normalised(g: Tensor) -> Tensor:
    """Divide g by its norm."""
    return torch.div(g, g.norm().clamp_min(1e-12))


def clamped(g: Tensor) -> Tensor:
    """Clip g, as an optimiser clips gradients."""
    return g.clamp(-1, 1)


def positive_part(g: Tensor) -> Tensor:
    """Drop negative g, as guided backpropagation does."""
    return g.clamp_min(0)


def first_everywhere(g: Tensor) -> Tensor:
    """Use one element of g for all; correct under `.sum()`."""
    return g.reshape(-1)[0].expand_as(g)


def mean_everywhere(g: Tensor) -> Tensor:
    """Use the mean of g for all."""
    return g.mean().expand_as(g)


def averaged_if_ones(g: Tensor) -> Tensor:
    """Average a g of ones, as if it came from `.mean()`."""
    return torch.where((g == 1).all(), g / g.numel(), g)


def without_large(g: Tensor) -> Tensor:
    """Replace large g by 0, as if it had overflowed."""
    return torch.where(g.abs() > 1e4, 0, g)


def without_small(g: Tensor) -> Tensor:
    """Replace small g by 0."""
    return torch.where(g.abs() < 1e-5, 0, g)


def row_major(x: Tensor) -> Tensor:
    """What a kernel reads that takes a pointer and a shape, but ignores the strides."""
    return x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride())


def without_offset(x: Tensor) -> Tensor:
    """What a kernel reads that ignores the storage offset."""
    return x.as_strided(x.shape, x.stride(), 0) if x.is_contiguous() else x


def channels_first(x: Tensor) -> Tensor:
    """What a kernel for images reads that assumes channels-first memory."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return x.permute(0, 2, 3, 1).reshape(x.shape) if last else x


def tiled(d: Tensor) -> Tensor:
    """Tiles of 32 × 32; the first one is missing if there are several in both dimensions."""
    return d if min(d.shape) <= 32 else torch.cat([F.pad(d[:32, 32:], (32, 0)), d[32:]])


def one_short(d: Tensor) -> Tensor:
    """The last element of each row is missing: `range(n - 1)`."""
    return F.pad(d[..., :-1], (0, 1))


def last_doubled(d: Tensor) -> Tensor:
    """The last element is added twice."""
    return torch.cat([d.flatten()[:-1], 2 * d.flatten()[-1:]]).reshape(d.shape)


def first_row_negated(d: Tensor) -> Tensor:
    """The first row is negated."""
    return torch.cat([-d[:1], d[1:]])


def in_fours(d: Tensor) -> Tensor:
    """Four elements of a row at a time, without the remainder."""
    whole = d.shape[-1] // 4 * 4
    return F.pad(d[..., :whole], (0, d.shape[-1] - whole))


def in_pairs(d: Tensor) -> Tensor:
    """Two rows at a time, without the remaining one."""
    return torch.cat([d[: len(d) // 2 * 2], torch.zeros_like(d[len(d) // 2 * 2 :])])


def rounded_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to a lower precision, but keep the dtype."""
    return x.to(dtype).to(x.dtype)
