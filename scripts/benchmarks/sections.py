"""Run all benchmarks, and write their tables as Markdown and JSON."""

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch

from benchmarks import convolutional, runs, sequences, steps
from benchmarks.measuring import Row
from bp_torch import markdown
from bp_torch.data import load


@dataclass(frozen=True)
class Section:
    """A table with a title and a note."""

    title: str
    note: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        """The section as Markdown, with quartiles in parentheses after their median."""
        columns = [name for name in self.rows[0] if not name.endswith(", quartiles")]
        table = markdown.table(columns, ([_cell(row, name) for name in columns] for row in self.rows))
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"


def _cell(row: Row, name: str) -> str:
    spread = row.get(f"{name}, quartiles")
    value = f"{row[name]:,}" if isinstance(row[name], float | int) else str(row[name])
    return f"{value} ({spread[0]:g} to {spread[1]:g})" if spread and spread[0] != spread[1] else value


def sections(rounds: int, threads: Sequence[int], data_root: Path, *, accuracy: bool) -> Iterator[Section]:
    """Run the benchmarks, and yield each table as soon as it is complete."""
    for count in threads:
        torch.set_num_threads(count)
        for sizes, examples in product(steps.NETWORKS, steps.BATCHES):
            title = f"One step, {_name(sizes)}, mini-batch of {examples}, {count} thread{'s' * (count > 1)}"
            yield Section(title, _STEP, steps.step_times(sizes, examples, rounds))
    torch.set_num_threads(1)
    memory = [{"network": _name(sizes), **row} for sizes in steps.NETWORKS for row in steps.step_memory(sizes, 100)]
    yield Section("Peak memory of a step", _MEMORY, memory)
    yield Section("Each function, forward and backward", _FUNCTIONS, steps.function_times(rounds))
    yield Section(
        "Convolution, pooling and normalization, forward and backward", _LAYERS, convolutional.layer_times(rounds)
    )
    yield Section("Attention, recurrence and embedding, forward and backward", _LAYERS, sequences.layer_times(rounds))
    yield Section("Memory of attention and of a large vocabulary", _SEQUENCE_MEMORY, sequences.memory())
    yield Section("One step of LeNet, mini-batch of 100", _LENET, convolutional.step_times(rounds))
    few = max(3, rounds // 10)
    yield Section("Norms of 10,000 per-example gradients of LeNet", _LENET, convolutional.norm_times(10_000, few))
    yield Section("Norms of 60,000 per-example gradients", _NORMS, steps.norm_times(60_000, few))
    dataset = load("auto", data_root)
    if dataset.name == "mnist":
        yield Section("One epoch of MNIST", _EPOCH, runs.epoch_times(dataset, data_root, few))
    shares = [runs.run_shares("functions", dataset), runs.run_shares("engine", dataset)]
    yield Section("A whole default run", _RUN, shares)
    if accuracy:
        yield Section("Accuracy of the documented commands", _ACCURACY, runs.accuracies(dataset))


def _name(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


_STEP = (
    "`/ eager`: ratio to PyTorch's layers, autograd and `optim.SGD`. `/ products`: ratio to the matrix products alone."
)
_MEMORY = "Peak of PyTorch's CPU allocator above parameters and data, with mini-batches of 100."
_FUNCTIONS = "All sizes are 100, and the upstream gradient is given. `/ builtin`: ratio to PyTorch's function."
_LAYERS = "One thread, float32. `/ builtin`: ratio to PyTorch's function."
_SEQUENCE_MEMORY = (
    "Peak of PyTorch's CPU allocator in forward and backward, above the inputs; it includes the gradients. "
    "Attention: one head of width 64. The vocabulary: 8,192 tokens of width 512, 32,000 classes."
)
_LENET = "One thread. `/ eager` and `/ one gradient, engine`: ratios to these peers."
_NORMS = "Network 784-16-16-10. One gradient: of the mean over all examples. `vmap` takes 1,000 examples at a time."
_EPOCH = "Shuffling, gathering and 600 steps with mini-batches of 100. The first row is the loop of most tutorials."
_RUN = "60 epochs with the default settings, as `make train` runs them."
_ACCURACY = "Mean test accuracy over seeds 0, 1 and 2."


def machine() -> dict[str, str]:
    """Processor, device and versions used for the measurement."""
    cpus = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.*)", cpus.read_text(encoding="utf-8")) if cpus.exists() else None
    return {
        "processor": match[1] if match else platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(path: Path, environment: Mapping[str, str], sections: Sequence[Section]) -> None:
    """Write the tables to `path` after its introduction, which is kept, and to a JSON file next to it."""
    page = path.read_text(encoding="utf-8") if path.exists() else "# Performance"
    introduction = page.partition("\n\nMeasured on:")[0]
    measured_on = ", ".join(f"{name} {value}" for name, value in environment.items())
    parts = [f"{introduction}\n\nMeasured on: {measured_on}.\n", *map(str, sections)]
    path.write_text("\n".join(parts), encoding="utf-8")
    figures = {"machine": environment, "sections": [asdict(section) for section in sections]}
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
