"""A case: one sample of a function under test, with what the checks share about it."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, pulled_back
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.differences import signed, typical
from bp_torch.gradients.report import Outcome, compared, failed, first_line
from bp_torch.gradients.variants import Variant, variants

OUTPUT = "output"
Pairs = Iterator[tuple[Variant, Outcome]]
"""What a check yields: a variant of the sample, and what was found there."""


@dataclass(frozen=True)
class CheckCase:
    """One sample of a function under test."""

    sample: int  # its number
    call: Call  # the function and its arguments, in float64 if the function takes that
    reference: Callable[..., Any] | None  # known to be right; without one, finite differences are the measure
    generator: torch.Generator  # of every random number

    @cached_property
    def given(self) -> Variant:
        """The sample itself, as a variant."""
        return Variant("given", "as given", self.call)

    @property
    def oracle(self) -> Call:
        """The call of the reference; of the function itself, if there is none."""
        return self.call.of(self.reference or self.call.function)

    @cached_property
    def upstream(self) -> Tensor:
        """A random signed upstream gradient."""
        return self.signed(self.given.value)

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        """The hand-written gradients for it, which must be the same under all circumstances."""
        return self.call.pull(self.upstream)

    @cached_property
    def scales(self) -> Mapping[str, float]:
        """The size of the output and of each gradient: the largest of here, at inputs of size 1, and at random ones.

        Here they may vanish, because a neuron is saturated or terms cancel, but their rounding errors do not. Some
        cancel everywhere: in float64, where there are digits to spare, or where no reference tells the usual error,
        none counts as smaller than where nothing does.
        """
        largest = _sizes(self.oracle, self.upstream)
        if self.call.dtype == torch.float64 or self.reference is None:
            largest = {name: max(size, self.uncancelled[name]) for name, size in largest.items()}
        for elsewhere in ([x / typical(x) for x in self.call.inputs], [self.signed(x) for x in self.call.inputs]):
            try:
                sizes = _sizes(self.oracle.at(elsewhere), self.upstream)
            except Exception:  # whatever a function raises outside of its domain
                continue
            largest = {name: max(size, sizes[name]) for name, size in largest.items()}
        return largest

    @cached_property
    def uncancelled(self) -> Mapping[str, float]:
        """The size of the output, and of each gradient where no terms cancel: |g| |y| / |x|.

        They do, whatever the numbers, behind the normalisation of two, or where a normalisation takes a bias away.
        """
        output = largest_of(self.given.value)
        passed_on = output * largest_of(self.upstream)
        return {OUTPUT: output, **{name: passed_on / typical(x) for name, x in self.call.by_name.items()}}

    @cached_property
    def variants(self) -> list[tuple[Variant, Exception | None]]:
        """The variants where the oracle is defined, each with what the function raises there, if anything."""
        found: list[tuple[Variant, Exception | None]] = []
        for variant in variants(self.call, self.generator):
            if self.reference is None and variant.kind == "constant":
                continue  # of equal numbers, only a reference knows what is right
            if self.reference is not None and not self.admits(variant.call):
                continue
            try:
                value = variant.value
            except Exception as error:  # it takes less than its reference, or, without one, than might be expected
                found.append((variant, error))
                continue
            if self.reference is not None or value.isfinite().all():
                found.append((variant, None))
        return found

    def admits(self, call: Call) -> bool:
        """Whether the oracle is defined at a point: it raises nothing, and is finite; so is a reference's gradient."""
        oracle = call.of(self.oracle.function)
        try:
            if self.reference is None:
                return bool(oracle.value().isfinite().all())
            value, leaves = oracle.run()
            found = pulled_back(value, leaves, torch.ones_like(value))
        except Exception:  # whatever a function raises outside of its domain
            return False
        return all(bool(tensor.isfinite().all()) for tensor in (value, *found))

    def signed(self, like: Tensor) -> Tensor:
        """Random numbers of both signs, none near 0."""
        return signed(like, self.generator)

    def compare(
        self, circumstances: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor] | None = None
    ) -> Pairs:
        """Compare what is found under special circumstances with what is expected, the gradients if not given."""
        variant = self.given.under(circumstances)
        for name, tensor in found.items():
            known = (self.gradients if expected is None else expected)[name]
            yield variant, compared(compare(name, tensor, known, known.double(), scale=self.scales[name]))


def attempt(variant: Variant, pairs: Pairs) -> Pairs:
    """These pairs; an exception that ends them, from hand-written code mostly, becomes a failure at the variant."""
    try:
        yield from pairs
    except Exception as error:
        yield variant, raised(error)


def raised(error: Exception) -> Outcome:
    """A failure that is an exception, with the line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"in {frame.name} ({Path(frame.filename).name}, line {frame.lineno})"
    return failed(f"raised {first_line(error)}, {place}", hint=hints.of_error(error))


def largest_of(tensor: Tensor) -> float:
    """The size of the largest finite component."""
    return tensor.abs().nan_to_num(nan=0, posinf=0).max().item() if tensor.numel() else 0.0


def _sizes(call: Call, upstream: Tensor) -> dict[str, float]:
    output, leaves = call.run()
    found = call.named(pulled_back(output, leaves, upstream))
    return {name: largest_of(tensor) for name, tensor in {**found, OUTPUT: output.detach()}.items()}
