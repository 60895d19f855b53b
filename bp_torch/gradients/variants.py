"""Variants of a call: other values, sizes and memory layouts, which expose other mistakes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call
from bp_torch.gradients.differences import rms

SCALES = (1e-6, 1e-3, 0.1, -1.0, 4.0, 30.0, 1000.0)
"""Factors for the inputs: tiny (twice), small, negated, large, saturated, and where exponentials overflow."""
SIZES = (1, 2, 3, 8, 33, 256, 1030)
"""Sizes of a dimension: one, small, and around the block sizes of kernels."""
TILED = 33
"""Size of all dimensions at once: more than one tile of a matrix product."""
KINK_POINTS = (0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0, -6.0)
"""Inputs at which activation functions have a kink, with both signs."""
MAX_COMPONENTS = 20_000
"""Largest number of components of a Tensor in a variant."""


@dataclass(frozen=True)
class Variant:
    """A call with the kind of variant and a label for the report."""

    kind: str
    label: str
    call: Call

    @cached_property
    def value(self) -> Tensor:
        """The output of the call."""
        return self.call.value()

    def under(self, condition: str) -> "Variant":
        """The same variant with a condition added to its label."""
        return replace(self, label=f"{self.label}, {condition}")


def variants(call: Call, generator: torch.Generator) -> Iterator[Variant]:
    """Every variant of a call, including those outside the function's domain."""
    for factor in SCALES:
        yield Variant("scaled", f"scaled by {factor:g}", call.at([x * factor for x in call.inputs]))
    for name, values in {"zeros": (0.0,), "kink points": KINK_POINTS}.items():
        yield Variant("kink", f"with {name}", call.at([_with_values(x, values) for x in call.inputs]))
    yield Variant("kink", "with ties", call.at([_tied(x) for x in call.inputs]))
    yield Variant("constant", "all zeros", call.at([torch.zeros_like(x) for x in call.inputs]))
    yield Variant("constant", "all equal", call.at([torch.full_like(x, rms(x)) for x in call.inputs]))
    if len(call.inputs) > 1:
        yield Variant("kink", "with equal inputs", call.at(_equal(call.inputs)))
    for size in _sizes(call):
        for new in SIZES:
            if new != size and (other := resized(call, {size: new}, generator)):
                yield Variant("size", f"size {size} changed to {new}", other)
    tiled = {size: TILED + i for i, size in enumerate(_sizes(call))}
    if len(tiled) > 1 and (other := resized(call, tiled, generator)):
        yield Variant("size", f"every size {TILED} or more", other)


def strided(tensor: Tensor) -> Tensor:
    """The same values with a NaN between every two in memory."""
    gaps = torch.full_like(tensor, torch.nan)
    return torch.stack([gaps, tensor.detach()], dim=-1)[..., 1]


def transposed(tensor: Tensor) -> Tensor:
    """The same values, stored with the dimensions in reverse order."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.detach().permute(order).contiguous().permute(order)


def offset(tensor: Tensor) -> Tensor:
    """The same values, contiguous, with a storage offset of 1."""
    flat = tensor.detach().reshape(-1)
    return torch.cat([flat.new_full((1,), torch.nan), flat])[1:].view(tensor.shape)


def expanded(tensor: Tensor) -> Tensor:
    """The first row repeated for every row, with a stride of 0."""
    return tensor.detach()[:1].expand_as(tensor) if tensor.dim() and tensor.numel() else tensor.detach()


def channels_last(tensor: Tensor) -> Tensor:
    """The same values, in channels-last format if they have four dimensions."""
    tensor = tensor.detach()
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _with_values(tensor: Tensor, values: tuple[float, ...]) -> Tensor:
    """Replace every second component by the next of `values`, cyclically."""
    flat = tensor.detach().reshape(-1).clone()
    count = len(flat[::2])
    flat[::2] = flat.new_tensor([values[i % len(values)] for i in range(count)])
    return flat.reshape(tensor.shape)


def _tied(tensor: Tensor) -> Tensor:
    """Repeat every second component, so that each value occurs twice."""
    flat = tensor.detach().reshape(-1)
    return flat[::2].repeat_interleave(2)[: len(flat)].reshape(tensor.shape)


def _equal(inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Copy every second component of each input from the first input of the same shape."""
    first: dict[torch.Size, Tensor] = {}
    equal = []
    for tensor in inputs:
        flat = tensor.detach().reshape(-1).clone()
        flat[::2] = first.setdefault(tensor.shape, flat)[::2]
        equal.append(flat.reshape(tensor.shape))
    return equal


def _sizes(call: Call) -> list[int]:
    """The sizes of the arguments' dimensions, without those of module parameters."""
    own = call.args[: len(call.args) - len(call.parameters)]
    return sorted({size for arg in own if isinstance(arg, Tensor) for size in arg.shape if size})


def resized(call: Call, sizes: Mapping[int, int], generator: torch.Generator) -> Call | None:
    """Change every dimension of certain sizes, in every argument.

    Args:
        call: the call; a module's parameters keep their sizes.
        sizes: new sizes by old size, which is not 0.
        generator: source of the noise that keeps repeated rows distinct.

    Returns:
        The resized call; None if a Tensor would have more than `MAX_COMPONENTS` components.
    """
    own = len(call.args) - len(call.parameters)
    tensors = [value for value in (*call.args[:own], *call.options.values()) if isinstance(value, Tensor)]
    if any(math.prod(sizes.get(length, length) for length in tensor.shape) > MAX_COMPONENTS for tensor in tensors):
        return None
    args = tuple(_resize(arg, sizes, generator) for arg in call.args[:own]) + call.args[own:]
    options = {name: _resize(value, sizes, generator) for name, value in call.options.items()}
    return replace(call, args=args, options=options)


def _resize(value: Any, sizes: Mapping[int, int], generator: torch.Generator) -> Any:
    """Repeat or cut slices, then add relative noise, so that no two slices are equal."""
    if not isinstance(value, Tensor) or not sizes.keys() & set(value.shape):
        return value
    for dim, length in enumerate(value.shape):
        if length in sizes:
            indices = torch.arange(sizes[length], device=value.device) % length
            value = value.detach().index_select(dim, indices)
    if value.is_floating_point():
        noise = torch.rand(value.shape, generator=generator, dtype=torch.float64)
        value = value * (0.7 + 0.6 * noise).to(value)
    return value
