"""Every function of the catalogue with random shapes, layouts and numbers, against PyTorch's value and gradients."""

import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bp_torch.catalogue import CATALOGUE, Interval, OpInfo
from bp_torch.gradients import compare
from bp_torch.gradients.axes import axes_of, resized
from bp_torch.gradients.call import Call, as_calls, vjp
from bp_torch.gradients.variants import expanded, strided, transposed

LAYOUTS: Sequence[Callable[[Tensor], Tensor]] = (torch.Tensor.contiguous, strided, transposed, expanded)
FAR = 50.0


def numbers(domain: Interval) -> st.SearchStrategy[list[float]]:
    """A few numbers of an interval, which a Tensor repeats; so ties, zeros and integers are common."""
    low, high = max(domain.low, -FAR), min(domain.high, FAR)
    whole = st.integers(int(low), int(high)).map(float)
    return st.lists(st.floats(low, high, allow_subnormal=False) | whole, min_size=1, max_size=7)


def filled(tensor: Tensor, palette: list[float]) -> Tensor:
    repeated = (palette * (tensor.numel() // len(palette) + 1))[: tensor.numel()]
    return tensor.new_tensor(repeated).reshape(tensor.shape)


@st.composite
def calls(draw: st.DrawFn, entry: OpInfo) -> Call:
    """A sample with random sizes, numbers and layouts."""
    (call,) = as_calls(entry.function, [draw(st.sampled_from(entry.samples))])
    axes = [axis for axis in axes_of(call) if not axis.reason]
    chosen = draw(st.lists(st.sampled_from(axes), unique_by=lambda axis: axis.name, max_size=2)) if axes else ()
    changed = {axis: draw(st.integers(0, 6), label=f"in place of {axis.name}") for axis in chosen}
    other = resized(call, changed, torch.Generator().manual_seed(0))
    assert other is not None
    palettes = [draw(numbers(entry.domain_of(position))) for position in other.names]
    inputs = [filled(x, palette) for x, palette in zip(other.inputs, palettes, strict=True)]
    return other.at([draw(st.sampled_from(LAYOUTS))(x) for x in inputs])


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
@given(data=st.data())
@settings(max_examples=12)
def test_value_and_gradients(entry: OpInfo, data: st.DataObject) -> None:
    call = data.draw(calls(entry))
    with warnings.catch_warnings(action="ignore"):
        expected = pytorchs(call.of(entry.reference))
        assume(expected is not None)
        actual = value_and_gradients(call)
    # terms that may cancel: the inputs, and the upstream gradient, which is at most 1
    scale = max(1.0, *(x.abs().max().item() if x.numel() else 0.0 for x in call.inputs))
    for name, tensor in actual.items():
        comparison = compare(name, tensor, expected[name], expected[name], scale=scale)
        assert comparison.passed, str(comparison)


def value_and_gradients(call: Call) -> dict[str, Tensor]:
    output, leaves = call.run()
    upstream = torch.cos(1.0 + torch.arange(output.numel(), dtype=output.dtype)).reshape(output.shape)
    gradients = dict(zip(call.by_name, vjp(output, leaves, upstream), strict=True))
    return {"value": output.detach(), **gradients}


def pytorchs(reference: Call) -> dict[str, Tensor] | None:
    """PyTorch's value and gradients, or None if it rejects this call or the value is not finite."""
    try:
        result = value_and_gradients(reference)
    except (IndexError, RuntimeError, ValueError):  # for a class index out of range, for instance
        return None
    return result if result["value"].isfinite().all() else None
