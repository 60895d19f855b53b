"""The configuration of a training run; its fields are the flags of the command line."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import torch

from bp_torch.models import MODELS
from bp_torch.nn import ACTIVATIONS
from bp_torch.training.backends import COSTS

Backend = Literal["functions", "engine", "builtin"]
Data = Literal["auto", "mnist", "digits"]
Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["linear", "cosine"]
if TYPE_CHECKING:
    Activation: TypeAlias = str
    Cost: TypeAlias = str
    Model: TypeAlias = str
else:  # the choices are the keys of the registries
    Activation, Cost, Model = Literal[tuple(ACTIVATIONS)], Literal[tuple(COSTS)], Literal["mlp", *MODELS]

MAX_NEURONS = 100_000
MAX_PARAMETERS = 100_000_000
_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, 10**9),
    "epochs": (1, 10**9),
    "threads": (1, 1024),
    "compare_every": (0, 10**12),
    "frames": (0, 10**6),
    "seed": (0, 2**63 - 1),
    "checkpoint_seconds": (0, 10**9),
    "learning_rate": (1e-38, 1e38),
    "warmup_steps": (0, 10**12),
    "momentum": (0, 1),
    "weight_decay": (0, 1e38),
}
_CONVOLUTIONAL = {"cost": "cross_entropy", "momentum": 0.9, "weight_decay": 5e-4}
_ADAMW = {
    "cost": "cross_entropy", "optimizer": "adamw", "schedule": "cosine", "warmup_steps": 300, "weight_decay": 0.01
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {
    "lenet": {**_CONVOLUTIONAL, "learning_rate": 0.05, "epochs": 12},
    "lenet-1998": {**_CONVOLUTIONAL, "learning_rate": 0.05, "epochs": 12},
    "resnet": {**_CONVOLUTIONAL, "learning_rate": 0.2, "epochs": 8},
    "vit": {**_ADAMW, "learning_rate": 2e-3, "weight_decay": 0.05, "epochs": 12},
    "lstm": {**_ADAMW, "learning_rate": 4e-3, "weight_decay": 0.1, "epochs": 10},
    "gpt": {**_ADAMW, "learning_rate": 3e-3, "batch_size": 50, "epochs": 2},
}
"""What differs from the fields' defaults, by model."""
ADDED_SETTINGS = "model", "optimizer", "schedule", "warmup_steps", "momentum", "weight_decay"
"""Settings that the configuration of an earlier version lacks; their defaults are what it did."""
_NAMES = "run_name", "resume", "replay"
_ACCEPTED = {int: (int,), float: (float, int), bool: (bool,), str: (str,)}  # bool is not accepted as int


