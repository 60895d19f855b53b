"""Axes: dimensions of the arguments that change their size together."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import Call, CannotCheck
from bp_torch.gradients.constraints import PROJECTIONS, Projection
from bp_torch.gradients.containers import leaves
from bp_torch.gradients.report import first_line
from bp_torch.gradients.tracing import has_custom_backward, is_integer, trace

SIZES = (1, 2, 3, 8, 33, 256, 1030, 4097, 65_537)
"""Sizes of a dimension: one, small, and one or more beyond the block sizes of kernels."""
MAX_COMPONENTS = 100_000
"""Largest number of components of a Tensor in a variant, unless it has few columns."""
MAX_COLUMNS = 4
MAX_INTERMEDIATE = 2_000_000
"""Largest number of components of an intermediate."""
USUAL_SIZE = 1030
"""Largest size without a custom Function, or if it is not known how intermediates grow."""
_AXIS = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)(?:=(\d+(?:\|\d+)*))?|\d+")


@dataclass(frozen=True)
class Axis:
    """Dimensions that have one size, or multiples of it."""

    name: str
    size: int
    dims: tuple[tuple[int, int, int], ...]  # (position of the leaf, dimension, multiple)
    allowed: tuple[int, ...] = ()  # the only other sizes, if any
    smallest: int = 1
    largest: int = SIZES[-1]
    reason: str = ""  # why the size is not changed

    @property
    def sizes(self) -> list[int]:
        """The sizes to change to."""
        return [size for size in self.allowed or SIZES if size != self.size and self.smallest <= size <= self.largest]

    def label(self, new: int) -> str:
        """A new size, in words."""
        multiple = min(multiple for *_, multiple in self.dims) if self.name.startswith("size") else 1
        return f"{self.name} changed to {new * multiple}"


def axes_of(call: Call) -> list[Axis]:
    """The axes of a sample: named ones, or one for each size. Calls the function with larger sizes."""
    sample = call.structure.sample
    if sample.axes is not None:
        return [replace(axis, largest=_explored(call, axis)[1]) for axis in named_axes(call)]
    if sample.make is not None:
        return []
    hidden = [*trace(call).hidden, *(call.args[position] for position in _ordered(call))]
    axes = [Axis(f"size {size}", size, tuple(dims)) for size, dims in sorted(_equal_sizes(call).items())]
    return [_bounded(call, axis, hidden) for axis in axes]


def resized(call: Call, sizes: Mapping[Axis, int], generator: torch.Generator) -> Call | None:
    """Change the sizes of axes: slices are repeated or cut, unless the sample makes its arguments itself.

    Inputs get relative noise, so that no two slices are equal. Fixed arguments keep their values, but indices stay
    below the new size. What is symmetric, sorted, or sums to 1 stays so.

    Returns:
        The resized call; None if a Tensor would have more than `MAX_COMPONENTS` components.
    """
    sample = call.structure.sample
    if sample.make is not None:
        given = {axis.name: axis.size for axis in named_axes(call)}
        return made(call, given | {axis.name: new for axis, new in sizes.items()}, generator)
    args = dict(enumerate(call.args))
    for axis, new in sizes.items():
        for position, dim, multiple in axis.dims:
            indices = torch.arange(multiple * new, device=args[position].device) % (multiple * axis.size)
            if args[position].numel() // axis.size * new > max(MAX_COMPONENTS, MAX_COLUMNS * new):
                return None
            args[position] = args[position].detach().index_select(dim, indices)
    for position, old in enumerate(call.args):
        if position in call.names and args[position].shape != old.shape:
            args[position] = _noisy(args[position], generator)
        if isinstance(old, Tensor) and args[position].shape != old.shape and (project := property_of(old)):
            args[position] = project(args[position])
        if is_integer(old):
            args[position] = _in_range(args[position], sizes)
    return call.with_args(args)


def made(call: Call, sizes: Mapping[str, int], generator: torch.Generator) -> Call:
    """The call with arguments by the sample's own recipe."""
    sample = call.structure.sample
    if sample.make is None:
        raise ValueError("the sample has no recipe")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        try:
            new = [leaf for _, leaf in leaves(sample.make(**sizes))]
        except Exception as error:  # a mistake of the caller's
            raise CannotCheck(f"make(**{dict(sizes)}) raised {first_line(error)}") from None
    own = [leaf for _, leaf in leaves(sample.args)]
    if [*map(_kind, new)] != [*map(_kind, own)]:
        described = f"{', '.join(map(_kind, new))}, and not arguments like the sample's: {', '.join(map(_kind, own))}"
        raise CannotCheck(f"make(**{dict(sizes)}) returned {described}")
    for position, leaf in enumerate(new):
        if position in call.structure.complex_positions:
            new[position] = torch.view_as_real(leaf.detach())
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            new[position] = leaf.detach().to(call.args[position].dtype)
    return call.with_args(dict(enumerate(new)))


