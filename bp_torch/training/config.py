"""Every knob of a training run; the command line is made from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu"]
Cost = Literal["squared_error", "cross_entropy"]
Backend = Literal["functions", "engine", "builtin"]

MOST_NEURONS = 100_000
_RANGES = {
    "batch_size": (1, 10**9),
    "epochs": (1, 10**9),
    "threads": (1, 1024),
    "compare_every": (0, 10**12),
    "frames": (0, 10**6),
    "seed": (0, 2**63 - 1),
}
_BEFORE: Mapping[str, Any] = {"frames": 0}
"""What runs of an earlier version did, whose configuration does not say."""
_ACCEPTED = {int: (int,), float: (float, int), bool: (bool,), str: (str,)}
"""Types a field's value may have; True is no number of epochs."""


@dataclass(frozen=True)
class TrainConfig:
    """Train a network of hand-written layers, every gradient checked against autograd on the way."""

    data: Literal["auto", "mnist", "digits"] = "auto"
    """auto: MNIST where it can be had, otherwise digits drawn on the spot."""
    data_root: Path = Path("data")
    """Where torchvision keeps MNIST."""
    mnist_source: Path | None = None
    """A folder with MNIST's four .gz files, for places without a network (or BP_TORCH_MNIST_SOURCE)."""
    hidden: tuple[int, ...] = (16, 16)
    """Neurons of each hidden layer."""
    activation: Activation = "sigmoid"
    """What follows each hidden weighted sum."""
    cost: Cost = "squared_error"
    """squared_error ends in a sigmoid, cross_entropy in logits."""
    batch_size: int = 100
    """Examples in a mini-batch."""
    learning_rate: float = 3.0
    """Of the first step; it falls linearly to 0 at the last."""
    epochs: int = 60
    """Walks through the training examples."""
    seed: int = 0
    """Of the first weights and of every shuffle; the same seed gives the same run, bit for bit, on one machine."""
    backend: Backend = "functions"
    """functions: hand-written, driven by autograd; engine: the same without autograd; builtin: PyTorch's own layers."""
    compare_every: int = 100
    """Steps between comparisons of all gradients with autograd's; 0 = never."""
    frames: int = 60
    """Steps that the Backprop tab can walk through, log-spaced, compared too; 0 = none. Each takes about 180 KB."""
    runs_dir: Path = Path("runs")
    """Where runs are kept."""
    run_name: str | None = None
    """The run's folder in it; the time of day if not given."""
    overwrite: bool = False
    """Begin a run of this name anew, in place of the one that is there."""
    resume: str | None = None
    """Go on with the run of this name from its last checkpoint, as it was configured."""
    device: str = "cpu"
    """Where to compute, for instance cuda."""
    threads: int = 1
    """Threads of PyTorch on a CPU; one is quickest for small networks."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ValueError: in one line that names the flag.
        """
        self._require_types()
        for name, (lowest, highest) in _RANGES.items():
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"{flag(name)} must be from {lowest} to {highest:,}, got {getattr(self, name)}")
        if not 0 < self.learning_rate <= torch.finfo(torch.float32).max:
            raise ValueError(f"--learning-rate must be a positive number, got {self.learning_rate}")
        if not all(1 <= size <= MOST_NEURONS for size in self.hidden):
            raise ValueError(
                f"--hidden must be numbers of neurons from 1 to {MOST_NEURONS:,}, got {_spaced(self.hidden)}"
            )
        self._require_device()
        self._require_names()

    @property
    def folder(self) -> Path:
        """Where the run is kept, once it has a name."""
        return self.runs_dir / str(self.run_name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and tables."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The inverse of `as_dict`."""
        values = {**_BEFORE, **values}
        known = {field.name: values[field.name] for field in fields(cls)}
        paths = {name: Path(values[name]) for name in ("data_root", "runs_dir", "mnist_source") if values[name]}
        return cls(**{**known, **paths, "hidden": tuple(values["hidden"])})

    def _require_types(self) -> None:
        for name, expected in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(expected) is Literal and value not in get_args(expected):
                raise ValueError(f"{flag(name)} must be one of {', '.join(get_args(expected))}, got {value!r}")
            if get_origin(expected) is tuple and not (type(value) is tuple and all(type(v) is int for v in value)):
                raise ValueError(f"{flag(name)} must be whole numbers, got {value!r}")
            if expected in _ACCEPTED and type(value) not in _ACCEPTED[expected]:
                raise ValueError(f"{flag(name)} must be of type {expected.__name__}, got {value!r}")

    def _require_device(self) -> None:
        try:
            torch.zeros(1, device=self.device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError):
            raise ValueError(
                f"--device {self.device!r} cannot be used here; use cpu, or cuda where there is one"
            ) from None

    def _require_names(self) -> None:
        for name in ("run_name", "resume"):
            value = getattr(self, name)
            if value is not None and not _is_plain_name(value):
                raise ValueError(f"{flag(name)} must be a plain folder name of at most 200 letters, got {value!r}")
        if self.resume is not None and (self.overwrite or self.run_name is not None):
            raise ValueError("--resume names the run to go on with; it goes without --run-name and --overwrite")


def _is_plain_name(value: object) -> bool:
    """Whether it can name a folder everywhere, and be printed."""
    if not (isinstance(value, str) and value.isprintable()):
        return False
    return Path(value).name == value and value != ".." and 0 < len(value.encode()) <= 200


def flag(name: str) -> str:
    """How a field is called on the command line."""
    return "--" + name.replace("_", "-")


def _spaced(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))
