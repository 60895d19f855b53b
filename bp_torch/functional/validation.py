"""Argument checks. Each raises the exception type that torch.nn.functional raises for the same mistake."""

import warnings

import torch
from torch import Tensor

from bp_torch.functional.function import transform_active


def warn(message: str, stacklevel: int) -> None:
    """Warn as `warnings.warn` in the caller, but not while compiling: torch.compile cannot trace it."""
    if not torch.compiler.is_compiling():
        warnings.warn(message, stacklevel=stacklevel + 1)


def require_tensor(function: str, **arguments: object) -> None:
    """Raise TypeError, naming the argument, if one is not a Tensor."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{function}(): argument '{name}' must be a Tensor, not {type(value).__name__}")


def require_real(function: str, tensor: Tensor, name: str = "input") -> Tensor:
    """Return the argument. TypeError if it is not a Tensor, NotImplementedError if it is complex."""
    if not isinstance(tensor, Tensor):
        require_tensor(function, **{name: tensor})
    if tensor.is_complex():
        raise NotImplementedError(f"{function}(): argument '{name}' is {tensor.dtype}; only real dtypes are supported")
    return tensor


def require_floating(function: str, **arguments: Tensor) -> None:
    """Raise TypeError or NotImplementedError unless each argument is a Tensor of a real floating-point dtype."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            require_tensor(function, **{name: value})
        if not value.is_floating_point():
            raise NotImplementedError(
                f"{function}(): argument '{name}' must have a real floating-point dtype, not {value.dtype}; "
                f"convert it, for instance with {name}.float()"
            )


def resolve_reduction(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """The reduction's name, from itself or from torch's two deprecated flags; ValueError if it is unknown."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warn(f"size_average and reduce are deprecated; use reduction='{reduction}' instead.", stacklevel=3)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction: expected one of none, mean, sum")
    return reduction


def require_constant(function: str, **arguments: Tensor | None) -> None:
    """Raise RuntimeError if a Tensor requires a gradient, which the function does not have."""
    for name, value in arguments.items():
        if value is not None and value.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                f"{function}(): not differentiable with respect to '{name}'; it must not require a gradient"
            )


def readable(tensor: Tensor) -> bool:
    """Whether to read numbers: not on CUDA, which would synchronise and whose kernels fail; not in a transform."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not transform_active()


def require_indices_in_range(target: Tensor, classes: int, ignore_index: int) -> None:
    """Raise IndexError for a class index outside [0, classes) that is not `ignore_index`."""
    if not readable(target):
        return
    invalid = target[((target < 0) | (target >= classes)) & (target != ignore_index)]
    if invalid.numel():
        raise IndexError(f"Target {invalid[0].item()} is out of bounds: expected a class index in [0, {classes})")


def require_class_target(name: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Raise, as torch does, unless class indices and class weights match the input (N, C, ...)."""
    require_tensor(name, target=target)
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"{name}(): target must hold class indices, int64 or uint8, not {target.dtype}")
    if input.dim() == 0:
        raise RuntimeError(f"{name}(): input must be (C,), (N, C) or (N, C, ...), not a scalar")
    if input.dim() > 1 and target.shape[:1] != input.shape[:1]:
        raise ValueError(
            f"{name}(): Expected input batch_size ({input.shape[0]}) to match target batch_size {tuple(target.shape)}"
        )
    if target.shape != input.shape[:1] * (input.dim() > 1) + input.shape[2:]:
        raise RuntimeError(f"{name}(): size mismatch: input {tuple(input.shape)}, target {tuple(target.shape)}")
    require_constant_class_weight(name, weight, input.shape[min(1, input.dim() - 1)], input.dtype)


def require_constant_class_weight(name: str, weight: Tensor | None, classes: int, dtype: torch.dtype) -> None:
    """Raise unless `weight` is None or holds one factor for each class, in this dtype and without a gradient."""
    require_class_weight(name, weight, classes)
    if weight is not None and weight.dtype != dtype:
        raise RuntimeError(f"{name}(): weight is {weight.dtype} but input is {dtype}; give both the same dtype")
    require_constant(name, weight=weight)


def require_class_weight(name: str, weight: Tensor | None, classes: int) -> None:
    """Raise unless `weight` is None or holds one factor for each class."""
    if weight is None:
        return
    require_tensor(name, weight=weight)
    if weight.shape != (classes,):
        raise RuntimeError(f"{name}(): weight {tuple(weight.shape)} must hold one factor for each of {classes} classes")