def _kind(leaf: Any) -> str:
    """A Tensor's kind of numbers and dimensions, or the type of another value."""
    if not isinstance(leaf, Tensor):
        return type(leaf).__name__
    return f"{'floating' if leaf.is_floating_point() else leaf.dtype} {leaf.dim()}-d Tensor"


def property_of(tensor: Tensor) -> Projection | None:
    """The projection that keeps a property of the values, if they have one: symmetric, sorted, orthogonal, sum 1."""
    if not tensor.is_floating_point() or tensor.dim() < 1 or tensor.shape[-1] < 2 or not tensor.isfinite().all():
        return None
    wide, tolerance = tensor.detach().double(), 8 * torch.finfo(tensor.dtype).eps
    if tensor.dim() > 1 and tensor.shape[-1] == tensor.shape[-2]:
        if torch.allclose(wide @ wide.mT, torch.eye(wide.shape[-1], dtype=torch.float64), rtol=0, atol=4 * tolerance):
            return PROJECTIONS["orthogonal"]
        if torch.allclose(wide, wide.mT, rtol=tolerance, atol=0):
            positive = bool((torch.linalg.eigvalsh(wide) > 0).all())
            return PROJECTIONS["psd" if positive else "symmetric"]
    if (wide >= 0).all() and torch.allclose(wide.sum(-1), wide.new_ones(()), rtol=tolerance * tensor.shape[-1], atol=0):
        return PROJECTIONS["simplex"]
    if tensor.shape[-1] > 3 and (wide.diff(dim=-1) > 0).all():
        return PROJECTIONS["sorted"]
    return None


def named_axes(call: Call) -> list[Axis]:
    """The axes that the sample names, in a pattern such as "batch 2*half, classes=2|8"."""
    pattern = call.structure.sample.axes
    if pattern is None:
        return []
    count = len([*leaves(call.structure.sample.args)])
    parts = [part.split() for part in pattern.split(",")]
    if len(parts) != count:
        raise CannotCheck(f"axes {pattern!r} has {len(parts)} lists of names, for {count} arguments")
    found: dict[str, Axis] = {}
    for position, names in enumerate(parts):
        arg = call.args[position]
        shape = _shape(call, position) if isinstance(arg, Tensor) else ()
        if len(names) != len(shape):
            raise CannotCheck(f"axes {pattern!r}: {' '.join(names)!r} does not fit a Tensor of shape {tuple(shape)}")
        for dim, (name, size) in enumerate(zip(names, shape, strict=True)):
            _add(found, name, size, (position, dim), pattern)
    return [axis for axis in found.values() if axis.size]


