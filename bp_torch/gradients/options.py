"""What `check_gradients` checks, how exactly and how long."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bp_torch.gradients.checks import CHECKS
from bp_torch.gradients.isolation import can_fork


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
        if self.orders not in (1, 2):
            raise ValueError(f"orders must be 1 or 2, got {self.orders!r}")
        if not (isinstance(self.seconds, int | float) and self.seconds > 0):
            raise ValueError(f"seconds must be a positive number, got {self.seconds!r}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be an integer from 0 to 2^63 - 1, got {self.seed!r}")
        for name, value in (("skip", self.skip), ("rtol", self.rtol)):
            if not isinstance(value, Mapping):
                raise ValueError(f"{name} must be a dict by the names of checks, got {type(value).__name__}")
        if unknown := ({*self._named} | {*self.skip} | {*self.rtol}) - {*CHECKS}:
            raise ValueError(f"unknown check {min(map(str, unknown))!r}: must be one of {', '.join(CHECKS)}")
        for name, reason in self.skip.items():
            if not isinstance(reason, str):
                raise ValueError(f"skip of {name!r} must be a reason, as in 'why', got {reason!r}")
        for name, entry in self.rtol.items():
            if not _is_tolerance(entry):
                raise ValueError(
                    f"rtol of {name!r} must be a tolerance and a reason, as in (1e-6, 'why'), got {entry!r}"
                )

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

    @property
    def remarks(self) -> list[str]:
        """What the report says about them."""
        skipped = [f"left out: {name}: {reason}" for name, reason in self.skip.items()]
        return skipped + [f"relative tolerance of {name}: {size:g}: {why}" for name, (size, why) in self.rtol.items()]


def _is_tolerance(entry: object) -> bool:
    if not (isinstance(entry, tuple) and len(entry) == 2):
        return False
    size, reason = entry
    return isinstance(size, int | float) and size > 0 and isinstance(reason, str)
