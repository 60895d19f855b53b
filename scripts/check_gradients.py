"""Compare every hand-written gradient with PyTorch's own, on every sample of the catalogue, in every dtype.

Exit status: 0 all agree, 1 one does not.
"""

import sys
from dataclasses import dataclass

import torch

from bp_torch import cli
from bp_torch.catalogue import CATALOGUE
from bp_torch.gradients import Comparison, sweep

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROW = "{:<34}{:>9}" + "{:>12}" * len(DTYPES)


@dataclass(frozen=True)
class CheckConfig:
    """Compare every hand-written gradient with PyTorch's own; the figures are errors in units of PyTorch's."""

    functions: tuple[str, ...] = ()
    """Names of functions; all of the catalogue if none is given."""

    def __post_init__(self) -> None:
        """Refuse a name that is not in the catalogue."""
        for name in self.functions:
            if name not in CATALOGUE:
                raise ValueError(f"--functions: {name!r} is not in the catalogue: {', '.join(CATALOGUE)}")


def main() -> int:
    """Print a row for each function and a line for each comparison that failed."""
    names = cli.parse(CheckConfig, sys.argv[1:]).functions or tuple(CATALOGUE)
    print("largest error of value and gradients, in units of PyTorch's own error against float64")
    print(ROW.format("function", "samples", *DTYPES))
    failed: list[Comparison] = []
    for name in names:
        swept = {label: sweep(CATALOGUE[name], dtype) for label, dtype in DTYPES.items()}
        failed += [comparison for results in swept.values() for comparison in results if not comparison.passed]
        worst = (max(comparison.error_ratio for comparison in results) for results in swept.values())
        print(ROW.format(name, len(CATALOGUE[name].samples), *(f"{ratio:.2f}" for ratio in worst)))
    for comparison in failed:
        print(comparison)
    print(f"{len(failed)} comparisons failed" if failed else "every comparison agrees")
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
