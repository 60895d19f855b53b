"""Variants of a call: the same at other numbers, sizes and layouts, where other mistakes show."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call
from bp_torch.gradients.differences import typical

SCALES = (1e-6, 1e-3, 0.1, -1.0, 4.0, 30.0, 1000.0)
"""Tiny (twice), small, negated, large, saturated, and where exponentials overflow."""
SIZES = (1, 2, 3, 8, 33, 256, 1030)
"""Of a dimension: alone, small, and the blocks that kernels are written in: one and a rest, whole ones, very many."""
TILED = 33
"""Of all dimensions at once: more than one tile of a product of matrices."""
LANDMARKS = (0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0, -6.0)
"""Where activation functions bend."""
MOST_COMPONENTS = 20_000
"""Larger variants are not made."""


@dataclass(frozen=True)
class Variant:
    """A call, the kind of variant it is, and a label that says which."""

    kind: str
    label: str
    call: Call

    @cached_property
    def value(self) -> Tensor:
        """What the call returns."""
        return self.call.value()

    def under(self, circumstances: str) -> "Variant":
        """The same variant under special circumstances, for the report."""
        return replace(self, label=f"{self.label}, {circumstances}")


def variants(call: Call, generator: torch.Generator) -> Iterator[Variant]:
    """Every variant of a call; whether it lies in the function's domain is the caller's to find out."""
    for factor in SCALES:
        yield Variant("scaled", f"scaled by {factor:g}", call.at([x * factor for x in call.inputs]))
    for name, values in {"zeros": (0.0,), "landmarks": LANDMARKS}.items():
        yield Variant("kink", f"with {name}", call.at([_sprinkled(x, values) for x in call.inputs]))
    yield Variant("kink", "with ties", call.at([_tied(x) for x in call.inputs]))
    yield Variant("constant", "all zeros", call.at([torch.zeros_like(x) for x in call.inputs]))
    yield Variant("constant", "all alike", call.at([torch.full_like(x, typical(x)) for x in call.inputs]))
    if len(call.inputs) > 1:
        yield Variant("kink", "with equal inputs", call.at(_equal(call.inputs)))
    for size in _sizes(call):
        for new in SIZES:
            if new != size and (other := resized(call, {size: new}, generator)):
                yield Variant("size", f"size {size} made {new}", other)
    tiled = {size: TILED + i for i, size in enumerate(_sizes(call))}
    if len(tiled) > 1 and (other := resized(call, tiled, generator)):
        yield Variant("size", f"every size made {TILED} or more", other)


def strided(tensor: Tensor) -> Tensor:
    """The same numbers with gaps between them, which hold NaN."""
    gaps = torch.full_like(tensor, torch.nan)
    return torch.stack([gaps, tensor.detach()], dim=-1)[..., 1]


def transposed(tensor: Tensor) -> Tensor:
    """The same numbers, stored with the last dimension first."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.detach().permute(order).contiguous().permute(order)


def displaced(tensor: Tensor) -> Tensor:
    """The same numbers, contiguous, a little behind the beginning of their memory."""
    flat = tensor.detach().reshape(-1)
    return torch.cat([flat.new_full((1,), torch.nan), flat])[1:].view(tensor.shape)


def expanded(tensor: Tensor) -> Tensor:
    """The first row in place of every row, by a stride of 0."""
    return tensor.detach()[:1].expand_as(tensor) if tensor.dim() and tensor.numel() else tensor.detach()


def channels_last(tensor: Tensor) -> Tensor:
    """The same images, stored with the channels last."""
    tensor = tensor.detach()
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _sprinkled(tensor: Tensor, values: tuple[float, ...]) -> Tensor:
    """Every other number replaced by one of `values`, in turn."""
    flat = tensor.detach().reshape(-1).clone()
    places = range(0, len(flat), 2)
    flat[::2] = flat.new_tensor([values[i % len(values)] for i in range(len(places))])
    return flat.reshape(tensor.shape)


def _tied(tensor: Tensor) -> Tensor:
    """Each number twice."""
    flat = tensor.detach().reshape(-1)
    return flat[::2].repeat_interleave(2)[: len(flat)].reshape(tensor.shape)


def _equal(inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Every other number of each input taken from the first input of its shape."""
    first: dict[torch.Size, Tensor] = {}
    equal = []
    for tensor in inputs:
        flat = tensor.detach().reshape(-1).clone()
        flat[::2] = first.setdefault(tensor.shape, flat)[::2]
        equal.append(flat.reshape(tensor.shape))
    return equal


def _sizes(call: Call) -> list[int]:
    """The sizes of dimensions that are the arguments' own."""
    own = call.args[: len(call.args) - len(call.parameters)]
    return sorted({size for arg in own if isinstance(arg, Tensor) for size in arg.shape if size})


def resized(call: Call, sizes: Mapping[int, int], generator: torch.Generator) -> Call | None:
    """Every dimension of some sizes, none of them 0, given others in all arguments alike; None if that grows too large.

    A module's parameters keep their sizes; the generator is of what tells repeated numbers apart.
    """
    own = len(call.args) - len(call.parameters)
    tensors = [value for value in (*call.args[:own], *call.options.values()) if isinstance(value, Tensor)]
    if any(math.prod(sizes.get(length, length) for length in tensor.shape) > MOST_COMPONENTS for tensor in tensors):
        return None
    args = tuple(_resize(arg, sizes, generator) for arg in call.args[:own]) + call.args[own:]
    options = {name: _resize(value, sizes, generator) for name, value in call.options.items()}
    return replace(call, args=args, options=options)


def _resize(value: Any, sizes: Mapping[int, int], generator: torch.Generator) -> Any:
    """Rows repeated or cut; repeated numbers vary a little, so that no two rows are alike."""
    if not isinstance(value, Tensor) or not sizes.keys() & set(value.shape):
        return value
    for dim, length in enumerate(value.shape):
        if length in sizes:
            places = torch.arange(sizes[length], device=value.device) % length
            value = value.detach().index_select(dim, places)
    if value.is_floating_point():
        noise = torch.rand(value.shape, generator=generator, dtype=torch.float64)
        value = value * (0.7 + 0.6 * noise).to(value)
    return value
