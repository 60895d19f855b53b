"""Nested arguments and outputs: tuples, lists, mappings and dataclasses, as a flat list of leaves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


def children(value: Any) -> dict[Any, Any] | None:
    """The parts of a container by index, key or field name; None for a leaf."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | list):
        return dict(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value) if each.init}
    return None


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path, such as "[0]['mask']" or ".weight"."""
    parts = children(value)
    if parts is None:
        yield path, value
        return
    for key, part in parts.items():
        attribute = is_dataclass(value) and not isinstance(value, Mapping)
        yield from leaves(part, f"{path}.{key}" if attribute else f"{path}[{key!r}]")


def rebuild(template: Any, new: Iterator[Any]) -> Any:
    """A container like the template, with new leaves in the same order."""
    parts = children(template)
    if parts is None:
        return next(new)
    changed = {key: rebuild(part, new) for key, part in parts.items()}
    if isinstance(template, Mapping):
        return type(template)(changed)  # type: ignore[call-arg]
    if isinstance(template, tuple | list):
        return _sequence(template, list(changed.values()))
    return replace(template, **changed)


def float_tensors(value: Any) -> list[Tensor]:
    """The dense Tensors of real or complex floating-point numbers in a value; complex ones as pairs of real numbers."""
    found = []
    for _, leaf in leaves(value):
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
            if leaf.is_complex():
                found.append(torch.stack([leaf.real, leaf.imag], -1))
            elif leaf.is_floating_point():
                found.append(leaf)
    return found


def _sequence(template: Sequence[Any], values: list[Any]) -> Any:
    if isinstance(template, tuple) and hasattr(template, "_fields"):  # a namedtuple
        return type(template)(*values)
    return type(template)(values)  # type: ignore[call-arg]
