"""Hand-written backpropagation in PyTorch, every gradient checked against autograd.

Subpackages load on first use, so that `import bp_torch` imports no torch.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_SUBPACKAGES = (
    "catalogue",
    "dashboard",
    "data",
    "engine",
    "functional",
    "gradients",
    "inspection",
    "models",
    "nn",
    "training",
)


def __getattr__(name: str) -> ModuleType:
    """Load a subpackage when it is first accessed (PEP 562)."""
    if name in _SUBPACKAGES:
        return import_module(f"bp_torch.{name}")
    raise AttributeError(f"module 'bp_torch' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The subpackages beside what is loaded already."""
    return sorted({*globals(), *_SUBPACKAGES})
