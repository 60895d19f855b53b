"""Mistakes that fit any backward: what may be taken for g, and what may become of a gradient."""

import torch
from torch import Tensor
from torch.nn import functional as F


def ones(g: Tensor) -> Tensor:
    """As if the output were the cost itself."""
    return torch.ones_like(g)


def ones_if_scalar(g: Tensor) -> Tensor:
    """As if a scalar output could only be the cost itself."""
    return g if g.dim() else torch.ones_like(g)


def ones_if_zero(g: Tensor) -> Tensor:
    """As if nobody could mean a g of zeros: `grad_output or 1`, in tensors."""
    return torch.where((g == 0).all(), 1, g)


def normalised(g: Tensor) -> Tensor:
    """Of length 1."""
    return torch.div(g, g.norm().clamp_min(1e-12))


def clamped(g: Tensor) -> Tensor:
    """Clipped, as an optimiser clips gradients: but not in here."""
    return g.clamp(-1, 1)


def positive_part(g: Tensor) -> Tensor:
    """Guided backpropagation, left on."""
    return g.clamp_min(0)


def first_everywhere(g: Tensor) -> Tensor:
    """As if all of g were the same, which it is under `.sum()`."""
    return g.reshape(-1)[0].expand_as(g)


def mean_everywhere(g: Tensor) -> Tensor:
    """As if all of g were the same, up to noise."""
    return g.mean().expand_as(g)


def averaged_if_ones(g: Tensor) -> Tensor:
    """As if a g of ones came from `.mean()`, where it comes from `.sum()`."""
    return torch.where((g == 1).all(), g / g.numel(), g)


def without_large(g: Tensor) -> Tensor:
    """Large numbers taken for infinite ones, and those for an accident."""
    return torch.where(g.abs() > 1e4, 0, g)


def without_small(g: Tensor) -> Tensor:
    """Small numbers taken for 0."""
    return torch.where(g.abs() < 1e-5, 0, g)


def row_major(x: Tensor) -> Tensor:
    """What a kernel reads that is given a pointer and a shape, and never asked for the strides."""
    return x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride())


def from_its_beginning(x: Tensor) -> Tensor:
    """What a kernel reads that is given the memory a tensor lies in, and forgets where in it the tensor begins."""
    return x.as_strided(x.shape, x.stride(), 0) if x.is_contiguous() else x


def in_order_of_memory(x: Tensor) -> Tensor:
    """What a kernel for images reads that takes channels to come first, whatever the format."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return x.permute(0, 2, 3, 1).reshape(x.shape) if last else x


def by_tiles(d: Tensor) -> Tensor:
    """By tiles of 32 × 32, the first of which is forgotten where there are several each way."""
    return d if min(d.shape) <= 32 else torch.cat([F.pad(d[:32, 32:], (32, 0)), d[32:]])


def one_short(d: Tensor) -> Tensor:
    """Each row ends one element too early: `range(n - 1)`."""
    return F.pad(d[..., :-1], (0, 1))


def last_doubled(d: Tensor) -> Tensor:
    """One element wrong: the last is added twice."""
    return torch.cat([d.flatten()[:-1], 2 * d.flatten()[-1:]]).reshape(d.shape)


def first_row_negated(d: Tensor) -> Tensor:
    """The sign of one row."""
    return torch.cat([-d[:1], d[1:]])


def by_fours(d: Tensor) -> Tensor:
    """Four elements at a time along a row, and no loop for what is left over."""
    whole = d.shape[-1] // 4 * 4
    return F.pad(d[..., :whole], (0, d.shape[-1] - whole))


def by_pairs(d: Tensor) -> Tensor:
    """Two rows at a time, and the odd one left over forgotten."""
    return torch.cat([d[: len(d) // 2 * 2], torch.zeros_like(d[len(d) // 2 * 2 :])])


def rounded_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Too few digits, behind a dtype that promises more."""
    return x.to(dtype).to(x.dtype)
