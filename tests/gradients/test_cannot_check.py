"""Invalid functions, samples and references raise CannotCheck with a message of one line."""

import sys
from itertools import count
from typing import Any

import pytest
import torch
from gradients.checking import numbers
from planted.custom import OldStyle
from torch import Tensor

from bp_torch.gradients import CannotCheck, check_gradients
from bp_torch.sample import Sample

COUNT = count(1)
"""Numbers that no seed repeats."""


def reference_of_another_shape(x: Tensor) -> Tensor:
    return x.sum()


@pytest.mark.parametrize(
    ("function", "samples", "reference", "message"),
    [
        (OldStyle, [], None, "no samples"),
        (OldStyle, torch.ones(3), None, "list of argument tuples, not Tensor"),
        (OldStyle, [torch.ones(3)], None, "sample 0 must be a tuple of arguments, not Tensor"),
        (OldStyle, [(torch.arange(3),)], None, "sample 0 has no input that needs a gradient"),
        (OldStyle, [(torch.ones(3),), (2.0,)], None, "sample 1 has no input that needs a gradient"),
        (OldStyle, [(torch.zeros(0),)], None, "every input is empty"),
        (lambda x: None, [(torch.ones(3),)], None, "sample 0: the function returns NoneType, not a dense"),
        (lambda x: x.long(), [(torch.ones(3),)], None, r"returns torch\.int64 \(torch\.strided\), not a dense"),
        (lambda x: x / 0, [(torch.ones(3),)], None, "the function returns inf; finite differences need finite"),
        (lambda x: x * torch.nan, [(torch.ones(3),)], torch.square, "returns nan, where the reference is finite"),
        (lambda x: x.no_such(), [(torch.ones(3),)], None, "the function raised AttributeError"),
        (OldStyle, [(torch.ones(3), 2)], None, "the function raised TypeError"),
        (OldStyle, [(torch.ones(3),)], torch.add, "the reference raised TypeError"),
        (OldStyle, [(torch.ones(3),)], reference_of_another_shape, r"returns shape \(3,\), but the reference \(\)"),
        (lambda x: x.half(), [(numbers(3),)], torch.square, r"dtype torch\.float16, but the reference torch\."),
        (torch.square, [(numbers(3),)], lambda x: x.detach() ** 2, "the reference has no gradient: its"),
        (torch.square, [(numbers(3),)], lambda x: x.floor_divide(2), "the reference has no gradient: Runtime"),
        (torch.sum, [Sample((), {"input": numbers(3)})], None, "sample 0 has no input that needs a gradient"),
        (torch.sum, [(numbers(3, 3).to_sparse(),)], None, r"'argument 0' is torch.sparse_coo: only dense"),
        (torch.cat, [([numbers(2, 2), numbers(2, 2).to_sparse()],)], None, r"'argument 0\[1\]' is torch.sparse_coo"),
        (torch.Tensor.to_sparse, [(numbers(3),)], None, r"returns torch\.float64 \(torch\.sparse_coo\), not a"),
        (lambda x: sys.exit(0), [(torch.ones(3),)], None, "the function raised SystemExit: 0"),
        (lambda x: x[:0], [(torch.ones(3),)], None, "every output is empty"),
        (lambda x: x * next(COUNT), [(torch.ones(3),)], None, "different values in two calls with the same random"),
        (torch.square, [(torch.ones(3),)], lambda x: x * next(COUNT), "reference is not deterministic"),
        (torch.nn.Linear(3, 2), [(torch.ones(3),)], torch.nn.ReLU(), r"the reference's parameters are \[\], not \['b"),
        (3, [(torch.ones(3),)], None, "the function cannot be called: it is int"),
        (OldStyle, [(torch.ones(3),)], 3, "the reference cannot be called: it is int"),
        (torch.nn.Linear, [(torch.ones(3),)], None, "Linear is a class: pass an instance"),
        (torch.tanh, [(torch.ones(3, device="meta"),)], None, "'argument 0' is on the meta device"),
        (torch.tanh, [Sample((numbers(3, 4),), constraint="psd")], None, "sample 0: the constraint raised Runtime"),
        (torch.tanh, [Sample((numbers(3),), constraint=torch.sum)], None, "sample 0: the constraint of 'argument 0'"),
        (torch.tanh, [Sample((numbers(3, 4),), axes="0*a b")], None, "sample 0: axes '0.a b': '0.a' must be positive"),
        (torch.tanh, [Sample((numbers(3, 4),), axes="5 b")], None, "sample 0: axes '5 b': '5' does not fit size 3"),
        (torch.tanh, [Sample((numbers(3),), axes="n", make=lambda m: 1)], None, r"make\(.*\) raised TypeError"),
        (torch.tanh, [Sample((numbers(3),), axes="n", make=lambda n: [n])], None, "returned int, and not arguments"),
    ],
)  # fmt: skip
def test_the_error_names_the_cause(function: Any, samples: Any, reference: Any, message: str) -> None:
    with pytest.raises(CannotCheck, match=message) as caught:
        check_gradients(function, samples, reference=reference)
    assert "\n" not in str(caught.value)
