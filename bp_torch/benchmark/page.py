"""What was measured, as a page of Markdown tables and as JSON."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bp_torch import markdown
from bp_torch.benchmark.measuring import Row


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


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(path: Path, introduction: str, on: Mapping[str, str], sections: Sequence[Section]) -> None:
    """Write `path` and, beside it, the same figures as JSON."""
    measured_on = ", ".join(f"{name} {value}" for name, value in on.items())
    parts = [f"{introduction}\n\nMeasured on: {measured_on}.\n", *map(str, sections)]
    path.write_text("\n".join(parts), encoding="utf-8")
    figures = {"machine": on, "sections": [asdict(section) for section in sections]}
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _processor() -> str:
    """The processor's name, where the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
