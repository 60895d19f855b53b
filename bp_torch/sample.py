"""A sample: the arguments of one call, and how they may change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Constraint = str | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sample:
    """The arguments of one call.

    Args:
        args: positional arguments. They may be nested: tuples, lists, dicts and dataclasses.
        options: keyword arguments. Their Tensors are checked if they require a gradient.
        axes: a name for each dimension of each Tensor, as in "batch channels, classes channels": one list per
            positional argument, separated by commas. Dimensions of one name change their size together, `2*half` stays
            a multiple of 2, `dim=2|8|64` takes one of these sizes, `_` and a number keep the size. Default:
            dimensions of one size change together.
        make: makes the positional arguments for other sizes, called with the size of each name in `axes`:
            `make(batch=8, channels=4)`. Default: slices of the Tensors are repeated or cut.
        constraint: the set that an input is in: "symmetric", "psd" (positive definite), "simplex", "unit" or "sorted"
            (each along the last dimension), "positive", "orthogonal", or a differentiable projection onto the set. One
            for every differentiable input, or a mapping from input names. Inputs are changed within the set, and
            gradients are compared along it.
        seed: of the random numbers that the function draws, set before each call. Default: it is found out whether
            the function is random.
        buffers: names of the arguments that the function updates in place by design, such as running statistics.
            Each call gets copies.
    """

    args: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    axes: str | None = None
    make: Callable[..., tuple[Any, ...]] | None = None
    constraint: Constraint | Mapping[str, Constraint] | None = None
    seed: int | None = None
    buffers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate; ValueError if an argument has another type."""
        kinds: dict[str, tuple[type, ...]] = {"args": (tuple, list), "options": (Mapping,), "axes": (str, type(None))}
        words = {"args": "a tuple of arguments", "options": "a dict of keyword arguments", "axes": "a string of names"}
        for name, types in kinds.items():
            if not isinstance(value := getattr(self, name), types):
                raise ValueError(f"{name} of a Sample must be {words[name]}, got {type(value).__name__}")
        if self.make is not None and not callable(self.make):
            raise ValueError(f"make of a Sample must be a function, got {type(self.make).__name__}")
