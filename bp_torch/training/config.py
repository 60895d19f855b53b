"""Every knob of a training run; the command line is made from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from bp_torch.data.labels import CLASSES

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu"]
Cost = Literal["squared_error", "cross_entropy"]
Backend = Literal["functions", "engine", "builtin"]

PIXELS = 784
MOST_NEURONS = 100_000
MOST_PARAMETERS = 100_000_000
_RANGES = {
    "batch_size": (1, 10**9),
    "epochs": (1, 10**9),
    "threads": (1, 1024),
    "compare_every": (0, 10**12),
    "frames": (0, 10**6),
    "seed": (0, 2**63 - 1),
    "checkpoint_seconds": (0, 10**9),
}
_BEFORE: Mapping[str, Any] = {"frames": 0, "checkpoint_seconds": 10.0, "quiet": False, "replay": None}
"""What runs of an earlier version did, whose configuration does not say."""
NOTES = frozenset({"data_origin"})
"""What a run's configuration tells beside the flags."""
_NAMES = "run_name", "resume", "replay"
_PATHS = "data_root", "runs_dir", "mnist_source"
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
    """Go on with the run of this name from its last checkpoint, as it was configured, on the device named now."""
    replay: str | None = None
    """Train nothing: look again, layer by layer, at the mini-batch whose numbers ended the run of this name."""
    checkpoint_seconds: float = 10.0
    """Seconds between checkpoints, which are written inside an epoch too; 0 = after every step."""
    quiet: bool = False
    """Show no progress; errors and the end are still told."""
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
        if self.parameters > MOST_PARAMETERS:
            raise ValueError(
                f"--hidden {_spaced(self.hidden)} makes {self.parameters:,} weights and biases; "
                f"{MOST_PARAMETERS:,} are the most"
            )
        self._require_device()
        self._require_names()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neurons of each layer, the pixels first."""
        return PIXELS, *self.hidden, CLASSES

    @property
    def parameters(self) -> int:
        """How many weights and biases the network has."""
        return sum((before + 1) * neurons for before, neurons in pairwise(self.sizes))

    @property
    def folder(self) -> Path:
        """Where the run is kept, once it has a name."""
        return self.runs_dir / str(self.run_name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and tables."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The inverse of `as_dict`.

        Raises:
            TypeError, ValueError: if these are not the values of one, whoever wrote them.
        """
        values = {**_BEFORE, **values}
        names = {field.name for field in fields(cls)}
        if odd := (names ^ values.keys()) - NOTES:
            raise ValueError(f"{min(odd)!r} is {'missing' if min(odd) in names else 'no setting'}")
        paths = {name: Path(values[name]) for name in _PATHS if values[name] is not None}
        return cls(**{**{name: values[name] for name in names}, **paths, "hidden": tuple(values["hidden"])})

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
        for name in _NAMES:
            value = getattr(self, name)
            if value is not None and not _is_plain_name(value):
                raise ValueError(f"{flag(name)} must be a plain folder name of at most 200 letters, got {value!r}")
        named = [flag(name) for name in (*_NAMES, "overwrite") if getattr(self, name)]
        if len(named) > 1 and named != [flag("run_name"), flag("overwrite")]:
            raise ValueError(f"{named[-2]} goes without {named[-1]}: each says which run is meant")


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
