"""The command `bp-torch check`, from a clone: with the planted bugs, which are part of the tests."""

import sys
from pathlib import Path

from bp_torch.commands import run_module

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    run_module("planted.command")
