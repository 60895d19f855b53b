"""What an operation in bfloat16 and float16 is made of, to plant bugs in and to write correct kernels of.

`value` and `backward` compute in the dtype of their inputs. The reference computes in float32 (float64 for float64
inputs) and rounds once, to the dtype of the first input.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from planted.bug import Bug, CorrectFunction, Samples, function_of

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32

Value = Callable[..., Tensor]
Equation = Callable[..., Any]
Dtypes = torch.dtype | tuple[torch.dtype, ...]


def is_low(value: Tensor) -> bool:
    """Whether a Tensor is in bfloat16 or float16."""
    return value.dtype in (BF16, FP16)


def up(value: Tensor) -> Tensor:
    """Convert a low dtype to float32; float64 and indices stay."""
    return value.float() if is_low(value) else value


def single(value: Tensor) -> Tensor:
    """Convert any floating dtype to float32."""
    return value.float() if value.is_floating_point() else value


def rounded_once(value: Value) -> Value:
    """Compute in float32 or float64, and round the result to the dtype of the first input."""
    return lambda *inputs: value(*map(up, inputs)).to(inputs[0].dtype)


def without_float64(function: Value) -> Value:
    """Convert float64 inputs to float32 and the result back: right to float32's digits only."""

    def call(*inputs: Any) -> Tensor:
        if inputs[0].dtype != torch.float64:
            return function(*inputs)
        return function(*map(single, inputs)).to(torch.float64)

    return call


def only_low(function: Value, *dtypes: torch.dtype) -> Value:
    """Refuse other dtypes, as a kernel compiled for `dtypes` does."""

    def call(*inputs: Tensor) -> Tensor:
        if inputs[0].dtype not in dtypes:
            raise TypeError(f"expected {' or '.join(map(str, dtypes))}, got {inputs[0].dtype}")
        return function(*inputs)

    return call


def tiles(terms: Tensor, size: int) -> list[Tensor]:
    """Consecutive rows, `size` at a time; one empty tile if there are none."""
    return [terms[start : start + size] for start in range(0, max(1, len(terms)), size)]


def by_rows(terms: Iterable[Tensor], total: Tensor) -> Tensor:
    """A sum in the dtype of `total`, rounded after each term."""
    for term in terms:
        total = total + term.to(total.dtype)
    return total


@dataclass(frozen=True)
class Operation:
    """An operation, its gradients, and float64 inputs for a number of rows and columns."""

    name: str
    value: Value
    backward: Equation
    inputs: Callable[[int, int], tuple[Tensor, ...]]
    float32_output: bool = False
    """Whether the output of low dtypes stays in float32, as some losses do."""

    @property
    def reference(self) -> Value:
        """The value, computed in float32 and rounded once."""
        return (lambda *inputs: self.value(*map(up, inputs))) if self.float32_output else rounded_once(self.value)

    def right(self, g: Tensor, *inputs: Any) -> Any:
        """The gradients in float32, before rounding."""
        return self.backward(up(g), *map(up, inputs))

    def with_backward(self, backward: Equation) -> Value:
        """The value of the reference, with a backward (g, *inputs) -> gradients."""
        return function_of(lambda *inputs: (self.reference(*inputs), *inputs), backward)

    def in_low(self, equation: Equation) -> Equation:
        """An equation for low dtypes, and the correct gradients in others."""
        return lambda g, *inputs: (equation if is_low(inputs[0]) else self.right)(g, *inputs)

    def samples(self, dtypes: Dtypes, shape: tuple[int, int]) -> Samples:
        """One sample; `dtypes` is one for all floating inputs, or one for each."""
        inputs = self.inputs(*shape)
        each = dtypes if isinstance(dtypes, tuple) else (dtypes,) * len(inputs)
        pairs = zip(inputs, each, strict=True)
        return (tuple(x.to(dtype) if x.is_floating_point() else x for x, dtype in pairs),)

    def bug(
        self,
        name: str,
        dtypes: Dtypes,
        equation: Equation,
        *,
        shape: tuple[int, int] = (16, 64),
        accepts: tuple[torch.dtype, ...] = (),
        float64: bool = True,
    ) -> Bug:
        """The correct value, with a backward (g, *inputs) -> gradients that is wrong in a low dtype.

        Args:
            name: description of the bug.
            dtypes: of the sample.
            equation: the backward.
            shape: rows and columns of the sample.
            accepts: the only dtypes supported; by default all.
            float64: whether float64 inputs are computed in float64.
        """
        function = self.with_backward(equation)
        function = only_low(function, *accepts) if accepts else function
        function = function if float64 else without_float64(function)
        return Bug(
            f"{self._title(dtypes)}: {name}", "low precision", function, self.reference, self.samples(dtypes, shape)
        )

    def kernel(
        self,
        name: str,
        dtypes: Dtypes,
        function: Value,
        *,
        reference: Value | None = None,
        shape: tuple[int, int] = (16, 64),
    ) -> CorrectFunction:
        """A correct kernel, compared with `self.reference` unless given another."""
        title = f"{self._title(dtypes)}: {name}"
        return CorrectFunction(title, function, reference or self.reference, self.samples(dtypes, shape))

    def _title(self, dtypes: Dtypes) -> str:
        each = dtypes if isinstance(dtypes, tuple) else (dtypes,)
        return f"{self.name} in {' and '.join(dict.fromkeys(str(dtype).removeprefix('torch.') for dtype in each))}"
