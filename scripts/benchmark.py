"""Measure the project's figures side by side, in one process; medians and ratios, never bare times alone.

Exit status: 0 measured; 2 what was asked for cannot be done.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sections import machine, sections, write

from bp_torch.commands import cli
from bp_torch.data import DataError


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure speed and memory against PyTorch and other peers, and with --accuracy what the commands reach."""

    rounds: int = 40
    """How often every peer has its turn."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads to measure a step with; all else is measured with one."""
    accuracy: bool = False
    """Train with seeds 0, 1 and 2 as documented, and report the mean (some minutes)."""
    page: Path | None = None
    """Where to write the tables, for instance docs/performance.md; the same as JSON goes beside it."""
    data_root: Path = Path("data")
    """Where torchvision keeps MNIST."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.rounds < 3:
            raise ValueError(f"--rounds must be at least 3, got {self.rounds}")
        if not all(1 <= count <= 1024 for count in self.threads):
            raise ValueError(f"--threads must be from 1 to 1024, got {' '.join(map(str, self.threads))}")
        if self.page is not None and (self.page.suffix != ".md" or not self.page.parent.is_dir()):
            raise ValueError(f"--page must be a .md file in a folder that exists, got {self.page}")


def main() -> int:
    """Print each table as soon as it is measured."""
    config = cli.parse(BenchmarkConfig, sys.argv[1:])
    measured = []
    for section in sections(config.rounds, config.threads, config.data_root, accuracy=config.accuracy):
        print(section, flush=True)
        measured.append(section)
    if config.page is not None:
        write(config.page, machine(), measured)
    return 0


if __name__ == "__main__":
    cli.run(main, DataError)
