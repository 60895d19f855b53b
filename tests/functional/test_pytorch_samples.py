"""Every function on the samples PyTorch tests its own by (OpInfo), in value and gradient."""

import itertools
import warnings
from collections.abc import Callable, Iterable
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


def name_of(operation: OpInfo) -> str:
    return operation.name.removeprefix("nn.functional.").strip("_")


OPERATIONS = [op for op in op_db if name_of(op) in functional.__all__ and op.name != "to"]  # `to` takes a dtype alone


def test_all_but_our_own_are_among_pytorchs() -> None:
    names = {name_of(op) for op in OPERATIONS}
    assert names == set(functional.__all__) - {"dense", "squared_error", "to"}


def converted(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().to(dtype).requires_grad_(value.requires_grad)
    return [converted(each, dtype) for each in value] if isinstance(value, list) else value


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The Tensors among some values, and in lists and tuples among them."""
    flat = itertools.chain.from_iterable(v if isinstance(v, list | tuple) else [v] for v in values)
    return [value for value in flat if isinstance(value, Tensor)]


def value_and_gradients(function: Callable[..., Tensor], sample: SampleInput, dtype: torch.dtype) -> list[Tensor]:
    args = [converted(value, dtype) for value in (sample.input, *sample.args)]
    options = {name: converted(value, dtype) for name, value in sample.kwargs.items()}
    outputs = tensors_in([function(*args, **options)])
    inputs = [value for value in tensors_in([*args, *options.values()]) if value.requires_grad]
    generator = torch.Generator().manual_seed(0)
    upstream = [torch.randn(output.shape, generator=generator, dtype=torch.float64) for output in outputs]
    found = torch.autograd.grad(outputs, inputs, [g.to(y.dtype) for g, y in zip(upstream, outputs, strict=True)])
    return [*outputs, *found]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: f"{op.name}{op.variant_test_name}")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_on_pytorchs_own_samples(operation: OpInfo, dtype: torch.dtype) -> None:
    if dtype not in operation.supported_dtypes("cpu"):
        pytest.skip(f"PyTorch's {operation.name} has no {dtype} on a CPU")
    function = getattr(functional, name_of(operation))
    if operation.name == "where":  # its samples have the condition in second place
        function = lambda input, condition, other: functional.where(condition, input, other)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some samples broadcast, which warns
        for sample in operation.sample_inputs("cpu", dtype, requires_grad=True):
            truth = value_and_gradients(operation.op, sample, torch.float64)
            if any((x.abs() > torch.finfo(dtype).max).any() for x in truth):
                continue  # some of `pow` in float16
            builtin = value_and_gradients(operation.op, sample, dtype)
            hand = value_and_gradients(function, sample, dtype)
            results = [compare(str(i), *three) for i, three in enumerate(zip(hand, builtin, truth, strict=True))]
            assert all(result.passed for result in results), (sample, [str(result) for result in results])
