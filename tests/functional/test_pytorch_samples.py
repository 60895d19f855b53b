"""Every function on the samples PyTorch tests its own by (OpInfo), in value and gradient."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.gradients import compare

pytest.importorskip("expecttest", reason="PyTorch's own samples need expecttest")
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
OPERATIONS = [op for op in op_db if op.name.removeprefix("nn.functional.") in functional.__all__]


def test_all_but_our_own_are_among_pytorchs() -> None:
    names = {op.name.removeprefix("nn.functional.") for op in OPERATIONS}
    assert names == set(functional.__all__) - {"dense", "squared_error"}


def converted(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().to(dtype).requires_grad_(value.requires_grad)
    return value


def value_and_gradients(function: Callable[..., Tensor], sample: SampleInput, dtype: torch.dtype) -> list[Tensor]:
    args = [converted(value, dtype) for value in (sample.input, *sample.args)]
    options = {name: converted(value, dtype) for name, value in sample.kwargs.items()}
    output = function(*args, **options)
    inputs = [value for value in (*args, *options.values()) if isinstance(value, Tensor) and value.requires_grad]
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return [output, *torch.autograd.grad(output, inputs, upstream.to(output.dtype))]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.name}{op.variant_test_name}")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_on_pytorchs_own_samples(operation: OpInfo, dtype: torch.dtype) -> None:
    if dtype not in operation.supported_dtypes("cpu"):
        pytest.skip(f"PyTorch's {operation.name} has no {dtype} on a CPU")
    function = getattr(functional, operation.name.removeprefix("nn.functional."))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some samples broadcast, which warns
        for sample in operation.sample_inputs("cpu", dtype, requires_grad=True):
            truth = value_and_gradients(operation.op, sample, torch.float64)
            builtin = value_and_gradients(operation.op, sample, dtype)
            hand = value_and_gradients(function, sample, dtype)
            results = [compare(str(i), *three) for i, three in enumerate(zip(hand, builtin, truth, strict=True))]
            assert all(result.passed for result in results), (sample, [str(result) for result in results])
