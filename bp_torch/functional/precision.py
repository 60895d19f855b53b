"""Dtypes: half precision inside a function, type promotion, and autocast's rules."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.shape import to

_HALF = (torch.float16, torch.bfloat16)
autocast_enabled: Callable[[], bool] = torch._C._is_any_autocast_enabled
"""Whether autocast is on for any device. The public check is of one device, refuses 'meta' and costs 3 % of a step."""


def in_float32(call: Callable[..., Tensor], input: Tensor, *others: Any) -> Tensor:
    """Compute in float32 what comes in half precision, and round the result once, as PyTorch's kernels do.

    Otherwise each intermediate of a formula such as GELU's would be rounded to 8 or 11 bits.
    """
    if input.dtype not in _HALF:
        return call(input, *others)
    return to(call(*map(_widened, (input, *others))), input.dtype)


def promote_types(input: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype their arithmetic would give."""
    dtype = torch.promote_types(input.dtype, other.dtype)
    return to(input, dtype), to(other, dtype)


def autocast_to_half(*tensors: Tensor | None) -> list[Any]:
    """Autocast's rule for products (`linear`), where it is enabled: float32 becomes its dtype, float64 stays."""
    dtype = torch.get_autocast_dtype(tensors[0].device.type)  # type: ignore[union-attr]
    return [x if x is None or not x.is_floating_point() or x.dtype == torch.float64 else to(x, dtype) for x in tensors]


def autocast_to_float32(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Autocast's rule for losses: half precision becomes float32."""
    if not autocast_enabled() or not torch.is_autocast_enabled(tensors[0].device.type):  # type: ignore[union-attr]
        return tensors
    return tuple(map(_widened, tensors))


def cuda_autocast_to_float32(tensor: Tensor) -> Tensor:
    """Autocast's rule for softmax, log_softmax and softplus: float32 on CUDA; on a CPU they keep their dtype."""
    return autocast_to_float32(tensor)[0] if tensor.is_cuda else tensor


def _widened(value: Any) -> Any:
    return to(value, torch.float32) if isinstance(value, Tensor) and value.dtype in _HALF else value
