"""What the catalogue says of a function."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch import functional


@dataclass(frozen=True)
class Sample:
    """One call: positional arguments, Tensors of floating point in float64, and options."""

    args: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kink:
    """A call of numbers at which the function has no derivative, and what its backward takes for ∂/∂(the first)."""

    numbers: tuple[float, ...]
    slope: float
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def args(self) -> tuple[Tensor, ...]:
        """The numbers, as Tensors of one each."""
        return tuple(torch.tensor([number], dtype=torch.float64) for number in self.numbers)

    def __str__(self) -> str:
        """Where it is, and the slope there."""
        point, *target = self.numbers
        where = f"x − t = {point - target[0]:g}" if target else f"x = {point:g}"
        options = "".join(f", {name}={value:g}" for name, value in self.options.items())
        return f"{self.slope:g} at {where}{options}"


class Interval(NamedTuple):
    """The numbers that an argument is meant to be."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class BadCall:
    """A call that must fail as torch.nn.functional's does, with a message that names what is wrong."""

    args: tuple[Any, ...]
    error: type[Exception]
    names: str  # a regular expression that the message must match
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One function of `bp_torch.functional`, PyTorch's reference, and calls to compare them by."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    backward: str  # the equation in one line, for tables
    samples: tuple[Sample, ...]
    bad_calls: tuple[BadCall, ...]
    kinks: tuple[Kink, ...] = ()
    domain: tuple[Interval, ...] = ()  # of each argument; all real numbers for those that it does not reach to

    def domain_of(self, position: int) -> Interval:
        """The numbers that an argument is meant to be."""
        return self.domain[position] if position < len(self.domain) else Interval()


def entry(
    name: str,
    backward: str,
    calls: Iterable[Any],
    *bad_calls: BadCall,
    reference: Callable[..., Any] | None = None,
    refuses_lists: bool = False,
    **others: Any,
) -> Entry:
    """The entry of a function that PyTorch has under the same name, in torch.nn.functional or torch.

    Its calls are samples, or their positional arguments alone. If it refuses lists, one in place of the first Tensor is
    one more bad call. The others are fields of `Entry`.
    """
    others.setdefault("function", getattr(functional, name))
    reference = reference or getattr(torch.nn.functional, name, None) or getattr(torch, name)
    samples = tuple(call if isinstance(call, Sample) else Sample(call) for call in calls)
    if refuses_lists:
        bad_calls = (BadCall(([1.0], *samples[0].args[1:]), TypeError, ""), *bad_calls)
    return Entry(name=name, reference=reference, backward=backward, samples=samples, bad_calls=bad_calls, **others)


class Numbers:
    """Signed random numbers in float64, the same at every run."""

    def __init__(self, seed: int) -> None:
        """Start the sequence of `seed`."""
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal numbers of standard deviation `scale`."""
        return scale * torch.randn(shape, generator=self._generator, dtype=torch.float64)

    def inputs(self, large: float) -> tuple[Tensor, ...]:
        """Matrices, vectors, numbers, images; an empty, a transposed, an expanded one; tiny numbers, and large ones."""
        shapes = ((4, 3), (5,), (), (1, 1), (2, 3, 4), (2, 3, 2, 2), (0, 3))
        layouts = (self(3, 4).t(), self(1, 3).expand(4, 3))
        return (*(self(*shape) for shape in shapes), *layouts, self(4, 3, scale=1e-3), self(4, 3, scale=large))

    def classes(self, *shape: int, below: int) -> Tensor:
        """Class indices in [0, below), int64."""
        return torch.randint(below, shape, generator=self._generator)

    def probabilities(self, *shape: int, dim: int = 1) -> Tensor:
        """Positive numbers that sum to 1 along `dim`."""
        return self(*shape).softmax(dim)


def reduced(calls: Iterable[Sample], *, fully: int, **options: Any) -> tuple[Sample, ...]:
    """Calls of a cost with its reductions: so many of the first with each of the three, the others with one in turn."""
    ways = ("none", "sum", "mean")
    return tuple(
        Sample(call.args, {**call.options, **options, "reduction": way})
        for number, call in enumerate(calls)
        for way in (ways if number < fully else (ways[number % 3],))
    )
