"""A check case: one sample of the function under test, with the values that several checks share."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients import hints
from bp_torch.gradients.call import Call, vjp
from bp_torch.gradients.comparison import compare
from bp_torch.gradients.differences import random_like, rms
from bp_torch.gradients.report import Outcome, comparison_outcome, failed, first_line
from bp_torch.gradients.variants import Variant, variants

OUTPUT = "output"
Outcomes = Iterator[tuple[Variant, Outcome]]
"""The results of a check: variants of the sample, each with its outcome."""


@dataclass(frozen=True)
class CheckCase:
    """One sample of a function under test."""

    sample: int  # its index in the list of samples
    call: Call  # the function and its arguments, in float64 if the function supports it
    reference: Callable[..., Any] | None  # a function known to be correct; None: use finite differences
    generator: torch.Generator  # source of all random numbers

    @cached_property
    def as_given(self) -> Variant:
        """The unmodified sample, as a variant."""
        return Variant("given", "as given", self.call)

    @property
    def oracle(self) -> Call:
        """The call of the reference, or of the function itself without a reference."""
        return self.call.of(self.reference or self.call.function)

    @cached_property
    def upstream(self) -> Tensor:
        """A random signed upstream gradient."""
        return self.random_like(self.as_given.value)

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        """The hand-written gradients for `upstream`."""
        return self.call.vjp(self.upstream)

    @cached_property
    def scales(self) -> Mapping[str, float]:
        """The magnitude of the output and of each gradient, from which tolerances for rounding are computed.

        The largest of three: at the sample, at inputs scaled to RMS 1, and at random inputs. At the sample a gradient
        can vanish, because a neuron is saturated or terms cancel, while its rounding errors remain. In float64, or
        without a reference, the magnitude is also at least that of a gradient without cancellation.
        """
        largest = _sizes(self.oracle, self.upstream)
        if self.call.dtype == torch.float64 or self.reference is None:
            largest = {name: max(size, self.scales_without_cancellation[name]) for name, size in largest.items()}
        for inputs in ([x / rms(x) for x in self.call.inputs], [self.random_like(x) for x in self.call.inputs]):
            try:
                sizes = _sizes(self.oracle.at(inputs), self.upstream)
            except Exception:  # outside the domain, a function may raise anything
                continue
            largest = {name: max(size, sizes[name]) for name, size in largest.items()}
        return largest

    @cached_property
    def scales_without_cancellation(self) -> Mapping[str, float]:
        """The magnitude of the output, and of each gradient if no terms cancelled: |g| |y| / |x|.

        Gradients that cancel for all inputs: those of a normalisation over two values, or of a bias before a
        normalisation.
        """
        output = max_abs(self.as_given.value)
        product = output * max_abs(self.upstream)
        return {OUTPUT: output, **{name: product / rms(x) for name, x in self.call.by_name.items()}}

    @cached_property
    def variants(self) -> list[tuple[Variant, Exception | None]]:
        """The variants inside the domain of the oracle, each with the exception that the function raises, if any."""
        results: list[tuple[Variant, Exception | None]] = []
        for variant in variants(self.call, self.generator):
            if self.reference is None and variant.kind == "constant":
                continue  # at ties, only a reference defines the correct gradient
            if self.reference is not None and not self.in_domain(variant.call):
                continue
            try:
                value = variant.value
            except Exception as error:  # the function supports fewer inputs than its reference
                results.append((variant, error))
                continue
            if self.reference is not None or value.isfinite().all():
                results.append((variant, None))
        return results

    def in_domain(self, call: Call) -> bool:
        """Whether the oracle returns a finite value for a call, and a reference finite gradients too."""
        oracle = call.of(self.oracle.function)
        try:
            if self.reference is None:
                return bool(oracle.value().isfinite().all())
            value, leaves = oracle.run()
            gradients = vjp(value, leaves, torch.ones_like(value))
        except Exception:  # outside the domain, a function may raise anything
            return False
        return all(bool(tensor.isfinite().all()) for tensor in (value, *gradients))

    def random_like(self, tensor: Tensor) -> Tensor:
        """Random numbers of both signs, not close to 0."""
        return random_like(tensor, self.generator)

    def compare(
        self, condition: str, actual: Mapping[str, Tensor], expected: Mapping[str, Tensor] | None = None
    ) -> Outcomes:
        """Compare Tensors computed under a condition with the expected ones, by default `gradients`."""
        variant = self.as_given.under(condition)
        for name, tensor in actual.items():
            truth = (self.gradients if expected is None else expected)[name]
            yield variant, comparison_outcome(compare(name, tensor, truth, truth.double(), scale=self.scales[name]))


def catch_errors(variant: Variant, outcomes: Outcomes) -> Outcomes:
    """Yield the outcomes; turn an exception, usually from hand-written code, into a failure at the variant."""
    try:
        yield from outcomes
    except Exception as error:
        yield variant, exception_outcome(error)


def exception_outcome(error: Exception) -> Outcome:
    """A failure caused by an exception, with the function and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    location = f"in {frame.name} ({Path(frame.filename).name}, line {frame.lineno})"
    return failed(f"raised {first_line(error)}, {location}", hint=hints.for_error(error))


def max_abs(tensor: Tensor) -> float:
    """The largest absolute value among the finite components."""
    return tensor.abs().nan_to_num(nan=0, posinf=0).max().item() if tensor.numel() else 0.0


def _sizes(call: Call, upstream: Tensor) -> dict[str, float]:
    output, leaves = call.run()
    gradients = call.named(vjp(output, leaves, upstream))
    return {name: max_abs(tensor) for name, tensor in {**gradients, OUTPUT: output.detach()}.items()}
