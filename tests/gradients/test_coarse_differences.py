"""Finite differences of functions that have no float64."""

from collections.abc import Callable

import pytest
import torch
from gradients.checking import numbers, with_gradient
from torch import Tensor

import bp_torch.functional as F
from bp_torch.gradients import check_gradients


def only_in(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A kernel for one dtype."""

    def kernel(x: Tensor) -> Tensor:
        if x.dtype != dtype:
            raise RuntimeError(f"{dtype} only")
        return F.gelu(x)

    return kernel


def float32_inside(x: Tensor) -> Tensor:
    return F.gelu(x.float()).to(x.dtype)


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        (only_in(torch.bfloat16), torch.bfloat16),
        (only_in(torch.float16), torch.float16),
        (only_in(torch.float32), torch.float32),
        (float32_inside, torch.float32),
        (float32_inside, torch.bfloat16),
    ],
)
def test_without_a_reference(kernel: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    sample = (numbers(8, 16, dtype=dtype),)
    report = check_gradients(kernel, [sample], checks=("gradient",), seconds=5)
    assert report.passed, str(report)
    assert any(result.status == "passed" for result in report.results)
    for factor in (0.0, -1.0, 1.25):
        wrong = with_gradient(kernel, factor)
        assert not check_gradients(wrong, [sample], checks=("gradient",), fail_fast=True).passed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_with_a_reference(dtype: torch.dtype) -> None:
    sample = (numbers(8, 16, dtype=dtype),)
    gelu = torch.nn.functional.gelu
    report = check_gradients(only_in(dtype), [sample], reference=gelu, checks=("gradient", "value", "precision"))
    assert report.passed, str(report)
    wrong = with_gradient(only_in(dtype), 1.05)
    assert not check_gradients(wrong, [sample], reference=gelu, checks=("gradient", "precision")).passed


def test_differences_name_the_slope() -> None:
    kernel = with_gradient(only_in(torch.float32), 1.5)
    text = str(check_gradients(kernel, [(numbers(8, 16, dtype=torch.float32),)], checks=("gradient",)))
    assert "WRONG EQUATION: the derivatives are 1.500 ± " in text
    assert "times the finite differences along 64 directions" in text
