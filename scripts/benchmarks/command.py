"""Measure speed and memory of this project and its peers in one process, as medians and ratios.

Exit status: 0 measured; 2 bad usage or data.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sections import machine, sections, write
from bp_torch.commands import cli
from bp_torch.data import DataError


@dataclass(frozen=True)
class BenchmarkConfig:
    """Compare speed and memory with PyTorch and other peers, and with --accuracy measure test accuracies."""

    rounds: int = 40
    """Number of times each peer is measured."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads for measuring a step; everything else is measured with one."""
    accuracy: bool = False
    """Also train with seeds 0, 1 and 2 as documented and report mean accuracies; takes minutes."""
    page: Path | None = None
    """Markdown file for the tables, such as docs/performance.md; a JSON file is written next to it."""
    data_root: Path = Path("data")
    """Where torchvision stores MNIST."""

    def __post_init__(self) -> None:
        """Check the flags."""
        if self.rounds < 3:
            raise ValueError(f"--rounds must be at least 3, got {self.rounds}")
        if not all(1 <= count <= 1024 for count in self.threads):
            raise ValueError(f"--threads must be from 1 to 1024, got {' '.join(map(str, self.threads))}")
        if self.page is not None and (self.page.suffix != ".md" or not self.page.parent.is_dir()):
            raise ValueError(f"--page must be a .md file in a folder that exists, got {self.page}")


def main() -> None:
    """Run the benchmarks."""
    cli.run(_measure, DataError)


def _measure() -> int:
    """Print each table as soon as it is complete."""
    config = cli.parse(BenchmarkConfig, sys.argv[1:])
    measured = []
    for section in sections(config.rounds, config.threads, config.data_root, accuracy=config.accuracy):
        print(section, flush=True)
        measured.append(section)
    if config.page is not None:
        write(config.page, machine(), measured)
    return 0
