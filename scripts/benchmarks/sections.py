"""Everything that is measured, a table after the other, as a page of Markdown and as JSON."""

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch

from benchmarks import runs, steps
from benchmarks.measuring import Row
from bp_torch import markdown
from bp_torch.data import load


@dataclass(frozen=True)
class Section:
    """One table, with a sentence on what it shows."""

    title: str
    note: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        """As Markdown; quartiles stand behind their median."""
        columns = [name for name in self.rows[0] if not name.endswith(", quartiles")]
        table = markdown.table(columns, ([_cell(row, name) for name in columns] for row in self.rows))
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"


def _cell(row: Row, name: str) -> str:
    spread = row.get(f"{name}, quartiles")
    value = f"{row[name]:,}" if isinstance(row[name], float | int) else str(row[name])
    return f"{value} ({spread[0]:g} to {spread[1]:g})" if spread and spread[0] != spread[1] else value


def sections(rounds: int, threads: Sequence[int], data_root: Path, *, accuracy: bool) -> Iterator[Section]:
    """Measure, and yield each table as soon as it is known."""
    for count in threads:
        torch.set_num_threads(count)
        for sizes, examples in product(steps.NETWORKS, steps.BATCHES):
            title = f"One step, {_name(sizes)}, mini-batch of {examples}, {count} thread{'s' * (count > 1)}"
            yield Section(title, _STEP, steps.step_times(sizes, examples, rounds))
    torch.set_num_threads(1)
    memory = [{"network": _name(sizes), **row} for sizes in steps.NETWORKS for row in steps.step_memory(sizes, 100)]
    yield Section("Peak memory of a step", _MEMORY, memory)
    yield Section("Each function, forward and backward", _FUNCTIONS, steps.function_times(rounds))
    few = max(3, rounds // 10)
    yield Section("Norms of 60,000 per-example gradients", _NORMS, steps.norm_times(60_000, few))
    dataset = load("auto", data_root)
    if dataset.name == "mnist":
        yield Section("One epoch of MNIST", _EPOCH, runs.epoch_times(dataset, data_root, few))
    shares = [runs.run_shares("functions", dataset), runs.run_shares("engine", dataset)]
    yield Section("A whole default run", _RUN, shares)
    if accuracy:
        yield Section("What the documented commands reach", _ACCURACY, runs.accuracies(dataset))


def _name(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


_STEP = "`/ eager`: time in units of PyTorch's own layers with autograd and `optim.SGD`; `/ products`: of the floor."
_MEMORY = "Of PyTorch's CPU allocator, beyond parameters and data, mini-batch of 100."
_FUNCTIONS = "Every size 100; the upstream gradient is given. In units of PyTorch's own."
_NORMS = "784-16-16-10. The gradient is the engine's, of all of them at once; `vmap` takes them by the thousand."
_EPOCH = "Shuffle, gather, step, 600 times a mini-batch of 100; the first is the loop that most tutorials show."
_RUN = "60 epochs at the defaults, as `make train` runs them."
_ACCURACY = "Test accuracy, mean of seeds 0, 1 and 2."


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    cpus = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", cpus.read_text(encoding="utf-8")) if cpus.exists() else None
    return {
        "processor": named[1] if named else platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(path: Path, on: Mapping[str, str], sections: Sequence[Section]) -> None:
    """Write `path`, below the introduction that it has, and beside it the same figures as JSON."""
    page = path.read_text(encoding="utf-8") if path.exists() else "# Performance"
    introduction = page.partition("\n\nMeasured on:")[0]
    measured_on = ", ".join(f"{name} {value}" for name, value in on.items())
    parts = [f"{introduction}\n\nMeasured on: {measured_on}.\n", *map(str, sections)]
    path.write_text("\n".join(parts), encoding="utf-8")
    figures = {"machine": on, "sections": [asdict(section) for section in sections]}
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
