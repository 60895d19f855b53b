"""Invalid functions, samples and references raise CannotCheck with a message of one line."""

import sys
from typing import Any

import pytest
import torch
from planted.custom import OldStyle
from torch import Tensor

import bp_torch.functional as F
from bp_torch.catalogue import Sample
from bp_torch.gradients import CannotCheck, check_gradients


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


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
        (lambda x: x.half(), [(torch.ones(3),)], None, "does not return float64 for float64; give a ref"),
        (lambda x: x.float().exp().double(), [(numbers(3),)], None, "values are less accurate than float64; give"),
        (torch.square, [(numbers(3),)], lambda x: x.detach() ** 2, "the reference has no gradient: its"),
        (torch.square, [(numbers(3),)], lambda x: x.floor_divide(2), "the reference has no gradient: Runtime"),
        (torch.cat, [([numbers(3)], 0)], None, "sample 0: argument 0 holds Tensors in a list: pass each as a"),
        (torch.sum, [Sample((), {"x": {"y": (numbers(3),)}})], None, "argument 'x' holds Tensors in a dict"),
        (torch.sum, [Sample((), {"x": numbers(3).requires_grad_()})], None, "'x' requires a gradient, but options"),
        (torch.sum, [(numbers(3, 3).to_sparse(),)], None, "argument 0 is sparse: only dense"),
        (torch.Tensor.to_sparse, [(numbers(3),)], None, r"returns torch\.float64 \(torch\.sparse_coo\), not a"),
        (lambda x: sys.exit(0), [(torch.ones(3),)], None, "the function raised SystemExit: 0"),
        (lambda x: x[:0], [(torch.ones(3),)], None, "every output is empty"),
        (torch.nn.Dropout(), [(torch.ones(30),)], torch.nn.Dropout(), "reference is not deterministic"),
        (torch.nn.Linear(3, 2), [(torch.ones(3),)], torch.nn.ReLU(), r"the reference's parameters are \[\], not \['b"),
        (3, [(torch.ones(3),)], None, "the function cannot be called: it is int"),
        (OldStyle, [(torch.ones(3),)], 3, "the reference cannot be called: it is int"),
        (torch.nn.Linear, [(torch.ones(3),)], None, "Linear is a class: pass an instance"),
    ],
)  # fmt: skip
def test_the_error_names_the_cause(function: Any, samples: Any, reference: Any, message: str) -> None:
    for fail_fast in (False, True):
        with pytest.raises(CannotCheck, match=message) as caught:
            check_gradients(function, samples, reference=reference, fail_fast=fail_fast)
        assert "\n" not in str(caught.value)


def test_a_function_of_one_dtype_needs_a_reference() -> None:
    """A kernel for bfloat16 is checked in bfloat16."""

    def kernel(x: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16:
            raise RuntimeError("bfloat16 only")
        return F.gelu(x)

    x = [(numbers(4, 3, dtype=torch.bfloat16),)]
    report = check_gradients(kernel, x, reference=torch.nn.functional.gelu)
    assert report.passed, str(report)
    assert not check_gradients(lambda x: 1.1 * kernel(x), x, reference=torch.nn.functional.gelu).passed
    with pytest.raises(CannotCheck, match="give a reference"):
        check_gradients(kernel, x)
