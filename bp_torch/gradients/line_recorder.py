"""Record the Tensors and floats that the lines of a Python function assign, or replace them by others."""

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.containers import leaves

MAX_STEPS = 100


class TooMany(Exception):
    """A loop assigns more Tensors than can be examined."""


@dataclass(frozen=True, eq=False)
class Step:
    """A Tensor or a float that a line assigned, or returned."""

    code: CodeType
    line: int
    name: str  # of the variable; empty for a returned Tensor
    value: Tensor  # a copy


class LineRecorder:
    """A context in which every Tensor assigned by a line of the given functions is recorded.

    Attributes:
        steps: the assignments, in order. A change in place is one too.
    """

    def __init__(self, codes: Collection[CodeType], changes: Mapping[int, Tensor] | None = None) -> None:
        """Record these functions.

        Args:
            codes: the code of the functions.
            changes: values that replace those of some steps, by the number of the step.
        """
        self.codes, self.changes = codes, changes or {}
        self.steps: list[Step] = []

    def __enter__(self) -> "LineRecorder":
        """Begin."""
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        """End. There was no trace function before: see `backward_lines`."""
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Follow the opcodes of a function to record; a line may hold several assignments."""
        if frame.f_code not in self.codes:
            return None
        frame.f_trace_opcodes, line = True, frame.f_lineno
        seen = {name: _Seen(x) for name, x, *_ in _variables(frame.f_locals)}

        def follow(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal line
            self._compare(frame, seen, line)
            line = frame.f_lineno
            for _, value in leaves(arg) if event == "return" else ():
                if isinstance(value, Tensor):
                    self._add(Step(frame.f_code, line, "", _copy(value)))
            return follow

        return follow

    def _compare(self, frame: FrameType, seen: dict[str, "_Seen"], line: int) -> None:
        """Record the variables that are new, or changed since the last opcode."""
        for name, value, container, key in [*_variables(frame.f_locals)]:
            if name in seen and seen[name].is_same_object(value):
                continue
            if name not in seen or not seen[name].is_equal(value):
                if (new := self.changes.get(len(self.steps))) is not None:
                    in_place = name in seen and seen[name].value is value
                    value = container[key] = _replaced(value, new, in_place=in_place)
                self._add(Step(frame.f_code, line, name, _copy(value)))
            seen[name] = _Seen(value)

    def _add(self, step: Step) -> None:
        if len(self.steps) >= MAX_STEPS:
            raise TooMany
        self.steps.append(step)


class _Seen:
    """A variable's value at the last opcode."""

    def __init__(self, value: Tensor | float) -> None:
        self.value, self.version, self.copy = value, _version(value), _copy(value)

    def is_same_object(self, value: Tensor | float) -> bool:
        """Whether a value is the same object, and not changed in place."""
        return value is self.value and _version(value) == self.version

    def is_equal(self, value: Tensor | float) -> bool:
        """Whether an object has the same numbers as before: in-place changes count for all views of a Tensor."""
        return value is self.value and torch.equal(_copy(value), self.copy)


def _variables(variables: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    """The Tensors and floats among local variables and in their lists: name, value, and the container with its key."""
    for name, value in variables.items():
        if isinstance(value, Tensor | float):
            yield name, value, variables, name
        elif isinstance(value, list):
            yield from ((f"{name}[{i}]", x, value, i) for i, x in enumerate(value) if isinstance(x, Tensor | float))


def _replaced(value: Tensor | float, new: Tensor, *, in_place: bool) -> Tensor | float:
    """A new value of a variable; in the same object if that was changed, for the operation will assign it again."""
    if not isinstance(value, Tensor):
        return new.item()
    if not in_place:
        return new.clone()
    value.detach().copy_(new)
    return value


def _version(value: Tensor | float) -> int:
    return value._version if isinstance(value, Tensor) else 0


def _copy(value: Tensor | float) -> Tensor:
    return value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
