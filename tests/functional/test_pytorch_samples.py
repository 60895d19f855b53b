"""Every function on the samples of PyTorch's own tests (OpInfo): value and gradients."""

import itertools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.gradients import compare

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
NOT_IN_PYTORCH = {
    "fold",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "squared_error",
    "to",
    "upsample",
}  # or without samples


@pytest.fixture(scope="module")
def operations() -> dict[str, list[Any]]:
    """PyTorch's OpInfos by function name, those of torch.nn.functional first; the import takes seconds."""
    pytest.importorskip("expecttest", reason="PyTorch's own samples need expecttest")
    from torch.testing._internal.common_methods_invocations import op_db

    by_name: dict[str, list[Any]] = {}
    for op in op_db:
        by_name.setdefault(op.name.strip("_"), []).append(op)
    return by_name | {name.removeprefix("nn.functional."): by_name[name] for name in by_name if name.startswith("nn.")}


def converted(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().to(dtype).requires_grad_(value.requires_grad)
    return [converted(each, dtype) for each in value] if isinstance(value, list) else value


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The Tensors in `values`, and in lists and tuples among them."""
    flat = itertools.chain.from_iterable(v if isinstance(v, list | tuple) else [v] for v in values)
    return [value for value in flat if isinstance(value, Tensor)]


def value_and_gradients(function: Callable[..., Tensor], sample: Any, dtype: torch.dtype) -> list[Tensor]:
    args = [converted(value, dtype) for value in (sample.input, *sample.args)]
    options = {name: converted(value, dtype) for name, value in sample.kwargs.items()}
    outputs = tensors_in([function(*args, **options)])
    indices = [output.double() for output in outputs if not output.is_floating_point()]
    outputs = [output for output in outputs if output.is_floating_point()]
    inputs = [value for value in tensors_in([*args, *options.values()]) if value.requires_grad]
    generator = torch.Generator().manual_seed(0)
    upstream = [torch.randn(output.shape, generator=generator, dtype=torch.float64) for output in outputs]
    gradients = torch.autograd.grad(outputs, inputs, [g.to(y.dtype) for g, y in zip(upstream, outputs, strict=True)])
    return [*outputs, *indices, *gradients]


@pytest.mark.parametrize("name", sorted(set(functional.__all__) - NOT_IN_PYTORCH))
def test_on_pytorchs_own_samples(name: str, operations: dict[str, list[Any]]) -> None:
    function = getattr(functional, name)
    if name == "where":  # its samples have the condition second
        function = lambda input, condition, other: functional.where(condition, input, other)  # noqa: E731
    compared = 0
    for operation in operations[name]:
        dtypes = operation.supported_dtypes("cpu")
        torch.manual_seed(0)
        for sample in operation.sample_inputs("cpu", torch.float64, requires_grad=True, set_seed=False):
            for dtype in dtypes.intersection(DTYPES):
                compared += same_as_pytorchs(function, operation.op, sample, dtype)
    assert compared


def same_as_pytorchs(function: Callable[..., Any], builtin: Callable[..., Any], sample: Any, dtype: torch.dtype) -> int:
    rounded = sample.transform(lambda value: converted(value, dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some samples broadcast, which warns
        truth = value_and_gradients(builtin, rounded, torch.float64)
        if any((x.abs() > torch.finfo(dtype).max).any() for x in truth):
            return 0  # some of `pow` in float16
        hand, theirs = (value_and_gradients(each, rounded, dtype) for each in (function, builtin))
    results = [compare(str(i), *three) for i, three in enumerate(zip(hand, theirs, truth, strict=True))]
    wrong = [str(result) for result in results if not result.error <= result.tolerance]
    assert not wrong, (sample, dtype, wrong)
    return 1