@dataclass(frozen=True)
class TrainConfig:
    """Train a network of hand-written layers, and check its gradients against autograd's."""

    data: Data = "auto"  # auto: MNIST, or synthetic digits if it cannot be downloaded.
    data_root: Path = Path("data")  # Folder of MNIST, as torchvision stores it.
    # A folder with MNIST's four .gz files, instead of a download (or set BP_TORCH_MNIST_SOURCE).
    mnist_source: Path | None = None
    # mlp: dense layers, the lecture's network; lenet, lenet-1998, resnet: convolutions; vit: attention; lstm: reads row
    # by row; gpt: learns to draw digits. Each has defaults of its own.
    model: Model = "mlp"
    hidden: tuple[int, ...] = (16, 16)  # Neurons of each hidden layer of mlp.
    activation: Activation = "sigmoid"  # Activation of the hidden layers of mlp.
    cost: Cost = "squared_error"  # With squared_error the outputs are sigmoids, with cross_entropy logits.
    batch_size: int = 100  # Examples in a mini-batch.
    optimizer: Optimizer = "sgd"  # sgd: w ← w − rate · gradient, with momentum if given; adamw: AdamW.
    learning_rate: float = 3.0  # The highest learning rate; it falls to 0 at the end.
    schedule: Schedule = "linear"  # How the learning rate falls: along a line, or half a cosine wave.
    warmup_steps: int = 0  # Steps in which the learning rate first rises along a line.
    momentum: float = 0.0  # Factor of the velocity of sgd at each step: v ← momentum · v + gradient.
    # sgd: weight decay · parameter is added to each gradient; adamw: rate · weight decay · parameter is subtracted.
    weight_decay: float = 0.0
    epochs: int = 60  # Passes over the training examples.
    # Seed of the initial weights and of every shuffle; on one machine, the same seed gives the same run, bit for bit.
    seed: int = 0
    # functions: hand-written, under autograd; engine: hand-written, without autograd; builtin: PyTorch's own layers.
    backend: Backend = "functions"
    compare_every: int = 100  # Steps between comparisons of the gradients with autograd's; 0: never.
    # Number of steps recorded for the Backprop tab, log-spaced; 0: none. Each takes about 180 KB.
    frames: int = 60
    runs_dir: Path = Path("runs")  # Folder of all runs.
    run_name: str | None = None  # Name of the run's folder; by default, date and time.
    overwrite: bool = False  # Replace a run of the same name.
    # Resume the run of this name from its last checkpoint, with its configuration; --epochs extends it.
    resume: str | None = None
    # Do not train: show the mini-batch that ended the run of this name with non-finite numbers, layer by layer.
    replay: str | None = None
    # Seconds between checkpoints; 0: after every step.
    checkpoint_seconds: float = 10.0
    quiet: bool = False  # Show errors and the result, but no progress.
    device: str = "cpu"  # Device to compute on, such as cpu or cuda.
    threads: int = 1  # CPU threads; one is quickest for small networks.

    def __post_init__(self) -> None:
        """Raise ValueError, in one line that names the flag, if a value is invalid."""
        self._require_types()
        for name, (lowest, highest) in _RANGES.items():
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"{flag(name)} must be from {lowest:,} to {highest:,}, got {getattr(self, name):,}")
        if not all(1 <= size <= MAX_NEURONS for size in self.hidden):
            sizes = " ".join(map(str, self.hidden))
            raise ValueError(f"--hidden sizes must be from 1 to {MAX_NEURONS:,}, got {sizes}")
        self.sizes(1, 1)
        self._require_model_settings()
        self._require_device()
        self._require_names()

    @classmethod
    def defaults(cls, model: str) -> "TrainConfig":
        """The default configuration of a model."""
        return cls(model=model, **_DEFAULTS.get(model, {}))

    @property
    def plain(self) -> bool:
        """Whether a step is w ← w − rate · gradient, without momentum or weight decay."""
        return self.optimizer == "sgd" and not self.momentum and not self.weight_decay

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0, 1, … of so many steps."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        left = (steps - step) / max(1, steps - self.warmup_steps)  # from 1 to 0
        return self.learning_rate * (left if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)

    def sizes(self, inputs: int, classes: int) -> tuple[int, ...]:
        """Neurons of each layer, the inputs first; ValueError if the network has too many weights."""
        sizes = inputs, *self.hidden, classes
        if (count := parameters_of(sizes)) > MAX_PARAMETERS:
            hidden = " ".join(map(str, self.hidden))
            raise ValueError(f"--hidden {hidden} makes {count:,} parameters; the maximum is {MAX_PARAMETERS:,}")
        return sizes

    @property
    def folder(self) -> Path:
        """The run's folder, once it has a name."""
        return self.runs_dir / str(self.run_name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and tables."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The inverse of `as_dict`, for untrusted values; TypeError or ValueError if they are invalid."""
        names = {field.name for field in fields(cls)}
        values = {**{name: getattr(cls, name) for name in ADDED_SETTINGS}, **values}
        if wrong := (names ^ values.keys()) - {"data_origin"}:  # written for readers of the file
            raise ValueError(f"{min(wrong)!r} is {'missing' if min(wrong) in names else 'unknown'}")
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
                raise ValueError(f"{flag(name)} must be integers, got {value!r}")
            if expected in _ACCEPTED and type(value) not in _ACCEPTED[expected]:
                raise ValueError(f"{flag(name)} must be of type {expected.__name__}, got {value!r}")

    def _require_model_settings(self) -> None:
        """Refuse settings of mlp, which another model would ignore, and costs that a model cannot have."""
        for name in ("hidden", "activation"):
            if self.model != "mlp" and getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{flag(name)} is a setting of --model mlp; leave it out for {self.model}")
        if self.model == "gpt" and self.cost != "cross_entropy":
            raise ValueError(f"--cost must be cross_entropy for --model gpt, which predicts pixels, got {self.cost}")

    def _require_device(self) -> None:
        try:
            torch.zeros(1, device=self.device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError):
            why = "cannot be used here; use cpu, or cuda if this machine has a GPU"
            raise ValueError(f"--device {self.device!r} {why}") from None

    def _require_names(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            plain = isinstance(value, str) and value.isprintable() and Path(value).name == value != ".."
            if value is not None and not (plain and 0 < len(value.encode()) <= 200):
                raise ValueError(f"{flag(name)} must be a folder name (no path, at most 200 bytes), got {value!r}")
        named = [flag(name) for name in (*_NAMES, "overwrite") if getattr(self, name)]
        if len(named) > 1 and named != [flag("run_name"), flag("overwrite")]:
            raise ValueError(f"{named[-2]} and {named[-1]} are mutually exclusive")


def parameters_of(sizes: tuple[int, ...]) -> int:
    """The number of weights and biases of a network with layers of these sizes."""
    return sum((before + 1) * neurons for before, neurons in pairwise(sizes))


def flag(name: str) -> str:
    """A field's name on the command line."""
    return "--" + name.replace("_", "-")
