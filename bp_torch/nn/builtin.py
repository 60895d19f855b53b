"""Replace hand-written modules by torch.nn's."""

import copy
from collections.abc import Callable
from typing import Any

import torch

from bp_torch import functional

__all__ = ["as_builtin"]

_PACKAGE = "bp_torch.nn."


def as_builtin(model: torch.nn.Module) -> torch.nn.Module:
    """Copy a model, replacing the hand-written layers by torch.nn's; the copy shares the parameters.

    A class of your own that calls hand-written functions names its counterpart, with the same attributes, as `builtin`.

    Args:
        model: any module; hand-written layers are replaced at any depth.

    Returns:
        A new module with the same parameters and buffers as `model`: training one trains the other.

    Raises:
        TypeError: if torch.nn has no counterpart of a layer, as for subclasses of hand-written layers, and modules
            whose `forward` calls a custom Function: the copy would be compared with itself.
    """
    shared = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, memo={id(tensor): tensor for tensor in shared})
    for module in twin.modules():
        kind = type(module)
        if counterpart := vars(kind).get("builtin"):
            module.__class__ = counterpart
            continue
        if any(base.__module__.startswith(_PACKAGE) for base in kind.__mro__):
            name = kind.__name__
            if not kind.__module__.startswith(_PACKAGE) or not hasattr(torch.nn, name):
                raise TypeError(f"as_builtin(): torch.nn has no counterpart of {kind.__module__}.{name}")
            module.__class__ = getattr(torch.nn, name)
        elif not kind.__module__.startswith("torch.") and _calls_custom_function(kind.forward):
            raise TypeError(f"as_builtin(): {kind.__name__}.forward calls a custom Function, which cannot be replaced")
    return twin


def _calls_custom_function(forward: Callable[..., Any]) -> bool:
    """Whether a method names a Function, its `apply`, or `bp_torch.functional`."""
    code = getattr(forward, "__code__", None)
    names = code.co_names if code else ()
    named = [forward.__globals__.get(name) for name in names]
    return "apply" in names or any(
        value is functional
        or getattr(value, "__module__", "").startswith("bp_torch.functional")
        or (isinstance(value, type) and issubclass(value, torch.autograd.Function))
        for value in named
    )
