"""Checks of arguments. Each raises the kind of error that torch.nn.functional raises for the same mistake."""

import warnings

import torch
from torch import Tensor

from bp_torch.functional.function import transform_active


def require_tensor(function: str, **arguments: object) -> None:
    """Raise TypeError, naming the argument, unless each is a Tensor."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{function}(): argument '{name}' must be a Tensor, not {type(value).__name__}")


def require_real(function: str, tensor: Tensor, name: str = "input") -> Tensor:
    """The argument: TypeError unless it is a Tensor, NotImplementedError if it is complex; the equations are real."""
    if not isinstance(tensor, Tensor):
        require_tensor(function, **{name: tensor})
    if tensor.is_complex():
        raise NotImplementedError(f"{function}(): argument '{name}' is {tensor.dtype}; only real numbers have a rule")
    return tensor


def require_floating(function: str, **arguments: Tensor) -> None:
    """Raise unless each argument is a Tensor of real floating-point numbers."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            require_tensor(function, **{name: value})
        if not value.is_floating_point():
            raise NotImplementedError(
                f"{function}(): argument '{name}' must be of a real floating-point dtype, not {value.dtype}; "
                f"convert it, for instance by {name}.float()"
            )


def resolve_reduction(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """The reduction, given by its name, or ValueError; or by torch's two deprecated flags."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(f"size_average and reduce are deprecated; use reduction='{reduction}' instead.", stacklevel=3)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction: expected one of none, mean, sum")
    return reduction


def require_class_indices(target: Tensor, classes: int, ignore_index: int) -> None:
    """Raise IndexError for a class index outside [0, classes) that is not `ignore_index`."""
    # only where looking is possible and costs no synchronisation; on CUDA such an index stops the kernel by itself
    if target.device.type != "cpu" or torch.compiler.is_compiling() or transform_active():
        return
    wrong = target[((target < 0) | (target >= classes)) & (target != ignore_index)]
    if wrong.numel():
        raise IndexError(f"Target {wrong[0].item()} is out of bounds: expected a class index in [0, {classes})")


def require_indices_fitting(name: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Raise unless class indices and class weights fit the input (N, C, ...), as torch's own functions do."""
    require_tensor(name, target=target)
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"{name}(): target must be of class indices, int64 or uint8, not {target.dtype}")
    if input.dim() == 0:
        raise RuntimeError(f"{name}(): input must be (C,), (N, C) or (N, C, ...), not a scalar")
    if input.dim() > 1 and target.shape[:1] != input.shape[:1]:
        raise ValueError(
            f"{name}(): Expected input batch_size ({input.shape[0]}) to match target batch_size {tuple(target.shape)}"
        )
    if target.shape != input.shape[:1] * (input.dim() > 1) + input.shape[2:]:
        raise RuntimeError(f"{name}(): size mismatch: input {tuple(input.shape)}, target {tuple(target.shape)}")
    require_weight_fitting(name, weight, input.shape[min(1, input.dim() - 1)])
    if weight is not None and weight.dtype != input.dtype:
        raise RuntimeError(f"{name}(): weight is {weight.dtype} but input is {input.dtype}; give both the same dtype")
    if weight is not None and weight.requires_grad and torch.is_grad_enabled():
        raise RuntimeError(f"{name}(): not differentiable with respect to 'weight'; it must not require a gradient")


def require_weight_fitting(name: str, weight: Tensor | None, classes: int) -> None:
    """Raise unless there is one factor for each class."""
    if weight is None:
        return
    require_tensor(name, weight=weight)
    if weight.shape != (classes,):
        raise RuntimeError(f"{name}(): weight {tuple(weight.shape)} must hold one factor for each of {classes} classes")
