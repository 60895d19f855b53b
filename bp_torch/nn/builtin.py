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
        if _is_hand_written(module):
            module.__class__ = _counterpart(type(module))
    return twin


def _is_hand_written(module: torch.nn.Module) -> bool:
    return any(base.__module__.startswith("bp_torch.nn.") for base in type(module).__mro__)


def _counterpart(hand_written: type[torch.nn.Module]) -> type[torch.nn.Module]:
    name = hand_written.__name__
    if getattr(bp_torch.nn, name, None) is not hand_written or not hasattr(torch.nn, name):
        raise TypeError(f"as_builtin(): torch.nn has no counterpart of {hand_written.__module__}.{name}")
    return getattr(torch.nn, name)  # type: ignore[no-any-return]
