"""Every function of the catalogue in any shape, layout and with any numbers: value and gradients are PyTorch's."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bp_torch.catalogue import CATALOGUE, Entry, Interval
from bp_torch.gradients.by_reference import by_reference, value_by_reference
from bp_torch.gradients.call import Call, as_calls, quiet
from bp_torch.gradients.case import CheckCase
from bp_torch.gradients.variants import expanded, resized, strided, transposed

LAYOUTS: Sequence[Callable[[Tensor], Tensor]] = (torch.Tensor.contiguous, strided, transposed, expanded)
FAR = 50.0


def numbers(domain: Interval) -> st.SearchStrategy[list[float]]:
    """A few numbers of an interval, which a Tensor then repeats: ties, zeros and whole numbers are not rare."""
    low, high = max(domain.low, -FAR), min(domain.high, FAR)
    whole = st.integers(int(low), int(high)).map(float)
    return st.lists(st.floats(low, high, allow_subnormal=False) | whole, min_size=1, max_size=7)


def filled(tensor: Tensor, palette: list[float]) -> Tensor:
    repeated = (palette * (tensor.numel() // len(palette) + 1))[: tensor.numel()]
    return tensor.new_tensor(repeated).reshape(tensor.shape)


@st.composite
def calls(draw: st.DrawFn, entry: Entry) -> Call:
    """A sample with other sizes, numbers and layouts."""
    (call,) = as_calls(entry.function, [draw(st.sampled_from(entry.samples))])
    sizes = {size for arg in call.args if isinstance(arg, Tensor) for size in arg.shape if size}
    changed = {size: draw(st.integers(0, 6), label=f"in place of size {size}") for size in sorted(sizes)}
    other = resized(call, changed, torch.Generator().manual_seed(0))
    assert other is not None
    palettes = [draw(numbers(entry.domain_of(position))) for position in other.names]
    inputs = [filled(x, palette) for x, palette in zip(other.inputs, palettes, strict=True)]
    return other.at([draw(st.sampled_from(LAYOUTS))(x) for x in inputs])


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
@given(data=st.data())
@settings(max_examples=60)
def test_value_and_gradients(entry: Entry, data: st.DataObject) -> None:
    call = data.draw(calls(entry))
    with quiet():
        assume(defined(call.of(entry.reference)))
        case = CheckCase(0, call, entry.reference, torch.Generator().manual_seed(0))
        gradients = [outcome for _, outcome in by_reference(case, case.given, case.upstream)]
        outcomes = [value_by_reference(case, case.given), *gradients]
    assert [outcome.message for outcome in outcomes if outcome.status != "passed"] == []


def defined(reference: Call) -> bool:
    """Whether PyTorch takes this call, forward and backward, and returns a finite value."""
    try:
        value = reference.value()
        reference.pull(value)
    except (IndexError, RuntimeError, ValueError):  # for a class that there is not, for instance
        return False
    return bool(value.isfinite().all())
