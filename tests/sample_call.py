"""A call of a function with a sample of PyTorch's own tests: converted, laid out anew, and run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Results = dict[str, Tensor]


def numbers(shape: Sequence[int], seed: int) -> Tensor:
    """Random signed numbers of at most six binary digits, so that no dtype rounds them."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(-31, 31, tuple(shape), generator=generator) + 0.5).double() / 16


def unchanged(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class SampleCall:
    """A function and its arguments, flat.

    Each call seeds the random numbers and gets copies of the Tensors that require no gradient, because some functions
    update them: running statistics.
    """

    function: Callable[..., Any]
    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    structure: pytree.TreeSpec
    positions: tuple[int, ...]  # of the Tensors that require a gradient
    layout: Callable[[Tensor], Tensor] = unchanged
    seed: int = 0

    @classmethod
    def make(cls, function: Callable[..., Any], args: Iterable[Any], options: Mapping[str, Any]) -> "SampleCall":
        """A call of `function`, differentiated with respect to the Tensors that require a gradient."""
        paths, structure = pytree.tree_flatten_with_path((tuple(args), dict(options)))
        names = tuple(pytree.keystr(path[1:]).replace("][", ".").strip("[]").replace("'", "") for path, _ in paths)
        leaves = [leaf for _, leaf in paths]
        positions = tuple(i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.requires_grad)
        return cls(function, tuple(_map(torch.Tensor.detach, leaves)), names, structure, positions)

    def of(self, function: Callable[..., Any]) -> "SampleCall":
        """The same arguments for another function."""
        return replace(self, function=function)

    def to(self, *dtypes: torch.dtype) -> "SampleCall":
        """Floating-point numbers in another dtype: the first input in `dtypes[0]`, all others in `dtypes[-1]`."""
        first = self.positions[0]
        changed = [_cast(x, dtypes[0] if i == first else dtypes[-1]) for i, x in enumerate(self.leaves)]
        return replace(self, leaves=tuple(changed))

    def at(self, inputs: Sequence[Tensor]) -> "SampleCall":
        """The same call with other inputs."""
        leaves = list(self.leaves)
        for position, input in zip(self.positions, inputs, strict=True):
            leaves[position] = input
        return replace(self, leaves=tuple(leaves))

    def inputs(self) -> list[Tensor]:
        """New leaf Tensors that require a gradient."""
        return [self.layout(self.leaves[i].detach()).requires_grad_() for i in self.positions]

    def run(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Call the function; return its floating-point outputs, and its others with the constants after the call."""
        given = dict(zip(self.positions, inputs, strict=True))
        constants = {
            i: self.layout(x.clone()) for i, x in enumerate(self.leaves) if isinstance(x, Tensor) and i not in given
        }
        leaves = [{**given, **constants}.get(i, x) for i, x in enumerate(self.leaves)]
        args, options = pytree.tree_unflatten(leaves, self.structure)
        torch.default_generator.manual_seed(self.seed)  # torch.manual_seed walks the stack for each CUDA device
        outputs = [x for x in pytree.tree_leaves(self.function(*args, **options)) if isinstance(x, Tensor)]
        floating = [x for x in outputs if x.is_floating_point()]
        return floating, [x for x in outputs if not x.is_floating_point()] + list(constants.values())

    def upstream(self, outputs: Sequence[Tensor], seed: int = 1) -> list[Tensor]:
        """Upstream gradients, or other random numbers, for some Tensors."""
        return [self.layout(numbers(y.shape, seed + i).to(y.dtype)) for i, y in enumerate(outputs)]

    def is_random(self) -> bool:
        """Whether the function draws random numbers."""
        torch.default_generator.manual_seed(self.seed)  # torch.manual_seed walks the stack for each CUDA device
        before = torch.get_rng_state()
        with torch.no_grad():
            self.run(self.inputs())
        return not torch.equal(before, torch.get_rng_state())

    @property
    def forms(self) -> set[object]:
        """What a subset of samples should cover: the dimensions of each Tensor, each value of each option."""
        return {(name, _form(leaf)) for name, leaf in zip(self.names, self.leaves, strict=True)} | {self.names}

    @property
    def size(self) -> int:
        """The number of components."""
        return sum(x.numel() for x in self.leaves if isinstance(x, Tensor))

    def __str__(self) -> str:
        """The arguments, a Tensor by its shape."""
        parts = [f"{name}={_short(leaf)}" for name, leaf in zip(self.names, self.leaves, strict=True)]
        return ", ".join(parts)


def _map(change: Callable[[Tensor], Tensor], leaves: Iterable[Any]) -> list[Any]:
    return [change(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _form(value: Any) -> object:
    if isinstance(value, Tensor):
        return value.dim(), value.numel() == 0, value.dtype
    return repr(
        round(value, 2) if isinstance(value, float) else value
    )  # all small random numbers, such as an eps, once


def _short(value: Any) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}" if isinstance(value, Tensor) else repr(value)
