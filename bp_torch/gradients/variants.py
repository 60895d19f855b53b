"""Variants of a call: other values, sizes and memory layouts, which expose other mistakes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain

import torch
from torch import Tensor

from bp_torch.gradients.axes import MAX_COMPONENTS, Axis, axes_of, made, property_of, resized
from bp_torch.gradients.call import Call
from bp_torch.gradients.differences import rms
from bp_torch.gradients.tracing import is_integer

SCALES = (1e-6, 1e-3, 0.1, -1.0, 4.0, 30.0, 1000.0)
"""Factors for the inputs: tiny (twice), small, negated, large, saturated, and where exponentials overflow."""
TILED = 33
"""Size of all dimensions at once: more than one tile of a matrix product."""
KINK_POINTS = (0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0, -6.0)
"""Inputs at which activation functions have a kink, with both signs."""


@dataclass(frozen=True)
class Variant:
    """A call with the kind of variant and a label for the report."""

    kind: str
    label: str
    call: Call
    reason: str = ""  # why it is left out
    axis: str = ""  # the axis that has another size
    size: int = 0

    @cached_property
    def value(self) -> Tensor:
        """The output of the call."""
        return self.call.value()

    def under(self, condition: str) -> "Variant":
        """The same variant with a condition added to its label."""
        return replace(self, label=f"{self.label}, {condition}")


def variants(call: Call, generator: torch.Generator) -> Iterator[Variant]:
    """Every variant of a call, including those outside the function's domain."""
    for variant in chain(_of_values(call), _of_fixed_arguments(call), _of_sizes(call, generator)):
        yield replace(variant, call=_projected(variant.call)) if call.structure.projections else variant


def _projected(call: Call) -> Call:
    """The call with its constrained arguments in their sets: a projection may bend far outside of one."""
    projections = call.structure.projections
    return call.with_args(
        {position: project(call.args[position]).detach() for position, project in projections.items()}
    )


def _of_values(call: Call) -> Iterator[Variant]:
    for factor in SCALES:
        yield Variant("scaled", f"scaled by {factor:g}", _changed(call, partial(torch.mul, other=factor)))
    if call.structure.projections:
        return  # zeros and ties are at the boundary of the set, where the projection has no derivative
    for name, values in {"zeros": (0.0,), "kink points": KINK_POINTS}.items():
        yield Variant("kink", f"with {name}", _changed(call, partial(_with_values, values=values)))
    yield Variant("kink", "with ties", _changed(call, _tied))
    yield Variant("constant", "a row of zeros", _changed(call, partial(_with_first_row, value=0)))
    yield Variant("constant", "all zeros", _changed(call, torch.zeros_like))
    yield Variant("constant", "all equal", _changed(call, lambda x: torch.full_like(x, rms(x))))
    if len(call.inputs) + len(call.fixed) > 1:
        yield Variant("kink", "with equal inputs", call.at(_equal(call, step=2)))
        yield Variant("constant", "all inputs equal", call.at(_equal(call, step=1)))


def _of_fixed_arguments(call: Call) -> Iterator[Variant]:
    """Zeros in the fixed numbers, unless they sum to 1; full and empty rows of the masks."""
    floating = {i: x for i, x in call.fixed.items() if x.is_floating_point() and i < call.own and not property_of(x)}
    masks = {i: x for i, x in call.fixed.items() if x.dtype == torch.bool and x.dim()}
    if floating:
        zeros = {i: _with_values(x, (0.0,)) for i, x in floating.items()}
        yield Variant("kink", "with zeros in fixed arguments", call.with_args(zeros))
    sizes = {size for x in call.inputs for size in x.shape}
    if indices := {i: x for i, x in call.fixed.items() if _may_repeat(x, sizes)}:
        yield Variant("index", "with a repeated index", call.with_args({i: _repeated(x) for i, x in indices.items()}))
    for value in (True, False) if masks else ():
        rows = {i: _with_first_row(x, value) for i, x in masks.items()}
        yield Variant("mask", f"with a row of {value} in the mask", call.with_args(rows))


def _of_sizes(call: Call, generator: torch.Generator) -> Iterator[Variant]:
    axes = axes_of(call)
    for axis in axes:
        if axis.reason:
            yield Variant("size", f"{axis.name} changed", call, axis.reason)
            continue
        for new in axis.sizes:
            other = resized(call, {axis: new}, generator)
            reason = "" if other else f"more than {MAX_COMPONENTS:,} components"
            yield Variant("size", axis.label(new), other or call, reason, axis=axis.name, size=new)
    yield from _empty(call, axes, generator)
    tiled = {axis: TILED + i for i, axis in enumerate(axes) if not axis.allowed and not axis.reason}
    if len(tiled) > 1 and (other := resized(call, tiled, generator)):
        yield Variant("size", f"every size {TILED} or more", other)
    if call.structure.sample.make and not axes:
        yield from (Variant("size", f"made anew, {count}", made(call, {}, generator)) for count in (1, 2, 3))


def _empty(call: Call, axes: Sequence[Axis], generator: torch.Generator) -> Iterator[Variant]:
    """No examples: size 0 for the first dimension of the first input."""
    first = min(call.names)
    for axis in axes:
        is_batch = any(where[:2] == (first, 0) for where in axis.dims) and not (axis.allowed or axis.reason)
        if is_batch and (other := resized(call, {axis: 0}, generator)):
            yield Variant("empty", axis.label(0), other)


def _changed(call: Call, change: Callable[[Tensor], Tensor]) -> Call:
    """Change every input; what is symmetric, sorted, or sums to 1 stays so."""
    projections = [property_of(x) for x in call.inputs]
    changed = [change(x) for x in call.inputs]
    return call.at([project(x) if project else x for x, project in zip(changed, projections, strict=True)])


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


def _with_first_row(tensor: Tensor, value: float) -> Tensor:
    """Fill the first slice along the last dimension."""
    changed = tensor.detach().clone()
    if changed.numel():
        changed[(0,) * (tensor.dim() - 1)] = value
    return changed


def _may_repeat(x: Tensor, sizes: set[int]) -> bool:
    """Whether integers may be indices: unordered, and neither their sum nor their maximum is a size, as of lengths."""
    if not is_integer(x) or x.dim() != 1 or len(x) < 2 or bool((x.diff() >= 0).all()):
        return False
    return not sizes & {int(x.max()), int(x.sum())}


def _repeated(index: Tensor) -> Tensor:
    """The first index in the place of the second, too."""
    return torch.cat([index[:1], index[:1], index[2:]])


def _equal(call: Call, *, step: int) -> list[Tensor]:
    """Copy components of each input from the first argument of the same shape, fixed ones first."""
    floating = [x for x in call.fixed.values() if x.is_floating_point()]
    first: dict[torch.Size, Tensor] = {x.shape: x.reshape(-1) for x in reversed(floating)}
    equal = []
    for tensor in call.inputs:
        flat = tensor.detach().reshape(-1).clone()
        flat[::step] = first.setdefault(tensor.shape, flat)[::step]
        equal.append(flat.reshape(tensor.shape))
    return equal
