"""The types of catalogue entries, named as in PyTorch's own tests, and the random tensors of their samples."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.sample import Sample


@dataclass(frozen=True)
class Kink:
    """A point at which the function has no derivative, and the slope ∂y/∂(first argument) of its backward there."""

    point: tuple[float, ...]
    slope: float
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def args(self) -> tuple[Tensor, ...]:
        """One Tensor (1,) for each coordinate of the point."""
        return tuple(torch.tensor([number], dtype=torch.float64) for number in self.point)

    def __str__(self) -> str:
        """Slope and location, such as "0 at x = 0"."""
        x, *other = self.point
        where = "equal arguments" if other == [x] else f"x = {x:g}"
        options = "".join(f", {name}={value:g}" for name, value in self.options.items())
        return f"{self.slope:g} at {where}{options}"


class Interval(NamedTuple):
    """The valid values of an argument."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class ErrorInput:
    """A call that must raise what torch.nn.functional raises, with a message that names the mistake."""

    args: tuple[Any, ...]
    error_type: type[Exception]
    error_regex: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OpInfo:
    """One function of `bp_torch.functional`, PyTorch's reference, and the calls that compare them."""

    name: str
    function: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    backward: str  # the equation in one line, for tables
    samples: tuple[Sample, ...]
    error_inputs: tuple[ErrorInput, ...]
    kinks: tuple[Kink, ...] = ()
    domain: tuple[Interval, ...] = ()  # of the first arguments; the others take all real numbers

    def domain_of(self, position: int) -> Interval:
        """The valid values of the argument at `position`."""
        return self.domain[position] if position < len(self.domain) else Interval()


def op_info(
    name: str,
    backward: str,
    samples: Iterable[Any],
    *error_inputs: ErrorInput,
    reference: Callable[..., Any] | None = None,
    rejects_lists: bool = False,
    **fields: Any,
) -> OpInfo:
    """Build the entry of a function.

    Args:
        name: its name in `bp_torch.functional`.
        backward: its backward equation in one line.
        samples: `Sample`s, or tuples of positional arguments.
        error_inputs: calls that must raise.
        reference: PyTorch's function; by default the one of this name in torch.nn.functional or torch.
        rejects_lists: add an error input with a list in place of the first Tensor.
        fields: other fields of `OpInfo`.
    """
    fields.setdefault("function", getattr(functional, name))
    reference = reference or getattr(torch.nn.functional, name, None) or getattr(torch, name)
    calls = tuple(sample if isinstance(sample, Sample) else Sample(sample) for sample in samples)
    if rejects_lists:
        error_inputs = (ErrorInput(([1.0], *calls[0].args[1:]), TypeError, ""), *error_inputs)
    return OpInfo(name=name, reference=reference, backward=backward, samples=calls, error_inputs=error_inputs, **fields)


def by_autograd(builtin: Callable[..., Tensor], formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A PyTorch function without a correct second derivative, in float64 by autograd through its formula.

    PyTorch's function still raises for wrong arguments.
    """

    def detached(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    def reference(*args: Any, **options: Any) -> Tensor:
        builtin(*map(detached, args), **{name: detached(value) for name, value in options.items()})
        return (formula if args[0].dtype == torch.float64 else builtin)(*args, **options)

    return reference


class RandomTensors:
    """A seeded source of float64 Tensors with normally distributed numbers: `draw = RandomTensors(0); draw(4, 3)`."""

    def __init__(self, seed: int) -> None:
        """Seed the generator."""
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Draw a Tensor of mean 0 and standard deviation `scale`."""
        return scale * torch.randn(shape, generator=self._generator, dtype=torch.float64)

    def inputs(self, large: float) -> tuple[Tensor, ...]:
        """Draw inputs of many shapes, layouts and magnitudes: scalar to 4-D, empty, strided, tiny, large."""
        shapes = ((4, 3), (5,), (), (1, 1), (2, 3, 4), (2, 3, 2, 2), (0, 3))
        layouts = (self(3, 4).t(), self(1, 3).expand(4, 3))
        return (*(self(*shape) for shape in shapes), *layouts, self(4, 3, scale=1e-3), self(4, 3, scale=large))

    def classes(self, *shape: int, below: int) -> Tensor:
        """Draw class indices in [0, below), int64."""
        return torch.randint(below, shape, generator=self._generator)

    def probabilities(self, *shape: int, dim: int = 1) -> Tensor:
        """Draw positive numbers that sum to 1 along `dim`."""
        return self(*shape).softmax(dim)


def with_reductions(samples: Iterable[Sample], *, exhaustive: int, **options: Any) -> tuple[Sample, ...]:
    """Samples of a loss: the first `exhaustive` with each of the three reductions, the others with one in turn."""
    reductions = ("none", "sum", "mean")
    return tuple(
        Sample(sample.args, {**sample.options, **options, "reduction": reduction})
        for number, sample in enumerate(samples)
        for reduction in (reductions if number < exhaustive else (reductions[number % 3],))
    )
