"""Every flag of a training run; the command line is made from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import torch

from bp_torch.nn import ACTIVATIONS
from bp_torch.training.backends import COSTS

Backend = Literal["functions", "engine", "builtin"]
Data = Literal["auto", "mnist", "digits"]
if TYPE_CHECKING:
    Activation: TypeAlias = str
    Cost: TypeAlias = str
else:  # the registries name the choices
    Activation, Cost = Literal[tuple(ACTIVATIONS)], Literal[tuple(COSTS)]

MOST_NEURONS = 100_000
MOST_PARAMETERS = 100_000_000
_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, 10**9),
    "epochs": (1, 10**9),
    "threads": (1, 1024),
    "compare_every": (0, 10**12),
    "frames": (0, 10**6),
    "seed": (0, 2**63 - 1),
    "checkpoint_seconds": (0, 10**9),
    "learning_rate": (1e-38, 1e38),
}
_NAMES = "run_name", "resume", "replay"
_ACCEPTED = {int: (int,), float: (float, int), bool: (bool,), str: (str,)}  # True is no int here


@dataclass(frozen=True)
class TrainConfig:
    """Train a network of hand-written layers; every gradient is checked against autograd on the way."""

    data: Data = "auto"  # auto: MNIST where it can be had, otherwise digits drawn on the spot.
    data_root: Path = Path("data")  # Where torchvision keeps MNIST.
    # A folder with MNIST's four .gz files, for places without a network (or BP_TORCH_MNIST_SOURCE).
    mnist_source: Path | None = None
    hidden: tuple[int, ...] = (16, 16)  # Neurons of each hidden layer.
    activation: Activation = "sigmoid"  # Applied to each hidden weighted sum.
    cost: Cost = "squared_error"  # squared_error ends in a sigmoid, cross_entropy in logits.
    batch_size: int = 100  # Examples in a mini-batch.
    learning_rate: float = 3.0  # Of the first step; it falls linearly to 0 at the last.
    epochs: int = 60  # Passes over the training examples.
    # Of the first weights and of every shuffle; the same seed gives the same run, bit for bit, on one machine.
    seed: int = 0
    # functions: hand-written, driven by autograd; engine: the same without autograd; builtin: PyTorch's own layers.
    backend: Backend = "functions"
    compare_every: int = 100  # Steps between comparisons of all gradients with autograd's; 0 = never.
    # Steps that the Backprop tab can walk through, log-spaced, compared too; 0 = none. Each takes about 180 KB.
    frames: int = 60
    runs_dir: Path = Path("runs")  # Where runs are kept.
    run_name: str | None = None  # The run's folder in it; by default the time of day.
    overwrite: bool = False  # Replace the run of this name, if there is one.
    # Resume the run of this name from its last checkpoint, as it was configured, on the device named now.
    resume: str | None = None
    # Do not train: compute the mini-batch whose numbers ended the run of this name again, layer by layer.
    replay: str | None = None
    # Seconds between checkpoints, which are written inside an epoch too; 0 = after every step.
    checkpoint_seconds: float = 10.0
    quiet: bool = False  # Show no progress, only errors and the result.
    device: str = "cpu"  # Where to compute, for instance cuda.
    threads: int = 1  # Threads of PyTorch on a CPU; one is quickest for small networks.

    def __post_init__(self) -> None:
        """Check every value; ValueError in one line that names the flag."""
        self._require_types()
        for name, (lowest, highest) in _RANGES.items():
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"{flag(name)} must be from {lowest:,} to {highest:,}, got {getattr(self, name):,}")
        if not all(1 <= size <= MOST_NEURONS for size in self.hidden):
            sizes = " ".join(map(str, self.hidden))
            raise ValueError(f"--hidden must be numbers of neurons from 1 to {MOST_NEURONS:,}, got {sizes}")
        self.sizes(1, 1)
        self._require_device()
        self._require_names()

    def sizes(self, inputs: int, classes: int) -> tuple[int, ...]:
        """Neurons of each layer, the inputs first; ValueError if such a network has too many weights."""
        sizes = inputs, *self.hidden, classes
        if (count := parameters_of(sizes)) > MOST_PARAMETERS:
            hidden = " ".join(map(str, self.hidden))
            raise ValueError(f"--hidden {hidden} makes {count:,} weights and biases; {MOST_PARAMETERS:,} are the most")
        return sizes

    @property
    def folder(self) -> Path:
        """Where the run is kept, once it has a name."""
        return self.runs_dir / str(self.run_name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and tables."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The inverse of `as_dict`, for values from an untrusted file; TypeError or ValueError if they do not fit."""
        names = {field.name for field in fields(cls)}
        if wrong := (names ^ values.keys()) - {"data_origin"}:  # of which the file makes a note
            raise ValueError(f"{min(wrong)!r} is {'missing' if min(wrong) in names else 'no setting'}")
        paths = {
            name: Path(values[name]) for name in ("data_root", "runs_dir", "mnist_source") if values[name] is not None
        }
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
            why = "cannot be used here; use cpu, or cuda where there is one"
            raise ValueError(f"--device {self.device!r} {why}") from None

    def _require_names(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            plain = isinstance(value, str) and value.isprintable() and Path(value).name == value != ".."
            if value is not None and not (plain and 0 < len(value.encode()) <= 200):
                raise ValueError(f"{flag(name)} must be a plain folder name of at most 200 letters, got {value!r}")
        named = [flag(name) for name in (*_NAMES, "overwrite") if getattr(self, name)]
        if len(named) > 1 and named != [flag("run_name"), flag("overwrite")]:
            raise ValueError(f"{named[-2]} goes without {named[-1]}: each says which run is meant")


def parameters_of(sizes: tuple[int, ...]) -> int:
    """How many weights and biases a network with layers of these sizes has."""
    return sum((before + 1) * neurons for before, neurons in pairwise(sizes))


def flag(name: str) -> str:
    """A field's name on the command line."""
    return "--" + name.replace("_", "-")
