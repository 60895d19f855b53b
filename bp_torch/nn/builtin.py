"""The reference: the same model out of torch.nn."""

import copy

import torch

import bp_torch.nn

__all__ = ["as_builtin"]


def as_builtin(model: torch.nn.Module) -> torch.nn.Module:
    """The same model with torch.nn's own layers in place of the hand-written ones, on the very same parameters.

    Args:
        model: any module; its hand-written layers may stand at any depth.

    Returns:
        A new module that shares the parameters and buffers of `model`: what trains one trains the other.

    Raises:
        TypeError: if a hand-written layer has no counterpart there, as one derived from it has none.
    """
    shared = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, memo={id(tensor): tensor for tensor in shared})
    for module in twin.modules():
        kind = type(module)
        if any(base.__module__.startswith("bp_torch.nn.") for base in kind.__mro__):
            name = kind.__name__
            if getattr(bp_torch.nn, name, None) is not kind or not hasattr(torch.nn, name):
                raise TypeError(f"as_builtin(): torch.nn has no counterpart of {kind.__module__}.{name}")
            module.__class__ = getattr(torch.nn, name)
    return twin
