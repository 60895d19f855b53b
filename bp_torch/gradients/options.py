"""What `check_gradients` checks, how exactly and how long."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from bp_torch.gradients.checks import CHECKS
from bp_torch.gradients.isolation import can_fork

MAX_SECONDS = 1_000_000


@dataclass(frozen=True)
class Options:
    """The options of `check_gradients`, which explains them; ValueError if one is wrong."""

    orders: int = 2
    checks: Collection[str] | None = None
    skip: Mapping[str, str] = field(default_factory=dict)
    rtol: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 20.0
    isolate: bool = True

    def __post_init__(self) -> None:
        """Validate."""
        if self.orders not in (1, 2) or isinstance(self.orders, bool):
            raise ValueError(f"orders must be 1 or 2, got {self.orders!r}")
        if not _is_number(self.seconds) or not 0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"seconds must be a positive number, at most {MAX_SECONDS:,}, got {self.seconds!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be an integer from 0 to 2^63 - 1, got {self.seed!r}")
        if not isinstance(self.isolate, bool):
            raise ValueError(f"isolate must be True or False, got {self.isolate!r}")
        self._require_names()
        for name, reason in self.skip.items():
            if not (isinstance(reason, str) and reason):
                raise ValueError(f"skip of {name!r} must be a reason, as in 'why', got {reason!r}")
        for name, entry in self.rtol.items():
            if not _is_tolerance(entry):
                raise ValueError(f"rtol of {name!r} must be a tolerance and a reason, (1e-6, 'why'), got {entry!r}")

    def _require_names(self) -> None:
        for option in ("skip", "rtol"):
            if not isinstance(value := getattr(self, option), Mapping):
                raise ValueError(f"{option} must be a dict by the names of checks, got {value!r}")
        if not isinstance(self._named, Collection) or isinstance(self._named, Tensor) or not self._named:
            raise ValueError(f"checks must be a list of names, and not empty, got {type(self.checks).__name__}")
        unknown = [name for name in (*self._named, *self.skip, *self.rtol) if name not in CHECKS]
        if unknown:
            raise ValueError(f"unknown check {unknown[0]!r}: must be one of {', '.join(CHECKS)}")

    @property
    def _named(self) -> Collection[str]:
        return CHECKS if self.checks is None else [self.checks] if isinstance(self.checks, str) else self.checks

    @cached_property
    def selected(self) -> frozenset[str]:
        """The names of the checks to run."""
        return frozenset(self._named) - {*self.skip} - ({"double backward"} if self.orders == 1 else set())

    @cached_property
    def in_child(self) -> bool:
        """Whether checks that may crash run in a child process."""
        return self.isolate and can_fork()

    def tolerance(self, name: str) -> float | None:
        """The relative tolerance of a check; that of the gradient holds in every dtype and for finite differences."""
        names = (name, "gradient") if name in ("precision", "finite differences") else (name,)
        return next((self.rtol[each][0] for each in names if each in self.rtol), None)

    @property
    def remarks(self) -> list[str]:
        """What the report says about them."""
        skipped = [f"left out: {name}: {reason}" for name, reason in self.skip.items()]
        return skipped + [f"relative tolerance of {name}: {size:g}: {why}" for name, (size, why) in self.rtol.items()]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_tolerance(entry: object) -> bool:
    if not (isinstance(entry, tuple) and len(entry) == 2):
        return False
    size, reason = entry
    return _is_number(size) and 0 < size < math.inf and isinstance(reason, str) and bool(reason)
