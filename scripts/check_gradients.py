"""The command `bp-torch check`, from a clone of the repository: with the planted bugs, which are part of the tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from planted.command import main

if __name__ == "__main__":
    main()