def _add(found: dict[str, Axis], text: str, size: int, where: tuple[int, int], pattern: str) -> None:
    parsed = _AXIS.fullmatch(text)
    if not parsed:
        raise CannotCheck(f"axes {pattern!r}: {text!r} must be a name, as in batch, 2*half, dim=2|8, or a number or _")
    factor, name, allowed = parsed.groups()
    if name is None and int(text) != size:
        raise CannotCheck(f"axes {pattern!r}: {text!r} does not fit size {size}")
    if name in (None, "_"):
        return
    multiple, sizes = int(factor or 1), tuple(map(int, allowed.split("|"))) if allowed else ()
    if 0 in (multiple, *sizes):
        raise CannotCheck(f"axes {pattern!r}: {text!r} must be positive")
    axis = found.get(name, Axis(name, size // multiple, (), sizes))
    if axis.size * multiple != size:
        raise CannotCheck(f"axes {pattern!r}: {text!r} does not fit size {size}, with {name} = {axis.size}")
    found[name] = replace(axis, dims=(*axis.dims, (*where, multiple)), allowed=axis.allowed or sizes)


def _shape(call: Call, position: int) -> torch.Size:
    """The shape of an argument; complex numbers are stored as pairs."""
    shape: torch.Size = call.args[position].shape
    return shape[:-1] if position in call.structure.complex_positions else shape


def _equal_sizes(call: Call) -> dict[int, list[tuple[int, int, int]]]:
    """The dimensions of each size, without the sizes that a fixed argument of another shape has."""
    shapes = [_shape(call, position) for position in call.names if position < call.own]
    first = next((shape[0] for shape in shapes if shape), None)
    every = {size for shape in shapes for size in shape}
    sizes: dict[int, list[tuple[int, int, int]]] = {}
    kept: set[int] = set()
    for position, arg in enumerate(call.args[: call.own]):
        if not isinstance(arg, Tensor):
            continue
        shape = _shape(call, position)
        if position in call.names or shape in shapes or arg.dtype == torch.bool or _follows(arg, first, every):
            for dim, size in enumerate(shape):
                sizes.setdefault(size, []).append((position, dim, 1))
        elif not is_integer(arg):
            kept |= {*shape}
    if not any(1 in shape for shape in shapes):
        kept.add(1)  # a fixed argument is broadcast along it
    return {size: dims for size, dims in sizes.items() if size and size not in kept}


def _follows(arg: Tensor, first: int | None, sizes: set[int]) -> bool:
    """Whether integers are one index or label per example, or unordered indices: not offsets, and not lengths."""
    if not is_integer(arg) or not arg.dim() or not arg.numel():
        return False
    ordered = arg.dim() == 1 and bool((arg.diff() >= 0).all())
    return arg.shape[0] == first or not (ordered or sizes & {int(arg.max()), int(arg.sum())})


def _ordered(call: Call) -> list[int]:
    """The positions of ordered integers, which may be offsets."""
    integers = {i: x for i, x in call.fixed.items() if is_integer(x) and x.dim() == 1 and len(x) > 1}
    return [i for i, x in integers.items() if bool((x.diff() >= 0).all())]


def _bounded(call: Call, axis: Axis, hidden: Sequence[Tensor]) -> Axis:
    """An axis with the sizes that the function can take, as far as integers and intermediates show them."""
    own = {position for position, dim, _ in axis.dims if dim == 0}
    fixed = [x for position, x in call.fixed.items() if position not in own and is_integer(x)]
    lengths = [x for x in (*fixed, *hidden) if x.dim() and x.numel()]
    if any(axis.size in (int(x.max()), int(x.sum())) for x in lengths):
        return replace(axis, reason="integers may be lengths along it")
    multiple, limit = _explored(call, axis)
    if not has_custom_backward(call):
        limit = min(limit, USUAL_SIZE)  # PyTorch's kernels are not tested for their blocks
    if not multiple:
        return replace(axis, reason="the function takes no other size")
    largest = max((index for x in hidden if (index := int(x.max())) < axis.size), default=0)
    dims = tuple((position, dim, multiple) for position, dim, _ in axis.dims)
    smallest, limit = 1 + largest // multiple, limit // multiple
    return replace(axis, size=axis.size // multiple, dims=dims, smallest=smallest, largest=limit)


def _in_range(tensor: Tensor, sizes: Mapping[Axis, int]) -> Tensor:
    """Reduce indices that an axis had and no longer has; negative ones, as of ignored labels, stay."""
    for axis, new in sizes.items():
        multiple = max(multiple for *_, multiple in axis.dims)
        if tensor.numel() and new * multiple <= int(tensor.max()) < axis.size * multiple:  # 256 is 0 in uint8
            tensor = torch.where(tensor < 0, tensor, tensor % max(new * multiple, 1))
    return tensor


def _noisy(tensor: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    return tensor * (0.7 + 0.6 * noise).to(tensor)


def _explored(call: Call, axis: Axis) -> tuple[int, int]:
    """What calls with two and four times the size show.

    Returns:
        The number of parts that the function splits the axis into, as `chunk(2)` does: 1 if none is seen, 0 if the
        function does not take the sizes. And the largest size for which no intermediate exceeds `MAX_INTERMEDIATE`
        components, if they go on growing as they do.
    """
    factors = [factor for factor in range(2, axis.size + 1) if axis.size % factor == 0]
    records = []
    for scale in (2, 4):
        other = resized(call, {axis: scale * axis.size}, torch.Generator().manual_seed(0))
        if other is None:
            return 1, scale * axis.size
        records.append(trace(other))
        parts = records[-1].sizes - {size for arg in other.args if isinstance(arg, Tensor) for size in arg.shape}
        factors = [factor for factor in factors if scale * axis.size // factor in parts]
    works = any(record.completed for record in records)
    return (math.lcm(*factors) if works else 0), _limit(axis.size, *(record.largest for record in records))


def _limit(size: int, twice: int, four_times: int) -> int:
    """The size at which a number of components exceeds `MAX_INTERMEDIATE`, from two values; it grows like a power."""
    exponent = math.log2(max(four_times, 1) / max(twice, 1))
    if exponent <= 0:
        return max(SIZES)
    return int(4 * size * (MAX_INTERMEDIATE / four_times) ** (1 / exponent))
