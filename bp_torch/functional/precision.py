"""Dtypes: float32 inside half-precision functions, type promotion, and autocast's rules."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.shape import to

_HALF = (torch.float16, torch.bfloat16)
autocast_enabled: Callable[[], bool] = torch._C._is_any_autocast_enabled
"""Whether autocast is on for any device. The public function checks one, rejects 'meta' and takes 3 % of a step."""


def in_float32(call: Callable[..., Tensor], input: Tensor, *others: Any) -> Tensor:
    """Call with half-precision inputs converted to float32, and round the result once, as PyTorch's kernels do.

    Otherwise each intermediate of a formula such as GELU's would be rounded to 8 or 11 bits.
    """
    if input.dtype not in _HALF:
        return call(input, *others)
    return to(call(*map(_upcast, (input, *others))), input.dtype)


def promote_types(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert all to the dtype of their sum; as there, a scalar counts only if all are scalars."""
    if len({x.dtype for x in tensors}) == 1:
        return tensors
    inexact = [x for x in tensors if x.is_floating_point() or x.is_complex()] or tensors
    dtypes = [x.dtype for x in inexact if x.dim()] or [x.dtype for x in inexact]
    dtype = functools.reduce(torch.promote_types, dtypes)
    return tuple(to(x, dtype) for x in tensors)


def autocast_to_half(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Apply autocast's rule for matrix products, if it is enabled: its dtype for all floating ones but float64."""
    if not autocast_applies(tensors[0]):
        return tensors
    dtype = torch.get_autocast_dtype(tensors[0].device.type)  # type: ignore[union-attr]
    return tuple(
        x if x is None or not x.is_floating_point() or x.dtype == torch.float64 else to(x, dtype) for x in tensors
    )


def autocast_to_float32(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Apply autocast's rule for losses, if it is enabled: half precision becomes float32."""
    return tuple(map(_upcast, tensors)) if autocast_applies(tensors[0]) else tensors


def cuda_autocast_to_float32(tensor: Tensor) -> Tensor:
    """Apply autocast's rule for softmax, exp, pow and the like: float32 on CUDA, unchanged on a CPU."""
    return autocast_to_float32(tensor)[0] if tensor.is_cuda else tensor


def cpu_autocast_to_float32(tensor: Tensor) -> Tensor:
    """Apply autocast's rule for maximum pooling in three dimensions: float32 on a CPU, unchanged on CUDA."""
    return autocast_to_float32(tensor)[0] if tensor.is_cpu else tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision as float32, for sums in `backward` that are rounded once at their end; others unchanged."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def no_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context without autocast on the device of a Tensor: it would round the matrix products."""
    return torch.autocast(tensor.device.type, enabled=False) if autocast_applies(tensor) else nullcontext()


def without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function in the dtypes of its arguments. See `no_autocast`."""

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        if not autocast_enabled():
            return function(*args)
        with no_autocast(next(x for x in args if isinstance(x, Tensor))):
            return function(*args)

    return run


def autocast_applies(tensor: Any) -> bool:
    """Whether autocast is on for the device of a Tensor."""
    return autocast_enabled() and torch.is_autocast_enabled(tensor.device.type)


def _upcast(value: Any) -> Any:
    return to(value, torch.float32) if isinstance(value, Tensor) and value.dtype in _HALF else value
